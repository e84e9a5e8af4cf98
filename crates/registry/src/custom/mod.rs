//! Custom resources: kinds that a CustomResourceDefinition brings.

mod columns;
mod json_path;
mod kinds;
mod publish;
mod rules;
mod strategy;

pub(crate) use json_path::JsonPath;
pub(crate) use publish::{CLEANUP, CustomKinds};
pub(crate) use rules::check_definition;
