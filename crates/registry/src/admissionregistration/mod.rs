//! The group `admissionregistration.k8s.io`.

pub(crate) mod client_config;
mod conditions;
mod matching;
pub(crate) mod validating_admission_policy;
pub(crate) mod validating_admission_policy_binding;
pub(crate) mod webhook_configuration;
