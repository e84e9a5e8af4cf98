//! The grammar of the Kubernetes API, as pure functions over JSON trees.
//!
//! **Owns**: group/version/kind names, `Status` errors and field errors in upstream's words, object metadata, label and
//! field selectors, quantities, int-or-percent, timestamps as text, the three patch formats, server-side apply with the owners of
//! fields ([`managed`]), and [`schema::Schema`]: the
//! one description of a kind, built-in or custom, from which decoding, strictness, pruning, defaulting, validation,
//! strategic merge and OpenAPI documents all follow.
//!
//! **Never does**: I/O, time (a timestamp is an argument), async, or anything particular to one kind. What the built-in
//! kinds look like is `api`'s, what they mean is `registry`'s.
//!
//! **Begin** with [`schema`], then [`patch`] and [`meta`]. Objects are `serde_json::Value` trees throughout: their maps
//! are sorted, so equal objects have equal bytes.

pub mod cidr;
pub mod excerpt;
pub mod field;
pub mod gvk;
pub mod intstr;
pub mod json;
pub mod managed;
pub mod meta;
pub mod patch;
pub mod quantity;
pub mod regexp;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod warnings;
