//! Custom resources: kinds that a CustomResourceDefinition brings.

mod columns;
mod json_path;
mod kinds;
mod publish;
mod strategy;

pub(crate) use json_path::JsonPath;
pub(crate) use publish::{CLEANUP, CustomKinds};
