//! One pod: what should happen next ([`plan`]), what to tell of it ([`status`]), and what doing it takes ([`operation`]).

pub(crate) mod admission;
pub(crate) mod backoff;
pub(crate) mod config;
pub(crate) mod containers;
pub(crate) mod fields;
pub(crate) mod memory;
pub(crate) mod observed;
pub(crate) mod operation;
pub(crate) mod outcomes;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod recall;
pub(crate) mod resize;
pub(crate) mod restart;
pub(crate) mod security;
pub(crate) mod status;
pub(crate) mod user_namespace;
pub(crate) mod volume;
pub(crate) mod worker;

mod given;
mod handler;
mod host_name;
mod last_words;
