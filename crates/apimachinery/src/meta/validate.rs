//! Whether metadata is sound, in upstream's words.

use serde_json::{Map, Value};

use super::names::{self, Faults};
use super::{annotations, finalizers, generate_name, generation, labels, name, namespace, owner_references};
use crate::field::{ErrorList, FieldError, Path};
use crate::gvk::GroupVersion;

/// What all annotations of an object together may come to.
pub const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

const IMMUTABLE: &str = "field is immutable";

/// Which names a kind takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NameRule {
    /// DNS labels joined by dots: most kinds.
    #[default]
    Subdomain,
    /// A DNS label: namespaces, services.
    Label,
    /// Anything that can stand in a URL: roles and their bindings.
    PathSegment,
}

impl NameRule {
    /// What is wrong with the name.
    pub fn check(self, name: &str) -> Faults {
        match self {
            Self::Subdomain => names::dns1123_subdomain(name),
            Self::Label => names::dns1123_label(name),
            Self::PathSegment => names::path_segment(name),
        }
    }

    /// What is wrong with the beginning of a generated name: it may end in a dash.
    pub fn check_prefix(self, prefix: &str) -> Faults {
        match prefix.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => self.check(&format!("{rest}a")),
            _ => self.check(prefix),
        }
    }
}

/// What is wrong with the metadata of an object. `path` is that of the metadata.
pub fn validate(object: &Value, namespaced: bool, rule: NameRule, path: &Path<'_>) -> ErrorList {
    let mut errors = Vec::new();
    let mut invalid = |field: &str, value: &str, faults: Faults| {
        let at = path.child(field);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(&at, value, fault)));
    };
    let prefix = generate_name(object);
    if !prefix.is_empty() {
        invalid("generateName", prefix, rule.check_prefix(prefix));
    }
    let name = name(object);
    if !name.is_empty() {
        invalid("name", name, rule.check(name));
    }
    let namespace = namespace(object);
    if namespaced && !namespace.is_empty() {
        invalid("namespace", namespace, names::dns1123_label(namespace));
    }
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    }
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(&path.child("namespace"), "")),
        (false, false) => {
            errors.push(FieldError::forbidden(&path.child("namespace"), "not allowed on this type"))
        }
        _ => {}
    }
    let generation = generation(object);
    if generation < 0 {
        let at = path.child("generation");
        errors.push(FieldError::invalid(&at, generation, "must be greater than or equal to 0"));
    }
    validate_contents(object, path, &mut errors);
    errors
}

/// What both a new and a changed object must keep to.
fn validate_contents(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(labels) = labels(object) {
        validate_labels(labels, &path.child("labels"), errors);
    }
    if let Some(annotations) = annotations(object) {
        validate_annotations(annotations, &path.child("annotations"), errors);
    }
    validate_owners(object, &path.child("ownerReferences"), errors);
    validate_finalizers(object, &path.child("finalizers"), errors);
}

/// What is wrong with labels.
pub fn validate_labels(labels: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    for (key, value) in labels {
        let faults = names::qualified_name(key);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, key.as_str(), fault)));
        let value = value.as_str().unwrap_or_default();
        let faults = names::label_value(value);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, value, fault)));
    }
}

/// What is wrong with annotations.
pub fn validate_annotations(annotations: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut size = 0usize;
    for (key, value) in annotations {
        // Case does not matter in the keys of annotations.
        let faults = names::qualified_name(&key.to_lowercase());
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, key.as_str(), fault)));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(path, MAX_ANNOTATION_BYTES));
    }
}

fn validate_owners(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut controller: Option<String> = None;
    for owner in owner_references(object) {
        let mut empty = |field: &str, why: &str| {
            errors.push(FieldError::invalid(&path.child(field), "", why));
        };
        if owner.api_version.parse::<GroupVersion>().map_or(true, |gv| gv.version.is_empty()) {
            empty("apiVersion", "version must not be empty");
        }
        for (field, value) in [("kind", owner.kind), ("name", owner.name), ("uid", owner.uid)] {
            if value.is_empty() {
                empty(field, "must not be empty");
            }
        }
        if (owner.api_version, owner.kind) == ("v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(path, owner.name, why));
        }
        if owner.controller {
            let current = format!("{}/{}", owner.kind, owner.name);
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {current}"
                );
                let all = super::list(object, "ownerReferences").to_vec();
                errors.push(FieldError::invalid(path, all, why));
            } else {
                controller = Some(current);
            }
        }
    }
}

