//! What makes a CRD's schema structural: every field has its type in one place, and value rules only restrict.

use serde_json::{Map, Value};

use super::structural::Level;
use super::{ListType, MapType, Ref, Schema, Type};
use crate::field::{ErrorList, FieldError, Path};

/// Checks a node as it stands, with the JSON that it was read from.
pub(super) fn check_node(
    schema: &Schema,
    map: &Map<String, Value>,
    level: Level,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let name = map.get("type").and_then(Value::as_str).unwrap_or_default();
    let int_or_string = schema.kind == Type::IntOrString;
    if schema.kind == Type::Array && schema.items.is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if int_or_string && schema.preserve_unknown {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, true, "must be false if x-kubernetes-int-or-string is true"));
    }
    if int_or_string && schema.embedded_resource {
        let at = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::invalid(&at, true, "must be false if x-kubernetes-int-or-string is true"));
    }
    let at = path.child("type");
    if schema.embedded_resource && schema.kind != Type::Object {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if name.is_empty() {
            FieldError::required(&at, why)
        } else {
            FieldError::invalid(&at, name, why)
        });
    } else if name.is_empty() && !int_or_string && !schema.preserve_unknown {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, why));
    }
    if level == Level::Root && !name.is_empty() && name != "object" {
        errors.push(FieldError::invalid(&at, name, "must be object at the root"));
    }
    if schema.embedded_resource {
        check_embedded(schema, path, errors);
    }
    if level == Level::Root || schema.embedded_resource {
        check_envelope(schema, level, path, errors);
    }
    check_list(schema, name, path, errors);
}

fn check_embedded(schema: &Schema, path: &Path<'_>, errors: &mut ErrorList) {
    if schema.additional.is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), why));
    }
    if !schema.preserve_unknown && schema.properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), why));
    }
}

/// `apiVersion`, `kind` and `metadata` are what they are for every kind.
fn check_envelope(schema: &Schema, level: Level, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("properties");
    for (name, kind, why) in [
        ("kind", Type::String, "must be string"),
        ("apiVersion", Type::String, "must be string"),
        ("metadata", Type::Object, "must be object"),
    ] {
        let Some(found) = schema.property(name).map(|property| property.schema.get()) else { continue };
        if found.kind != kind {
            errors.push(FieldError::invalid(&at.key(name).child("type"), found.kind.as_str(), why));
        }
    }
    let metadata = schema.property("metadata").map(|property| property.schema.get());
    let restricts_more = metadata.is_some_and(|metadata| {
        let only_names = metadata
            .properties
            .iter()
            .all(|property| ["name", "generateName"].contains(&property.name.as_ref()));
        !only_names || metadata.additional.is_some() || metadata.preserve_unknown || metadata.nullable
    });
    if level == Level::Root && restricts_more {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&at.key("metadata"), why));
    }
}

fn check_list(schema: &Schema, name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut mistyped = |expected: &str, extension: &str, value: &str| {
        let why = format!("must be {expected} if {extension} is {value}");
        errors.push(if name.is_empty() {
            FieldError::required(&path.child("type"), why)
        } else {
            FieldError::invalid(&path.child("type"), name, why)
        });
    };
    if let Some(map_type) = schema.map_type.filter(|_| schema.kind != Type::Object) {
        let value = if map_type == MapType::Atomic { "\"atomic\"" } else { "\"granular\"" };
        mistyped("object", "x-kubernetes-map-type", value);
    }
    if let Some(list_type) = schema.list_type.filter(|_| schema.kind != Type::Array) {
        let value = match list_type {
            ListType::Atomic => "\"atomic\"",
            ListType::Set => "\"set\"",
            ListType::Map => "\"map\"",
        };
        mistyped("array", "x-kubernetes-list-type", value);
    }
    let at = path.child("x-kubernetes-list-map-keys");
    match (schema.list_type, schema.list_map_keys.is_empty()) {
        (Some(ListType::Map), true) => {
            errors.push(FieldError::required(&at, "must not be empty if x-kubernetes-list-type is map"));
        }
        (Some(ListType::Map), false) => check_keys(schema, path, errors),
        (_, false) => {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            errors.push(FieldError::required(&path.child("x-kubernetes-list-type"), why));
        }
        _ => {}
    }
    let items = schema.items.as_ref().map(Ref::get);
    if schema.list_type == Some(ListType::Set)
        && items.is_some_and(|items| items.kind == Type::Object && items.map_type != Some(MapType::Atomic))
    {
        let at = path.child("items");
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        errors.push(FieldError::invalid(&at.child("x-kubernetes-map-type"), "granular", why));
    }
}

/// Each key of a list of type map is a scalar that every item has.
fn check_keys(schema: &Schema, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(items) = schema.items.as_ref().map(Ref::get) else { return };
    let at = path.child("items");
    if items.kind != Type::Object {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&at.child("type"), items.kind.as_str(), why));
        return;
    }
    for (index, key) in schema.list_map_keys.iter().enumerate() {
        let keys = path.child("x-kubernetes-list-map-keys");
        let Some(property) = items.property(key).map(|property| property.schema.get()) else {
            let why = "entries must all be names of item properties";
            errors.push(FieldError::invalid(&keys.index(index), key.as_ref(), why));
            continue;
        };
        let properties = at.child("properties");
        let property_path = properties.key(key);
        if matches!(property.kind, Type::Object | Type::Array) {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&property_path.child("type"), property.kind.as_str(), why));
        }
        if property.default_value().is_none() && !items.required.contains(key) {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&property_path.child("default"), why));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, key) in schema.list_map_keys.iter().enumerate() {
        if !seen.insert(key) {
            let keys = path.child("x-kubernetes-list-map-keys");
            errors.push(FieldError::duplicate(&keys.index(index), key.as_ref()));
        }
    }
}

