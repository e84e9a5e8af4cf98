//! What expressions cost: bounds before they are evaluated ([`estimate`]), and counts while they are ([`actual`]).
//!
//! Both follow the reference implementation (`checker/cost.go`, `interpreter/runtimecost.go`) and upstream's additions
//! (`apiserver/pkg/cel/library/cost.go`): a unit is about 50 ns of theirs. Which expressions a definition may contain depends
//! on the bounds, so they are the same to the unit. In one place counts are lower than upstream's: a field or an item of
//! something that is not a variable is not charged for twice, so that it does not cost more than its bound. What upstream takes
//! for smaller than it may be (the result of `flatten`, the numbers that a schema declares) is so here too: beyond the bounds
//! there is the budget of the evaluation.

pub(crate) mod actual;
mod calls;
pub(crate) mod estimate;
mod range;

pub use range::CostRange;

/// What one evaluation may cost.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all rules of one custom resource, or of one policy's binding, may cost together.
pub const OBJECT_BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook or policy may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// Of a name that is read, and of a field that is.
const SELECT: u64 = 1;
/// Of a list that is made.
const LIST: u64 = 10;
/// Of a map that is made.
const MAP: u64 = 30;
/// Of a message that is made.
const STRUCT: u64 = 40;
/// Of a character of text that is gone through.
const PER_CHARACTER: f64 = 0.1;
/// Of a character of a regular expression that is applied to a unit of text.
const PER_PATTERN_CHARACTER: f64 = 0.25;
/// Of a question to the authorizer.
const CHECK: u64 = 350_000;
/// Longest pattern of a named format.
const MAX_FORMAT_PATTERN: f64 = 128.0;
/// Longest name of a format.
const MAX_FORMAT: u64 = 64;

/// How the cost of a call follows from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// One unit.
    One,
    /// What the branches cost.
    Conditional,
    /// What the operands cost; the second may not be needed.
    Logical,
    /// The smaller of two sizes.
    Equal,
    /// Of texts and bytes the smaller of two sizes, else one.
    Compare,
    /// One; the result is as large as an item.
    Index,
    /// The size of the list, or one for a map.
    In,
    /// Of texts and bytes the sum of two sizes, else one.
    Add,
    /// The size of the text that becomes bytes.
    ToBytes,
    /// The size of the bytes that become text, else one.
    ToText,
    /// The size of the argument.
    Affix,
    /// The product of two sizes.
    Contains,
    /// The product of text and pattern.
    Matches,
    /// The same where matches are collected.
    Find,
    /// The size of the text, escaped.
    Quote,
    /// The size of the format.
    Format,
    /// The size of the target, with its texts.
    Scan,
    /// The size of the target, which the result has too.
    Transform,
    /// Twice the size of the target, which becomes longer or shorter.
    Replace,
    /// Twice the size of the target, which becomes a list.
    Split,
    /// The size of the result.
    Join,
    /// The size of the argument.
    Once,
    /// Twice the size of the argument.
    Twice,
    /// The size of the text, or one for a network's.
    Ip,
    /// Comparing addresses.
    ContainsIp,
    /// Comparing networks.
    ContainsCidr,
    /// The product of text and a format's pattern.
    Validate,
    /// The product of two lists' sizes, or twice that.
    Sets { twice: bool },
    /// The size of a part of a list.
    Slice,
    /// The size of a list of numbers.
    Range,
    /// The size of the list.
    Reverse,
    /// The size of the list times the depth.
    Flatten,
    /// Twice the square of the size of the list.
    Distinct,
    /// The same, and more for texts.
    Sort,
    /// The same of the keys.
    SortBy,
    /// The size of a selector, and of its requirements.
    Selector,
    /// A question to the authorizer.
    Check,
}

/// A size times a factor, rounded up; the largest number where it would not fit.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn scale(size: u64, factor: f64) -> u64 {
    // Casts of floating-point numbers saturate.
    (size as f64 * factor).ceil() as u64
}
