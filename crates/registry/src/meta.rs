//! What the server decides about an object's metadata.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta as metadata;
use apimachinery::status::Status;
use clock::Random;
use jiff::Timestamp;
use serde_json::Value;

use crate::tree::{copy, object, text};
use crate::{Kind, RequestContext};

/// Longest base of a generated name: with its suffix it still fits a DNS label.
const MAX_BASE: usize = 58;

/// Metadata of an object that begins now.
pub(crate) fn begin(body: &mut Value, now: Timestamp, random: &dyn Random) {
    let map = object(body, "metadata");
    for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        map.remove(name);
    }
    drop_empty(map);
    map.insert("uid".into(), random.uid().into());
    map.insert("creationTimestamp".into(), apimachinery::time::format(now).into());
}

/// A name that begins as asked.
pub(crate) fn generated(base: &str, random: &dyn Random) -> String {
    let end = base.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_BASE).last();
    format!("{}{}", &base[..end.unwrap_or_default()], random.suffix(5))
}

/// What is wrong with a new object's metadata.
pub(crate) fn validate(kind: &Kind, body: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = metadata::validate(body, kind.namespaced, kind.rules.name, &path);
    errors.extend(finalizers(kind, body, &path));
    errors
}

/// What is wrong with a changed object's metadata.
pub(crate) fn validate_update(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = metadata::validate(new, kind.namespaced, kind.rules.name, &path);
    errors.extend(metadata::validate_update(new, old, &path));
    errors.extend(finalizers(kind, new, &path));
    errors
}

/// Finalizers that most kinds do not take although they are sound names.
fn finalizers(kind: &Kind, object: &Value, path: &Path<'_>) -> Vec<FieldError> {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    if kind.rules.any_finalizer {
        return Vec::new();
    }
    let at = path.child("finalizers");
    let strange = metadata::finalizers(object)
        .enumerate()
        .filter(|(_, name)| !name.contains('/') && !STANDARD.contains(name));
    let why = "name is neither a standard finalizer name nor is it fully qualified";
    strange.map(|(index, name)| FieldError::invalid(&at.index(index), name, why)).collect()
}

/// Keeps what a client cannot change. A uid that it names is a demand.
pub(crate) fn keep(kind: &Kind, new: &mut Value, old: &Value) -> Result<(), Status> {
    let (given, uid) = (text(new, &["metadata", "uid"]), text(old, &["metadata", "uid"]));
    if !given.is_empty() && given != uid {
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(Status::conflict(&kind.resource.name, text(old, &["metadata", "name"]), why));
    }
    let mut kept = new.get("metadata").cloned().unwrap_or_default();
    let before = old.get("metadata").unwrap_or(&Value::Null);
    let fixed = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "generation",
        "generateName",
    ];
    for name in fixed {
        copy(&mut kept, before, name);
    }
    if text(&kept, &["resourceVersion"]).is_empty() {
        // An unconditional write is one of whatever is there now.
        copy(&mut kept, before, "resourceVersion");
    }
    if let Some(map) = kept.as_object_mut() {
        drop_empty(map);
    }
    crate::tree::map(new).insert("metadata".into(), kept);
    Ok(())
}

/// Of owner references that say the same the first stays, and the client hears of the others.
pub(crate) fn name_owners_once(cx: &RequestContext, body: &mut Value) {
    let owners = body.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
    let Some(owners) = owners.filter(|owners| owners.len() > 1) else { return };
    let mut once: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice: Vec<String> = Vec::new();
    for owner in owners.drain(..) {
        if once.contains(&owner) {
            twice.push(text(&owner, &["uid"]).to_owned());
        } else {
            once.push(owner);
        }
    }
    *owners = once;
    if !twice.is_empty() {
        cx.warnings.add(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

/// Upstream leaves these out when they hold nothing, and clients ask whether they are there.
fn drop_empty(metadata: &mut serde_json::Map<String, Value>) {
    for name in ["annotations", "finalizers", "labels", "ownerReferences"] {
        let empty = match metadata.get(name) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(entries)) => entries.is_empty(),
            _ => false,
        };
        if empty {
            metadata.remove(name);
        }
    }
}

/// A PUT of a kind that may not be overwritten blindly names the version that it is made of.
pub(crate) fn require_version(kind: &Kind, name: &str, body: &Value) -> Result<(), Status> {
    if !text(body, &["metadata", "resourceVersion"]).is_empty() {
        return Ok(());
    }
    let path = Path::new("metadata");
    let error = FieldError::invalid(&path.child("resourceVersion"), 0, "must be specified for an update");
    Err(Status::invalid(&kind.resource.kind, name, vec![error]))
}

/// The answer to a resourceVersion that is not the current one.
pub(crate) fn stale(kind: &Kind, name: &str, version: &str) -> Status {
    if version.parse::<u64>().is_ok() {
        return Status::modified(&kind.resource.name, name);
    }
    let path = Path::new("metadata");
    let at = path.child("resourceVersion");
    let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
    Status::invalid(&kind.resource.kind, name, vec![FieldError::invalid(&at, version, why)])
}

/// Whether a change of an object that is being deleted let go of the last thing that metadata holds it by.
pub(crate) fn is_released(new: &Value, old: &Value) -> bool {
    metadata::is_deleting(new)
        && !metadata::has_finalizers(new)
        && metadata::deletion_grace_period(old).unwrap_or_default() == 0
}

/// Makes the metadata of a custom object what any object's metadata is. Gives the paths of unknown fields.
pub(crate) fn conform(
    body: &mut Value,
    gvk: &apimachinery::gvk::GroupVersionKind,
) -> Result<Vec<String>, Status> {
    let Some(schema) = api::schemas::builtin().object_meta() else { return Ok(Vec::new()) };
    let done = schema.get().conform(body).map_err(|error| error.to_status(gvk))?;
    Ok(done.unknown.into_iter().map(|path| format!("metadata.{path}")).collect())
}
