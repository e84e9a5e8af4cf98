//! What a policy's expressions see of the namespace that a request is in.

use apimachinery::status::Status;
use serde_json::{Map, Value};

use crate::matching::{NAMESPACES, is_namespace};
use crate::{Attributes, Lookup};

/// Metadata of a namespace that expressions do not see.
const HIDDEN: [&str; 3] = ["managedFields", "ownerReferences", "selfLink"];

/// The variable `namespaceObject`: the namespace that the request is in, if it is in one.
///
/// # Errors
/// When there is no such namespace.
pub(super) async fn of(attributes: &Attributes<'_>, lookup: &dyn Lookup) -> Result<Option<Value>, Status> {
    if attributes.namespace.is_empty() || is_namespace(attributes) {
        return Ok(None);
    }
    let found = lookup.namespace(attributes.namespace).await?;
    let not_found = || Status::not_found(&NAMESPACES, attributes.namespace);
    let mut namespace = found.ok_or_else(not_found)?;
    let mut shown = Map::new();
    for part in ["metadata", "spec", "status"] {
        if let Some(value) = namespace.get_mut(part).map(Value::take) {
            shown.insert(part.to_owned(), value);
        }
    }
    if let Some(metadata) = shown.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !HIDDEN.contains(&field.as_str()));
    }
    Ok(Some(shown.into()))
}
