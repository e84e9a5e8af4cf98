//! Bounds of what calls cost, and of how large their results are.

use super::estimate::{Estimator, Path};
use super::{
    CHECK, Cost, CostRange, LIST, MAX_FORMAT, MAX_FORMAT_PATTERN, PER_CHARACTER, PER_PATTERN_CHARACTER,
    STRUCT, scale,
};
use crate::cel_type::{self, Type};
use crate::syntax::ast::{Expr, Kind, Literal};

/// A call with one of its overloads.
pub(super) struct Call<'c> {
    pub(super) cost: Cost,
    pub(super) overload: &'static str,
    pub(super) target: Option<&'c Expr>,
    pub(super) args: &'c [Expr],
}

type Estimate = (CostRange, Option<CostRange>);

const ONE: CostRange = CostRange::fixed(1);

fn only(cost: CostRange) -> Estimate {
    (cost, None)
}

/// The cost of the call itself, and the size of its result where it is known.
pub(super) fn estimate(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Estimate {
    known(estimator, call).unwrap_or((ONE, None))
}

fn known(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    match call.cost {
        Cost::One | Cost::Index | Cost::Logical | Cost::Conditional => None,
        Cost::Equal | Cost::Compare | Cost::Add | Cost::In => operator(estimator, call),
        Cost::Matches | Cost::Find | Cost::Contains | Cost::Affix => search(estimator, call),
        Cost::Ip | Cost::ContainsIp | Cost::ContainsCidr => address(estimator, call),
        Cost::Slice
        | Cost::Range
        | Cost::Reverse
        | Cost::Flatten
        | Cost::Distinct
        | Cost::Sort
        | Cost::SortBy
        | Cost::Sets { .. } => list(estimator, call),
        Cost::Scan => scan(estimator, call),
        Cost::Replace => replace(estimator, call),
        Cost::Split => split(estimator, call),
        Cost::Join => join(estimator, call),
        _ => text(estimator, call),
    }
}

/// The size of an argument, or of the target.
fn size(estimator: &mut Estimator<'_>, of: &Expr) -> CostRange {
    estimator.size_or_unknown(of)
}

fn operator(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let [one, other] = call.args else { return None };
    let of_text = call.overload.ends_with("_string") || call.overload.ends_with("_bytes");
    match call.cost {
        Cost::In if call.overload == "in_list" => Some(only(size(estimator, other))),
        Cost::Add if of_text || call.overload == "add_list" => {
            let sum = size(estimator, one).plus(size(estimator, other));
            Some((if of_text { sum.scaled(PER_CHARACTER) } else { ONE }, Some(sum)))
        }
        Cost::Equal => {
            if let Some(cost) = library_equality(estimator, one, other) {
                return Some(only(cost));
            }
            Some(only(smaller(estimator, one, other)))
        }
        Cost::Compare if of_text => Some(only(smaller(estimator, one, other))),
        _ => None,
    }
}

fn smaller(estimator: &mut Estimator<'_>, one: &Expr, other: &Expr) -> CostRange {
    let most = size(estimator, one).max.min(size(estimator, other).max);
    CostRange::new(u64::from(most > 0), most).scaled(PER_CHARACTER)
}

fn library_equality(estimator: &mut Estimator<'_>, one: &Expr, other: &Expr) -> Option<CostRange> {
    let of = estimator.type_of(one);
    if of != estimator.type_of(other) {
        return None;
    }
    match of {
        Type::Opaque(cel_type::IP | cel_type::CIDR, _) => Some(ONE),
        Type::Library(cel_type::FORMAT) => Some(CostRange::new(1, MAX_FORMAT).scaled(PER_CHARACTER)),
        Type::Library(cel_type::URL) => {
            let longest = size(estimator, other).max;
            let longest = if longest == u64::MAX { 1 } else { longest };
            Some(CostRange::new(1, longest).scaled(PER_CHARACTER))
        }
        Type::Library(_) => Some(ONE),
        _ => None,
    }
}

fn search(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let part = call.args.first()?;
    if call.cost == Cost::Affix {
        return Some(only(size(estimator, part).scaled(PER_CHARACTER)));
    }
    // As a function of two arguments `matches` costs one unit: as upstream.
    let whole = size(estimator, call.target?);
    let part = size(estimator, part);
    if call.cost == Cost::Contains {
        return Some(only(whole.scaled(PER_CHARACTER).times(part.scaled(PER_CHARACTER))));
    }
    let cost = whole.plus(ONE).scaled(PER_CHARACTER).times(part.scaled(PER_PATTERN_CHARACTER));
    let result = (call.cost == Cost::Find).then_some(CostRange::new(0, whole.max));
    Some((cost, result))
}

fn address(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    if call.overload == "cidr_ip" {
        return Some(only(ONE));
    }
    let argument = size(estimator, call.args.first()?).scaled(PER_CHARACTER);
    // Addresses have four or sixteen bytes.
    let bytes = CostRange::new(4, 16);
    let compared = bytes.plus(bytes).scaled(PER_CHARACTER);
    let mut cost = match call.cost {
        Cost::Ip => return Some(only(argument)),
        Cost::ContainsIp => compared,
        _ => compared.plus(bytes.scaled(PER_CHARACTER)).plus(ONE),
    };
    if call.overload.ends_with("_string") {
        cost = cost.plus(argument);
    }
    Some(only(cost))
}

/// The number that an argument is, if it says so itself.
fn literal(of: &Expr) -> Option<u64> {
    match of.kind {
        Kind::Literal(Literal::Int(value)) => Some(u64::try_from(value).unwrap_or(0)),
        _ => None,
    }
}

/// Of a function that makes a list of that size, at so much an item.
fn allocating(factor: f64, of: CostRange) -> Estimate {
    (of.scaled(factor).plus(CostRange::fixed(1 + LIST)), Some(of))
}

fn list(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let squared = |of: CostRange| of.times(of);
    match (call.cost, call.target, call.args) {
        (Cost::Sets { twice }, _, [one, other]) => {
            let pairs = size(estimator, one).times(size(estimator, other));
            Some(only(pairs.scaled(if twice { 2.0 } else { 1.0 }).plus(ONE)))
        }
        (Cost::Slice, Some(target), [start, end]) => {
            let whole = size(estimator, target);
            let end = literal(end).unwrap_or(whole.max);
            let items = end.saturating_sub(literal(start).unwrap_or(0));
            Some(allocating(1.0, CostRange::fixed(items)))
        }
        (Cost::Range, None, [count]) => {
            Some(allocating(1.0, CostRange::fixed(literal(count).unwrap_or(u64::MAX))))
        }
        (Cost::Reverse, Some(target), []) => Some(allocating(1.0, size(estimator, target))),
        (Cost::Flatten, Some(target), args) => {
            let depth = args.first().map_or(1, |depth| literal(depth).unwrap_or(u64::MAX));
            let whole = size(estimator, target);
            Some((whole.times(CostRange::fixed(depth)).plus(CostRange::fixed(1 + LIST)), Some(whole)))
        }
        (Cost::Distinct, Some(target), []) => Some(allocating(2.0, squared(size(estimator, target)))),
        (Cost::Sort, Some(of), []) | (Cost::SortBy, Some(_), [of]) => {
            let texts = call.overload.starts_with("list_string") || call.overload.starts_with("list_bytes");
            let factor = if texts { 2.0 + PER_CHARACTER } else { 2.0 };
            Some(allocating(factor, squared(size(estimator, of))))
        }
        _ => None,
    }
}

/// The type and the path of what a list holds.
fn element(estimator: &Estimator<'_>, list: &Expr) -> Option<(Type, Path)> {
    let of = match estimator.type_of(list) {
        Type::List(items) => (**items).clone(),
        Type::Map(pair) => pair.0.clone(),
        Type::Opaque(_, parameters) => parameters.first()?.clone(),
        _ => return None,
    };
    let mut path = estimator.argument_path(list);
    if !path.is_empty() {
        path.push("@items".into());
    }
    Some((of, path))
}

fn element_size(estimator: &Estimator<'_>, path: &Path) -> CostRange {
    estimator.declared_size(path).unwrap_or(CostRange::UNKNOWN)
}

fn scan(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let target = call.target?;
    let whole = size(estimator, target);
    let cost = match element(estimator, target) {
        Some((Type::String | Type::Bytes, path)) => {
            let each = ONE.plus(element_size(estimator, &path).scaled(PER_CHARACTER));
            whole.times(each)
        }
        Some(_) => whole,
        None => whole.scaled(PER_CHARACTER),
    };
    Some(only(cost))
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn replace(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let [old, new, ..] = call.args else { return None };
    let whole = size(estimator, call.target?);
    let (old, new) = (size(estimator, old), size(estimator, new));
    let parts = |whole: u64, part: u64| (whole as f64 / part as f64).ceil() as u64;
    // The most places and kept characters that make the longest result, and the fewest that make the shortest.
    let (mut count, mut kept) = (CostRange::default(), CostRange::default());
    if old.min == 0 {
        (count.max, kept.max) = (whole.max.saturating_add(1), whole.max);
    } else if new.max <= old.min {
        kept.max = whole.max;
    } else {
        count.max = parts(whole.max, old.min);
    }
    if old.max == 0 {
        (count.min, kept.min) = (whole.min.saturating_add(1), whole.min);
    } else if old.max <= new.min {
        kept.min = whole.min;
    } else {
        count.min = parts(whole.min, old.max);
    }
    let result = count.times(new).plus(kept);
    Some((whole.scaled(2.0 * PER_CHARACTER), Some(result)))
}

fn split(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let whole = size(estimator, call.target?);
    let most = match call.args.get(1).map(|limit| &limit.kind) {
        // A negative limit is none; upstream takes it for a very large number.
        Some(Kind::Literal(Literal::Int(limit))) => u64::try_from(*limit).unwrap_or(u64::MAX),
        _ => whole.max,
    };
    Some((whole.scaled(2.0 * PER_CHARACTER), Some(CostRange::new(0, most))))
}

fn join(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let target = call.target?;
    let count = size(estimator, target);
    let mut sum = match element(estimator, target) {
        Some((_, path)) => count.times(element_size(estimator, &path)),
        None => CostRange::default(),
    };
    if let Some(separator) = call.args.first() {
        let between = CostRange::new(count.min.saturating_sub(1), count.max.saturating_sub(1));
        sum = sum.plus(size(estimator, separator).times(between));
    }
    Some((sum.scaled(PER_CHARACTER), Some(sum)))
}

fn text(estimator: &mut Estimator<'_>, call: &Call<'_>) -> Option<Estimate> {
    let subject = call.target.or(call.args.first())?;
    match call.cost {
        Cost::ToBytes if call.overload == "string_to_bytes" => {
            let of = size(estimator, subject);
            Some((of.scaled(PER_CHARACTER), Some(CostRange::new(of.min, of.max.saturating_mul(4)))))
        }
        Cost::ToText if call.overload == "bytes_to_string" => {
            let of = size(estimator, subject);
            Some((of.scaled(PER_CHARACTER), Some(CostRange::new(of.min / 4, of.max))))
        }
        Cost::Quote => {
            let of = size(estimator, subject);
            let quoted = CostRange::new(of.min.saturating_add(2), of.max.saturating_mul(2).saturating_add(2));
            Some((of.scaled(PER_CHARACTER), Some(quoted)))
        }
        Cost::Format => Some(only(size(estimator, subject).scaled(PER_CHARACTER))),
        Cost::Transform => {
            let of = size(estimator, subject);
            Some((of.scaled(PER_CHARACTER), Some(of)))
        }
        Cost::Once => {
            let of = size(estimator, subject);
            Some((of.scaled(PER_CHARACTER), (call.overload == "string_to_url").then_some(of)))
        }
        Cost::Twice => Some(only(size(estimator, subject).scaled(2.0 * PER_CHARACTER))),
        Cost::Validate => {
            let of = size(estimator, call.args.first()?);
            let pattern = MAX_FORMAT_PATTERN * PER_PATTERN_CHARACTER;
            Some(only(of.scaled(PER_CHARACTER).scaled(pattern)))
        }
        Cost::Check => Some(only(CostRange::fixed(CHECK))),
        Cost::Selector => {
            let length = size(estimator, call.args.first()?);
            let requirements = |length: u64| scale(length, 0.5).saturating_mul(LIST + STRUCT);
            let parsed = length.scaled(PER_CHARACTER).plus(CostRange::fixed(LIST));
            Some(only(parsed.plus(CostRange::new(requirements(length.min), requirements(length.max)))))
        }
        _ => None,
    }
}
