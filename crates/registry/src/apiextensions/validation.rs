//! What is wrong with a CustomResourceDefinition.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1035_label, dns1123_subdomain};
use apimachinery::schema::{Schema, Type};
use serde_json::Value;

use super::conversion;
use crate::custom::{JsonPath, check_definition, find};
use crate::tree::{at, is_true, items, text};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MAX_SELECTABLE: usize = 8;

/// What is wrong with a definition; `old` is the one that it replaces.
pub(super) fn validate(crd: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let (group, plural) = (text(crd, &["spec", "group"]), text(crd, &["spec", "names", "plural"]));
    let name = text(crd, &["metadata", "name"]);
    for (field, name) in [("generateName", text(crd, &["metadata", "generateName"])), ("name", name)] {
        if !name.is_empty() && name != format!("{plural}.{group}") {
            let why = "must be spec.names.plural+\".\"+spec.group";
            errors.push(FieldError::invalid(&Path::new("metadata").child(field), name, why));
        }
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
    let faults = dns1123_subdomain(group);
    if faults.is_empty() && !group.contains('.') {
        errors.push(FieldError::invalid(path, group, "should be a domain with at least one dot"));
    }
    errors.extend(faults.into_iter().map(|why| FieldError::invalid(path, group, why)));
}

fn validate_names(names: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    for (field, mixes) in [("plural", false), ("singular", false), ("kind", true), ("listKind", true)] {
        let name = text(names, &[field]);
        if name.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
            continue;
        }
        let label = if mixes { name.to_lowercase() } else { name.to_owned() };
        let may = if mixes { "may have mixed case, but should otherwise match: " } else { "" };
        let faults = dns1035_label(&label).into_iter().map(|why| format!("{may}{why}"));
        errors.extend(faults.map(|why| FieldError::invalid(&path.child(field), name, why)));
    }
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
        if !is_true(version, &["deprecated"]) && !version["deprecationWarning"].is_null() {
            let (at, given) = (at_version.child("deprecationWarning"), version["deprecationWarning"].clone());
            errors.push(FieldError::invalid(&at, given, "can only be set for deprecated versions"));
        }
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
        let has_status = at(version, &["subresources", "status"]).is_some();
        let mut check = |path: &Path<'_>| {
            validate_schema(schema, unchanged, path, errors);
            if has_status {
                validate_root(schema, path, errors);
            }
        };
        if !shared {
            check(&at_schema.child("openAPIV3Schema"));
        } else if index == 0 {
            check(&spec.child("validation").child("openAPIV3Schema"));
        }
    }
}

/// What may stand at the root of a schema from which that of the status is taken out.
const BESIDE_STATUS: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// The root of a schema of objects whose status is written by itself.
fn validate_root(schema: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(schema, &["type"]);
    if !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(&path.child("type"), kind, why));
        return;
    }
    let says_nothing = |value: &Value| matches!(value, Value::Null | Value::Bool(false)) || value == "";
    let mut given = schema.as_object().into_iter().flatten().filter(|(_, value)| !says_nothing(value));
    if given.any(|(name, _)| !BESIDE_STATUS.contains(&name.as_str())) {
        let all = BESIDE_STATUS.join(" ");
        let why = format!(
            "only [{all}] fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(FieldError::invalid(path, schema.clone(), why));
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
        let (kind, format) = (text(column, &["type"]), text(column, &["format"]));
        let one_of = |all: &[&str]| format!("must be one of {}", all.join(","));
        if kind.is_empty() {
            errors.push(FieldError::required(&at_column.child("type"), one_of(COLUMN_TYPES)));
        } else if !COLUMN_TYPES.contains(&kind) {
            errors.push(FieldError::invalid(&at_column.child("type"), kind, one_of(COLUMN_TYPES)));
        }
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            errors.push(FieldError::invalid(&at_column.child("format"), format, one_of(COLUMN_FORMATS)));
        }
        // Upstream spells it so.
        let at_path = at_column.child("JSONPath");
        let json_path = text(column, &["jsonPath"]);
        if json_path.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
        } else if !json_path.starts_with('.') {
            errors.push(FieldError::invalid(
                &at_path,
                json_path,
                "must be a simple json path starting with .",
            ));
        } else if let Err(error) = JsonPath::parse(json_path) {
            errors.push(FieldError::invalid(&at_path, json_path, error.to_string()));
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
    if fields.is_empty() {
        return;
    }
    let Some(schema) = schema_of(version) else {
        let why = "may only be set when validations.schema is included";
        errors.push(FieldError::invalid(&at_fields, "", why));
        return;
    };
    // What is wrong with the schema itself is told where it stands.
    let schema = Schema::from_crd(schema, None, path).ok();
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let at_field = at_fields.index(index);
        let at_path = at_field.child("jsonPath");
        let given = text(field, &["jsonPath"]);
        if given.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
            continue;
        }
        if JsonPath::parse(given).ok().and_then(|path| path.fields()).is_none() {
            errors.push(FieldError::invalid(&at_path, given, "is an invalid path"));
            continue;
        }
        let Some(schema) = &schema else { continue };
        match find(given, schema) {
            Err(why) => {
                errors.push(FieldError::invalid(&at_path, given, format!("is an invalid path: {why}")));
                continue;
            }
            Ok(_) if given.starts_with(".metadata") => {
                errors.push(FieldError::invalid(&at_path, given, "must not point to fields in metadata"));
            }
            Ok(node) if !matches!(node.schema.kind, Type::String | Type::Boolean | Type::Integer) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                errors.push(FieldError::invalid(&at_path, given, why));
            }
            Ok(_) => {}
        }
        if !seen.insert(given) {
            errors.push(FieldError::duplicate(&at_path, given));
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(&at_fields, seen.len(), MAX_SELECTABLE));
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
