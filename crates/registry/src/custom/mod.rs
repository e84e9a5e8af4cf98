//! Custom resources: kinds that a CustomResourceDefinition brings.

mod columns;
mod conversion;
mod json_path;
mod kinds;
mod publish;
mod rules;
mod strategy;

pub use conversion::{AskWebhook, NoWebhooks};
pub(crate) use conversion::{REVIEWS, Webhook};
pub(crate) use json_path::JsonPath;
pub(crate) use publish::{CLEANUP, CustomKinds};
pub(crate) use rules::{check_definition, find};