fn validate_finalizers(object: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const ORPHAN: &str = "orphan";
    const FOREGROUND: &str = "foregroundDeletion";
    for finalizer in finalizers(object) {
        let faults = names::qualified_name(finalizer);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, finalizer, fault)));
    }
    if finalizers(object).any(|name| name == ORPHAN) && finalizers(object).any(|name| name == FOREGROUND) {
        let all: Vec<&str> = finalizers(object).collect();
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(FieldError::invalid(path, all, why));
    }
}

/// What of the metadata may not change, and did; and what is wrong with what may change.
pub fn validate_update(new: &Value, old: &Value, path: &Path<'_>) -> ErrorList {
    let mut errors = Vec::new();
    if super::is_deleting(old) {
        let mut extra: Vec<&str> =
            finalizers(new).filter(|name| !finalizers(old).any(|known| known == *name)).collect();
        if !extra.is_empty() {
            extra.sort_unstable();
            let list: Vec<String> = extra.into_iter().map(crate::field::quote).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), why));
        }
    }
    if super::resource_version(new).is_empty() {
        let at = path.child("resourceVersion");
        errors.push(FieldError::invalid(&at, "", "must be specified for an update"));
    }
    if generation(new) < generation(old) {
        let at = path.child("generation");
        errors.push(FieldError::invalid(&at, generation(new), "must not be decremented"));
    }
    const FIXED: [&str; 6] =
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for field in FIXED {
        let (new, old) = (super::field(new, field), super::field(old, field));
        if new != old {
            let value = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&path.child(field), value, IMMUTABLE));
        }
    }
    validate_contents(new, path, &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sound_metadata_passes() {
        let object = json!({"metadata": {
            "name": "a.b-c", "namespace": "default", "generateName": "a-",
            "labels": {"app.kubernetes.io/name": "x", "empty": ""}, "annotations": {"Any/Case": "v"},
            "finalizers": ["example.com/x"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
        }});
        assert_eq!(texts(&validate(&object, true, NameRule::Subdomain, &Path::new("metadata"))), [""; 0]);
    }

    #[test]
    fn faults_are_named_in_upstreams_words() {
        let path = Path::new("metadata");
        let check = |metadata: Value, namespaced: bool, expected: &str| {
            let object = json!({"metadata": metadata});
            let found = texts(&validate(&object, namespaced, NameRule::Subdomain, &path));
            assert!(found.iter().any(|text| text.starts_with(expected)), "{found:?} lacks {expected:?}");
        };
        check(json!({}), false, "metadata.name: Required value: name or generateName is required");
        check(json!({"name": "x"}), true, "metadata.namespace: Required value");
        check(
            json!({"name": "x", "namespace": "y"}),
            false,
            "metadata.namespace: Forbidden: not allowed on this type",
        );
        check(
            json!({"name": "X"}),
            false,
            "metadata.name: Invalid value: \"X\": a lowercase RFC 1123 subdomain must consist",
        );
        check(
            json!({"name": "x", "labels": {"a b": "c"}}),
            false,
            "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters",
        );
        check(
            json!({"name": "x", "labels": {"a": "-"}}),
            false,
            "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist",
        );
        check(
            json!({"name": "x", "annotations": {"a": "x".repeat(MAX_ANNOTATION_BYTES)}}),
            false,
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        );
        check(
            json!({"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
            false,
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
        );
        check(
            json!({"name": "x", "finalizers": ["/x"]}),
            false,
            "metadata.finalizers: Invalid value: \"/x\": prefix part",
        );
        check(
            json!({"name": "x", "generateName": "-"}),
            false,
            "metadata.generateName: Invalid value: \"-\"",
        );
    }

    #[test]
    fn updates_may_not_touch_what_is_fixed() {
        let old = json!({"metadata": {
            "name": "a", "uid": "1", "resourceVersion": "5", "deletionTimestamp": "2026-11-22T10:00:00Z", "generation": 2,
        }});
        let mut new = old.clone();
        assert_eq!(texts(&validate_update(&new, &old, &Path::new("metadata"))), [""; 0]);
        new["metadata"]["uid"] = json!("2");
        new["metadata"]["generation"] = json!(1);
        new["metadata"]["finalizers"] = json!(["b", "a"]);
        super::super::metadata_mut(&mut new).remove("resourceVersion");
        assert_eq!(
            texts(&validate_update(&new, &old, &Path::new("metadata"))),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"a\", \"b\"}",
                "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
                "metadata.generation: Invalid value: 1: must not be decremented",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }
}
