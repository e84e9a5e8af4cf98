//! What is wrong with a CustomResourceDefinition.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1035_label, dns1123_subdomain};
use apimachinery::schema::Schema;
use serde_json::Value;

use super::conversion;
use crate::custom::{JsonPath, check_definition};
use crate::tree::{at, is_true, items, text};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const MAX_SELECTABLE: usize = 8;

/// What is wrong with a definition; `old` is the one that it replaces.
pub(super) fn validate(crd: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let (group, plural) = (text(crd, &["spec", "group"]), text(crd, &["spec", "names", "plural"]));
    let name = text(crd, &["metadata", "name"]);
    if name != format!("{plural}.{group}") {
        let metadata = Path::new("metadata");
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(&metadata.child("name"), name, why));
    }
    validate_group(group, &spec.child("group"), errors);
    let scope = text(crd, &["spec", "scope"]);
    if scope.is_empty() {
        errors.push(FieldError::required(&spec.child("scope"), ""));
    } else if !["Cluster", "Namespaced"].contains(&scope) {
        errors.push(FieldError::not_supported(&spec.child("scope"), scope, &["Cluster", "Namespaced"]));
    }
    if is_true(crd, &["spec", "preserveUnknownFields"]) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&spec.child("preserveUnknownFields"), true, why));
    }
    conversion::validate(&crd["spec"]["conversion"], &spec.child("conversion"), errors);
    validate_names(&crd["spec"]["names"], &spec.child("names"), errors);
    validate_versions(crd, &spec.child("versions"), errors);
    validate_schemas(crd, old, &spec, errors);
}

fn validate_group(group: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    errors.extend(dns1123_subdomain(group).into_iter().map(|why| FieldError::invalid(path, group, why)));
    if !group.contains('.') {
        errors.push(FieldError::invalid(path, group, "should be a domain with at least one dot"));
    }
}

fn validate_names(names: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let lower = |field: &str, required: bool, errors: &mut Vec<FieldError>| {
        let name = text(names, &[field]);
        if name.is_empty() && required {
            errors.push(FieldError::required(&path.child(field), ""));
        } else if !name.is_empty() {
            let name = name.to_lowercase();
            let faults = dns1035_label(&name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&path.child(field), name.as_str(), why)));
        }
    };
    lower("plural", true, errors);
    lower("singular", false, errors);
    lower("kind", true, errors);
    lower("listKind", true, errors);
    let kind = text(names, &["kind"]);
    if !kind.is_empty() && kind == text(names, &["listKind"]) {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), kind, why));
    }
    for field in ["shortNames", "categories"] {
        let at = path.child(field);
        for (index, name) in items(names, &[field]).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let faults = dns1035_label(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at.index(index), name, why)));
        }
    }
}

type Validate = fn(&Value, &Path<'_>, &mut Vec<FieldError>);

/// The parts of a version beside its schema, and what looks at them.
const PARTS: [(&str, Validate); 3] = [
    ("additionalPrinterColumns", validate_columns),
    ("subresources", validate_subresources),
    ("selectableFields", validate_selectable),
];

fn validate_versions(crd: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let versions = items(crd, &["spec", "versions"]);
    let spec = Path::new("spec");
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let at_version = path.index(index);
        let name = text(version, &["name"]);
        let faults = dns1035_label(name).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(&at_version.child("name"), name, why)));
        if !seen.insert(name) {
            let why = "must contain unique version names";
            errors.push(FieldError::invalid(path, name, why));
        }
        for (key, validate) in PARTS {
            // What all versions have in common is one thing, and as upstream its place is `spec`.
            if !versions.iter().all(|other| other.get(key) == version.get(key)) {
                validate(version, &at_version, errors);
            } else if index == 0 {
                validate(version, &spec, errors);
            }
        }
    }
    let stored = versions.iter().filter(|version| is_true(version, &["storage"])).count();
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(path, versions.to_vec(), why));
    }
}

/// The schema of a version.
fn schema_of(version: &Value) -> Option<&Value> {
    at(version, &["schema", "openAPIV3Schema"])
}

/// The schemas of all versions. Where they are the same they are one, and as upstream its place is `spec.validation`.
fn validate_schemas(crd: &Value, old: Option<&Value>, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let versions = items(crd, &["spec", "versions"]);
    let old_versions = old.map(|old| items(old, &["spec", "versions"])).unwrap_or_default();
    let shared = versions.windows(2).all(|pair| pair.first().map(schema_of) == pair.last().map(schema_of));
    let at_versions = spec.child("versions");
    for (index, version) in versions.iter().enumerate() {
        let at_version = at_versions.index(index);
        let at_schema = at_version.child("schema");
        let Some(schema) = schema_of(version) else {
            errors.push(FieldError::required(&at_schema.child("openAPIV3Schema"), "schemas are required"));
            continue;
        };
        let before = old_versions.iter().find(|old| text(old, &["name"]) == text(version, &["name"]));
        let unchanged = before.and_then(schema_of) == Some(schema);
        if !shared {
            validate_schema(schema, unchanged, &at_schema.child("openAPIV3Schema"), errors);
        } else if index == 0 {
            let validation = spec.child("validation");
            validate_schema(schema, unchanged, &validation.child("openAPIV3Schema"), errors);
        }
    }
}

