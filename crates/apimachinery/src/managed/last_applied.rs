//! From client-side to server-side apply: what kubectl wrote into an annotation when it applied.

use serde_json::{Map, Value};

use super::compare::compare;
use super::fields::fields;
use super::place::Place;
use super::set::Set;
use crate::meta;

/// Where kubectl writes what it applied.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the object still is as it was applied from the client. `None` if it was not.
pub(super) fn still_there(place: Place<'_>, live: &Value, api_version: &str) -> Option<Set> {
    let text = meta::annotation(live, ANNOTATION).filter(|text| !text.is_empty())?;
    let applied: Value = serde_json::from_str(text).ok()?;
    if meta::api_version(&applied) != api_version {
        return None;
    }
    let mut set = fields(place, &applied);
    let found = compare(place, Some(&applied), live);
    for changed in [&found.modified, &found.added, &found.removed] {
        set.subtract(changed);
    }
    Some(set)
}

/// Writes what is applied now over what was applied from the client, so that kubectl can go back to that.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    if meta::annotation(object, ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    let annotations = meta::annotations_mut(object);
    annotations.insert(ANNOTATION.to_owned(), format!("{config}\n").into());
    if size(annotations) > meta::MAX_ANNOTATION_BYTES {
        annotations.remove(ANNOTATION);
    }
}

fn size(annotations: &Map<String, Value>) -> usize {
    annotations.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum()
}
