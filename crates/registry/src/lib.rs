//! The objects of the API: what kinds there are, what each demands, where they are stored and how they are read.
//!
//! Owns: one strategy per kind (defaults, validation, status, table columns), the generic life of an object (create,
//! update, patch, graceful deletion, finalizers, optimistic concurrency), the encode-once path to the store, the watch
//! cache that every reader is served from, and custom resources from their definitions. It is the only crate that sees
//! `store`.
//!
//! Never does: HTTP, authentication, authorisation. It does not know who asks: admission enters as a value ([`Admit`])
//! that each request brings. It runs no controller; what it loops over is what makes a
//! CustomResourceDefinition served, and what has outlived its time.
//!
//! Begin with [`Registry`], then `write.rs` (how a write travels) and `cache/` (how it reaches readers). A kind is a file
//! such as `core/config_map.rs`; its shape is `strategy.rs`.

mod address_range;
mod addresses;
mod admit;
mod apply;
mod bind;
mod builtin;
mod cache;
mod checks;
mod claims;
mod conditions;
mod context;
mod convert;
mod custom;
mod decode;
pub mod defaults;
mod delete;
mod domain_path;
mod encode;
mod evict;
mod expiry;
mod forms;
mod kind;
mod kinds;
mod managing;
mod meta;
mod modify;
mod object;
mod opening;
mod patching;
mod race;
mod ranges;
mod read;
mod registry;
mod resource;
mod scale;
mod selection;
mod strategy;
mod table;
mod token;
mod tree;
mod write;

// The kinds, by API group.
mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod devices;
mod discovery;
mod events;
mod networking;
mod node;
mod policy;
mod rbac;
mod scheduling;
mod storage;

pub use apimachinery::warnings::Warnings;

pub use admit::{Admit, AdmitAll, Attributes, Operation};
pub use apply::Configuration;
pub use cache::WatchStream;
pub use context::{
    DeleteOptions, FieldValidation, ListOptions, Part, Patch, Propagation, RequestContext,
    ResourceVersionMatch,
};
pub use custom::{AskWebhook, NoWebhooks};
pub use decode::decode_sent;
pub use kind::{Column, Kind, Subresource};
pub use kinds::{Group, Kinds, version_order};
pub use object::{Head, List, Object, Row, WatchEvent};
pub use registry::{Deleted, Limits, Options, Registry, Updated};
pub use resource::{group_and_plural, secret_prefixes, stored_kind};
