//! Choosing objects by their labels or by fields.

mod field;
mod label;
mod parse;

pub use field::{FieldRequirement, FieldSelector, FieldSelectorError};
pub use label::{Operator, Requirement, Selector, SelectorError};

#[cfg(test)]
mod tests;
