//! From a structural schema to declared types (upstream: `apiserver/pkg/cel/common/schemas.go`).

use apimachinery::schema::{ListType, Ref, Rules, Schema, Type};

use crate::decl::{DeclType, Field, ListKind, MAX_REQUEST_BYTES, Object, Shape};
use crate::escape::escape;

/// Bytes of the longest duration or moment that JSON holds, with its quotes.
const MAX_TIME_BYTES: u64 = 32;
/// Bytes of a date, with its quotes.
const DATE_BYTES: u64 = 12;
/// Characters of the longest name of an object.
const MAX_NAME: u64 = 253;

impl DeclType {
    /// The declaration of what a schema describes; none where nothing is known about it (unknown fields that are kept).
    /// `name` becomes the name of its object types. The root of a resource, and of an embedded one, has `apiVersion`,
    /// `kind`, `metadata.name` and `metadata.generateName` whatever the schema says.
    pub fn from_schema(schema: &Schema, name: &str, root: bool) -> Option<Self> {
        let mut decl = from_schema(schema, name, root)?;
        decl.nullable = schema.nullable;
        Some(decl)
    }
}

fn from_schema(schema: &Schema, name: &str, root: bool) -> Option<DeclType> {
    let rules = schema.rules.as_deref();
    match schema.kind {
        Type::IntOrString => {
            let max_elements = length(rules).unwrap_or(MAX_REQUEST_BYTES - 2);
            Some(DeclType { max_elements, ..DeclType::simple(Shape::IntOrString, 1) })
        }
        Type::Any => None,
        Type::Boolean => Some(DeclType::bool()),
        Type::Integer => Some(DeclType::int()),
        Type::Number => Some(DeclType::double()),
        Type::String => Some(text(schema, rules)),
        Type::Array => {
            let items = schema.items.as_ref().map(Ref::get)?;
            let items = DeclType::from_schema(items, &format!("{name}.@idx"), items.embedded_resource)?;
            let kind = match schema.list_type {
                Some(ListType::Set) => ListKind::Set,
                Some(ListType::Map) => ListKind::Map,
                Some(ListType::Atomic) | None => ListKind::Atomic,
            };
            let keys = schema.list_map_keys.iter().map(ToString::to_string).collect();
            Some(DeclType::list_of(items, rules.and_then(|rules| rules.max_items), kind, keys))
        }
        Type::Object => match schema.additional.as_ref().map(Ref::get).filter(|_| !root) {
            Some(values) => {
                let embedded = values.embedded_resource;
                // `additionalProperties: true` says nothing about the values: such an object has no fields.
                if values.kind == Type::Any && values.preserve_unknown && values.rules.is_none() {
                    return Some(object(schema, name, root));
                }
                let values = DeclType::from_schema(values, &format!("{name}.@elem"), embedded)?;
                Some(DeclType::map(values, rules.and_then(|rules| rules.max_properties)))
            }
            None => Some(object(schema, name, root)),
        },
    }
}

/// The most bytes of text whose characters are limited.
fn length(rules: Option<&Rules>) -> Option<u64> {
    rules.and_then(|rules| rules.max_length).map(|characters| characters.saturating_mul(4))
}

fn text(schema: &Schema, rules: Option<&Rules>) -> DeclType {
    let timed =
        |shape, min_size, max_elements| DeclType { max_elements, ..DeclType::simple(shape, min_size) };
    match schema.format.as_ref() {
        "byte" => {
            let max = rules.and_then(|rules| rules.max_length).unwrap_or(MAX_REQUEST_BYTES - 2);
            timed(Shape::Bytes, 2, max)
        }
        "duration" => timed(Shape::Duration, 3, MAX_TIME_BYTES),
        "date" => timed(Shape::Date, DATE_BYTES, DATE_BYTES),
        "date-time" => timed(Shape::Timestamp, 21, MAX_TIME_BYTES),
        _ => {
            let known = rules.map(|rules| rules.enumeration.as_slice()).filter(|known| !known.is_empty());
            let longest = known.map(|known| {
                let lengths = known.iter().filter_map(|value| u64::try_from(value.as_str()?.len()).ok());
                lengths.max().unwrap_or(0)
            });
            DeclType::string(length(rules).or(longest))
        }
    }
}

fn object(schema: &Schema, name: &str, root: bool) -> DeclType {
    let mut min_size = 2;
    let mut fields = std::collections::BTreeMap::new();
    let mut add = |property: &str, schema: Option<&Schema>, decl: DeclType, required: bool| {
        let has_default = schema.is_some_and(|schema| schema.default_value().is_some());
        if required && !has_default {
            min_size += u64::try_from(property.len()).unwrap_or(u64::MAX) + decl.min_size + 4;
        }
        if let Some(identifier) = escape(property) {
            fields.insert(identifier, Field { name: property.to_owned(), decl });
        }
    };
    for property in &schema.properties {
        let (at, below) = (property.name.as_ref(), property.schema.get());
        if root && ["apiVersion", "kind", "metadata"].contains(&at) {
            continue;
        }
        let inner = escape(at).unwrap_or_else(|| at.to_owned());
        let Some(decl) = DeclType::from_schema(below, &format!("{name}.{inner}"), below.embedded_resource)
        else {
            continue;
        };
        let required = schema.required.iter().any(|required| required == at);
        add(at, Some(below), decl, required);
    }
    if root {
        let required = |at: &str| schema.required.iter().any(|required| required == at);
        for at in ["apiVersion", "kind"] {
            add(at, None, DeclType::string(None), required(at));
        }
        add("metadata", None, metadata(schema, name), required("metadata"));
    }
    DeclType::simple(Shape::Object(std::sync::Arc::new(Object { name: name.to_owned(), fields })), min_size)
}

/// The two fields of metadata that rules see, no longer than names may be.
fn metadata(schema: &Schema, name: &str) -> DeclType {
    let given = schema.property("metadata").map(|property| property.schema.get());
    let limit = |field: &str, most: u64| {
        let rules = given.and_then(|metadata| metadata.property(field))?.schema.get().rules.as_deref();
        rules.and_then(|rules| rules.max_length).filter(|length| *length < most)
    };
    let text = |field: &str, most: u64| {
        let characters = limit(field, most).unwrap_or(most);
        (field.to_owned(), DeclType::string(Some(characters.saturating_mul(4))))
    };
    // The generated end of a name is at least a byte.
    DeclType::object(
        &format!("{name}.metadata"),
        [text("name", MAX_NAME), text("generateName", MAX_NAME - 1)],
    )
}