fn validate_schema(schema: &Value, unchanged: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match Schema::from_crd(schema, None, path) {
        Ok(schema) => check_definition(&schema, unchanged, path, errors),
        Err(found) => errors.extend(found),
    }
}

fn validate_columns(version: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_columns = path.child("additionalPrinterColumns");
    for (index, column) in items(version, &["additionalPrinterColumns"]).iter().enumerate() {
        let at_column = at_columns.index(index);
        if text(column, &["name"]).is_empty() {
            errors.push(FieldError::required(&at_column.child("name"), ""));
        }
        let kind = text(column, &["type"]);
        if !COLUMN_TYPES.contains(&kind) {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(FieldError::invalid(&at_column.child("type"), kind, why));
        }
        let json_path = text(column, &["jsonPath"]);
        if json_path.is_empty() {
            errors.push(FieldError::required(&at_column.child("jsonPath"), ""));
        } else if let Err(error) = JsonPath::parse(json_path) {
            let why = error.to_string();
            errors.push(FieldError::invalid(&at_column.child("jsonPath"), json_path, why));
        }
    }
}

fn validate_subresources(version: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(scale) = at(version, &["subresources", "scale"]) else { return };
    let subresources = path.child("subresources");
    let at_scale = subresources.child("scale");
    for (field, root, required) in [
        ("specReplicasPath", ".spec.", true),
        ("statusReplicasPath", ".status.", true),
        ("labelSelectorPath", ".", false),
    ] {
        let given = text(scale, &[field]);
        let at_field = at_scale.child(field);
        if given.is_empty() {
            if required {
                errors.push(FieldError::required(&at_field, ""));
            }
            continue;
        }
        let plain = JsonPath::parse(given).ok().and_then(|path| path.fields()).is_some();
        if !plain {
            errors.push(FieldError::invalid(
                &at_field,
                given,
                "should be a json path under .spec or .status",
            ));
        } else if !given.starts_with(root) {
            let why = format!("should be a json path under {}", root.trim_end_matches('.'));
            errors.push(FieldError::invalid(&at_field, given, why));
        }
    }
}

fn validate_selectable(version: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_fields = path.child("selectableFields");
    let fields = items(version, &["selectableFields"]);
    if fields.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(&at_fields, fields.len(), MAX_SELECTABLE));
    }
    for (index, field) in fields.iter().enumerate() {
        let at_field = at_fields.index(index);
        let given = text(field, &["jsonPath"]);
        if given.is_empty() {
            errors.push(FieldError::required(&at_field.child("jsonPath"), ""));
        } else if JsonPath::parse(given).ok().and_then(|path| path.fields()).is_none() {
            errors.push(FieldError::invalid(&at_field.child("jsonPath"), given, "is an invalid path"));
        } else if given.starts_with(".metadata") {
            let why = "must not point to fields in metadata";
            errors.push(FieldError::invalid(&at_field.child("jsonPath"), given, why));
        }
    }
}

/// What a definition may not change: where its objects lie, and versions that objects are still stored in.
pub(super) fn validate_update(crd: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let names = spec.child("names");
    for (path, field) in [
        (&["spec", "group"][..], spec.child("group")),
        (&["spec", "scope"][..], spec.child("scope")),
        (&["spec", "names", "plural"][..], names.child("plural")),
        (&["spec", "names", "kind"][..], names.child("kind")),
    ] {
        let given = text(crd, path);
        if given != text(old, path) {
            errors.push(FieldError::invalid(&field, given, "field is immutable"));
        }
    }
    let status = Path::new("status");
    let path = status.child("storedVersions");
    let versions: Vec<&str> =
        items(crd, &["spec", "versions"]).iter().map(|one| text(one, &["name"])).collect();
    for (index, stored) in items(old, &["status", "storedVersions"]).iter().enumerate() {
        let stored = stored.as_str().unwrap_or_default();
        if !versions.contains(&stored) {
            let why = format!(
                "missing from spec.versions; {stored} was previously a storage version, and must remain in \
                               spec.versions until a storage migration ensures no data remains persisted in {stored} \
                               and removes {stored} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(index), stored, why));
        }
    }
}
