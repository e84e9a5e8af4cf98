//! The group `apiextensions.k8s.io`.

mod conversion;
pub(crate) mod custom_resource_definition;
mod validation;
