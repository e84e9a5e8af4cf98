//! The legacy group.

pub(crate) mod config_map;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
mod pod_defaults;
mod pod_ephemeral;
mod pod_resize;
mod pod_restart;
mod pod_security;
mod pod_spec;
mod pod_status;
pub(crate) mod pod_template;
mod pod_update;
pub(crate) mod replication_controller;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_account;
mod service_claims;
mod service_families;
mod service_fields;
mod service_validation;
pub(crate) mod template;
