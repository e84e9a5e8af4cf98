//! Cells that many tables share.

use apimachinery::meta;
use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Subresource;

/// What a cell without a value shows.
pub(crate) const NONE: &str = "<none>";

/// The object's name.
pub(crate) fn name(object: &Value) -> Value {
    meta::name(object).into()
}

/// How old the object is.
pub(crate) fn age(object: &Value, now: Timestamp) -> Value {
    since(meta::creation_timestamp(object), now)
}

/// How long ago that was.
pub(crate) fn since(time: Option<Timestamp>, now: Timestamp) -> Value {
    match time {
        Some(time) => apimachinery::time::age(time, now).into_owned().into(),
        None => "<unknown>".into(),
    }
}

/// The text, or what stands for none.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// Texts joined by commas, or what stands for none.
pub(crate) fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    or_none(&texts.collect::<Vec<_>>().join(","))
}

/// `/status` of a kind.
pub(crate) fn status(kind: &str) -> Subresource {
    Subresource { name: "status", group_version: None, kind: kind.into(), verbs: &["get", "patch", "update"] }
}

/// `/proxy` of a kind, with options of that kind.
pub(crate) fn proxy(options: &str) -> Subresource {
    Subresource {
        name: "proxy",
        group_version: None,
        kind: options.into(),
        verbs: &["create", "delete", "get", "patch", "update"],
    }
}

/// `/scale` of a kind.
pub(crate) fn scale() -> Subresource {
    Subresource {
        name: "scale",
        group_version: Some(("autoscaling", "v1")),
        kind: "Scale".into(),
        verbs: &["get", "patch", "update"],
    }
}