/// A node below a junctor may not say what a value is, only restrict it.
pub(super) fn check_nested(map: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    const REASONS: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("externalDocs", "must be undefined to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (name, why) in REASONS {
        let said = map.get(name).is_some_and(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        });
        if said {
            errors.push(FieldError::forbidden(&path.child(name), why));
        }
    }
    if map.get("properties").is_some_and(|properties| properties.get("metadata").is_some()) {
        let at = path.child("properties");
        errors.push(FieldError::forbidden(&at.key("metadata"), "must not be specified in a nested context"));
    }
}

/// Checks what needs the whole tree: that value rules speak only of fields that exist, and that defaults hold.
pub(super) fn check(schema: &Schema, path: &Path<'_>, errors: &mut ErrorList) {
    // The one way in which types may stand under anyOf was refused when it was read; take that back.
    forgive_int_or_string(schema, path, errors);
    if let Some(rules) = &schema.rules {
        for (name, alternatives) in
            [("allOf", &rules.all_of), ("anyOf", &rules.any_of), ("oneOf", &rules.one_of)]
        {
            for (index, nested) in alternatives.iter().enumerate() {
                let at = path.child(name);
                complete(schema, nested, path, &at.index(index), errors);
            }
        }
        if let Some(nested) = &rules.not {
            complete(schema, nested, path, &path.child("not"), errors);
        }
        if let Some(default) = &rules.default {
            check_default(schema, default, &path.child("default"), errors);
        }
    }
    for property in &schema.properties {
        let at = path.child("properties");
        check(property.schema.get(), &at.key(&property.name), errors);
    }
    if let Some(items) = &schema.items {
        check(items.get(), &path.child("items"), errors);
    }
    if let Some(additional) = &schema.additional {
        check(additional.get(), &path.child("additionalProperties"), errors);
    }
}

fn check_default(schema: &Schema, default: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(unknown) = schema.unknown_fields(default).first() {
        let why = format!("must not have unknown fields: {unknown}");
        errors.push(FieldError::invalid(path, default.clone(), why));
    }
    let mut filled = default.clone();
    schema.apply_defaults(&mut filled);
    errors.extend(schema.validate(&filled, None, path));
}

/// `anyOf: [{type: integer}, {type: string}]`, alone or as the first of `allOf`, is how people wrote int-or-string before
/// there was a word for it.
fn forgive_int_or_string(schema: &Schema, path: &Path<'_>, errors: &mut ErrorList) {
    let pattern = |alternatives: &[Schema]| {
        let kinds: Vec<Type> = alternatives.iter().map(|schema| schema.kind).collect();
        let bare = |schema: &Schema| schema.rules.is_none() && schema.properties.is_empty();
        kinds == [Type::Integer, Type::String] && alternatives.iter().all(bare)
    };
    let Some(rules) = schema.rules.as_ref().filter(|_| schema.kind == Type::IntOrString) else { return };
    let forgiven: Vec<String> = if pattern(&rules.any_of) {
        (0..2).map(|index| format!("{path}.anyOf[{index}].type")).collect()
    } else if rules
        .all_of
        .first()
        .and_then(|first| first.rules.as_ref())
        .is_some_and(|first| pattern(&first.any_of))
    {
        (0..2).map(|index| format!("{path}.allOf[0].anyOf[{index}].type")).collect()
    } else {
        return;
    };
    errors.retain(|error| !forgiven.contains(&error.field));
}

/// Every field that a value rule speaks of must be defined outside of it.
fn complete(
    schema: &Schema,
    nested: &Schema,
    path: &Path<'_>,
    nested_path: &Path<'_>,
    errors: &mut ErrorList,
) {
    for property in &nested.properties {
        let (at, nested_at) = (path.child("properties"), nested_path.child("properties"));
        let (at, nested_at) = (at.key(&property.name), nested_at.key(&property.name));
        match schema.property(&property.name) {
            Some(known) => complete(known.schema.get(), property.schema.get(), &at, &nested_at, errors),
            None => errors.push(FieldError::required(&at, format!("because it is defined in {nested_at}"))),
        }
    }
    if let Some(items) = &nested.items {
        let (at, nested_at) = (path.child("items"), nested_path.child("items"));
        match &schema.items {
            Some(known) => complete(known.get(), items.get(), &at, &nested_at, errors),
            None => errors.push(FieldError::required(&at, format!("because it is defined in {nested_at}"))),
        }
    }
    let Some(rules) = &nested.rules else { return };
    for (name, alternatives) in [("allOf", &rules.all_of), ("anyOf", &rules.any_of), ("oneOf", &rules.one_of)]
    {
        for (index, deeper) in alternatives.iter().enumerate() {
            let at = nested_path.child(name);
            complete(schema, deeper, path, &at.index(index), errors);
        }
    }
    if let Some(deeper) = &rules.not {
        complete(schema, deeper, path, &nested_path.child("not"), errors);
    }
}
