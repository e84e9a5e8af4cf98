//! Who no longer leads changes nothing but what is still as it was when he did.

use http::Method;
use serde_json::Value;

use super::{Change, History, text};

/// Writes of a stale leader that succeed name what they were decided for. What is made under a name that the server draws
/// cannot: that is left out here, and found by what there is too much of.
pub fn nothing_of_a_stale_leader(_: &History, change: &Change) -> Result<(), String> {
    let Some(sent) = &change.sent else { return Ok(()) };
    let led = change.by_leader || sent.process.candidate.is_none();
    if led || matches!(&*change.key.plural, "leases" | "events") {
        return Ok(());
    }
    let body: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
    let says = |pointer: &str| !text(&body, pointer).is_empty();
    // A collection, of a namespace that goes away, is named by the namespace.
    let is_one = sent.path.ends_with(&format!("/{}", change.key.name))
        || sent.path.contains(&format!("/{}/", change.key.name));
    let is_fenced = match sent.method {
        Method::PATCH if sent.path.ends_with("/status") => says("/metadata/uid"),
        Method::PATCH => says("/metadata/uid") && (says("/metadata/resourceVersion") || only_lets_go(&body)),
        Method::PUT => says("/metadata/resourceVersion"),
        Method::DELETE => !is_one || says("/preconditions/uid"),
        _ => true,
    };
    if is_fenced {
        return Ok(());
    }
    Err(format!("{} no longer leads, and its write succeeded unconditionally", sent.process.name))
}

/// Whether a patch takes finalizers away by their names, and nothing else: whoever does that, and however late, the same is left.
fn only_lets_go(body: &Value) -> bool {
    let is_all = |value: &Value, allowed: &[&str]| {
        value.as_object().is_some_and(|fields| fields.keys().all(|field| allowed.contains(&field.as_str())))
    };
    is_all(body, &["apiVersion", "kind", "metadata"])
        && is_all(&body["metadata"], &["uid", "$deleteFromPrimitiveList/finalizers"])
}
