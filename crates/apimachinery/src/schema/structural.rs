//! A CRD's schema: reading it and checking that it is structural.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::{
    Bound, ListType, MapType, PatchStrategy, Pattern, Property, Ref, Rules, Schema, Type, owned, structure,
};
use crate::field::{ErrorList, FieldError, Path};

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Item,
    Field,
}

/// What OpenAPI knows and a CRD may not use.
const FORBIDDEN: [&str; 6] =
    ["$ref", "definitions", "dependencies", "id", "patternProperties", "additionalItems"];
/// What is kept for the documents without being looked at.
const CARRIED: [&str; 3] = ["example", "externalDocs", "x-kubernetes-validations"];
const TYPES: [(&str, Type); 6] = [
    ("array", Type::Array),
    ("boolean", Type::Boolean),
    ("integer", Type::Integer),
    ("number", Type::Number),
    ("object", Type::Object),
    ("string", Type::String),
];

impl Schema {
    /// Reads a CRD's `openAPIV3Schema`. `metadata`, if given, becomes the schema of the objects' `metadata`; the fields
    /// `apiVersion` and `kind` are added.
    ///
    /// # Errors
    /// Everything that keeps it from being structural, in upstream's words.
    pub fn from_crd(schema: &Value, metadata: Option<Ref>, path: &Path<'_>) -> Result<Self, ErrorList> {
        let mut reader = Reader { errors: Vec::new() };
        let mut root = reader.node(schema, Level::Root, path);
        structure::check(&root, path, &mut reader.errors);
        if !reader.errors.is_empty() {
            reader.errors.sort_by_cached_key(ToString::to_string);
            return Err(reader.errors);
        }
        for name in ["apiVersion", "kind"] {
            root.set_property(name, Schema { kind: Type::String, ..Self::default() }.into());
        }
        if let Some(metadata) = metadata {
            root.set_property("metadata", metadata);
        }
        Ok(root)
    }

    fn set_property(&mut self, name: &'static str, schema: Ref) {
        match self.properties.binary_search_by(|property| property.name.as_ref().cmp(name)) {
            Ok(at) => {
                // A description that the CRD gives stays, except for metadata, which is a whole definition.
                if let (true, Some(property)) = (name == "metadata", self.properties.get_mut(at)) {
                    property.schema = schema;
                }
            }
            Err(at) => {
                let patch = PatchStrategy::default();
                let property = Property { name: Cow::Borrowed(name), patch, atomic: false, schema };
                self.properties.insert(at, property);
            }
        }
    }
}

struct Reader {
    errors: ErrorList,
}

impl Reader {
    fn forbid(&mut self, path: &Path<'_>, why: &str) {
        self.errors.push(FieldError::forbidden(path, why));
    }

    fn node(&mut self, value: &Value, level: Level, path: &Path<'_>) -> Schema {
        let empty = Map::new();
        let map = value.as_object().unwrap_or(&empty);
        self.forbidden(map, path);
        let mut schema = Schema {
            format: text(map, "format").map(owned).unwrap_or_default(),
            preserve_unknown: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(map, "x-kubernetes-embedded-resource"),
            nullable: flag(map, "nullable"),
            required: texts(map, "required"),
            ..Schema::default()
        };
        self.kind(map, &mut schema, path);
        self.list_and_map(map, &mut schema, path);
        if let Some(properties) = map.get("properties").and_then(Value::as_object) {
            for (name, value) in properties {
                let at = path.child("properties");
                let child = self.node(value, Level::Field, &at.key(name));
                let patch = PatchStrategy::default();
                schema.properties.push(Property {
                    name: owned(name),
                    patch,
                    atomic: false,
                    schema: child.into(),
                });
            }
        }
        match map.get("items") {
            Some(Value::Array(_)) => {
                self.forbid(&path.child("items"), "items must be a schema object and not an array")
            }
            Some(items) if !items.is_null() => {
                schema.items = Some(self.node(items, Level::Item, &path.child("items")).into());
            }
            _ => {}
        }
        self.additional(map, &mut schema, level, path);
        let rules = self.rules(map, path);
        schema.rules = rules.map(Box::new);
        structure::check_node(&schema, map, level, path, &mut self.errors);
        schema
    }

    fn forbidden(&mut self, map: &Map<String, Value>, path: &Path<'_>) {
        for name in FORBIDDEN {
            let used = map.get(name).is_some_and(|value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Object(map) => !map.is_empty() || name == "additionalItems",
                _ => true,
            });
            if used {
                self.forbid(&path.child(name), &format!("{name} is not supported"));
            }
        }
        if flag(map, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(&path.child("uniqueItems"), why);
        }
    }

    fn kind(&mut self, map: &Map<String, Value>, schema: &mut Schema, path: &Path<'_>) {
        let name = text(map, "type").unwrap_or_default();
        if let Some((_, kind)) = TYPES.iter().find(|(known, _)| *known == name) {
            schema.kind = *kind;
        } else if !name.is_empty() {
            let known = TYPES.map(|(name, _)| name);
            self.errors.push(FieldError::not_supported(&path.child("type"), name, &known));
        }
        if flag(map, "x-kubernetes-int-or-string") {
            if !name.is_empty() {
                let why = "must be empty if x-kubernetes-int-or-string is true";
                self.errors.push(FieldError::invalid(&path.child("type"), name, why));
            }
            schema.kind = Type::IntOrString;
        }
    }

    fn list_and_map(&mut self, map: &Map<String, Value>, schema: &mut Schema, path: &Path<'_>) {
        let at = path.child("x-kubernetes-list-type");
        schema.list_map_keys = texts(map, "x-kubernetes-list-map-keys");
        schema.list_type = match text(map, "x-kubernetes-list-type") {
            Some("atomic") => Some(ListType::Atomic),
            Some("set") => Some(ListType::Set),
            Some("map") => Some(ListType::Map),
            Some(other) => {
                self.errors.push(FieldError::not_supported(&at, other, &["atomic", "set", "map"]));
                None
            }
            None => None,
        };
        schema.map_type = match text(map, "x-kubernetes-map-type") {
            Some("atomic") => Some(MapType::Atomic),
            Some("granular") => Some(MapType::Granular),
            Some(other) => {
                let at = path.child("x-kubernetes-map-type");
                self.errors.push(FieldError::not_supported(&at, other, &["atomic", "granular"]));
                None
            }
            None => None,
        };
    }

    fn additional(&mut self, map: &Map<String, Value>, schema: &mut Schema, level: Level, path: &Path<'_>) {
        let at = path.child("additionalProperties");
        let node = match map.get("additionalProperties") {
            None | Some(Value::Null) => return,
            Some(Value::Bool(false)) => {
                return self.forbid(&at, "additionalProperties cannot be set to false");
            }
            // Anything goes: the values of such a map are not looked into.
            Some(Value::Bool(true)) => Schema { preserve_unknown: true, ..Schema::default() },
            Some(value) => self.node(value, Level::Field, &at),
        };
        if level == Level::Root {
            self.forbid(&at, "must not be used at the root");
        }
        if !schema.properties.is_empty() {
            self.forbid(&at, "additionalProperties and properties are mutual exclusive");
        }
        schema.additional = Some(node.into());
    }

    /// A node below `allOf`, `anyOf`, `oneOf` or `not`: it may only restrict values.
    fn nested(&mut self, value: &Value, path: &Path<'_>) -> Schema {
        let empty = Map::new();
        let map = value.as_object().unwrap_or(&empty);
        self.forbidden(map, path);
        let mut schema = Schema {
            format: text(map, "format").map(owned).unwrap_or_default(),
            required: texts(map, "required"),
            ..Schema::default()
        };
        structure::check_nested(map, path, &mut self.errors);
        // Of the structure only types are read, as the one pattern that upstream tolerates needs them.
        if let Some((_, kind)) = TYPES.iter().find(|(known, _)| Some(*known) == text(map, "type")) {
            schema.kind = *kind;
        }
        for (name, value) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let at = path.child("properties");
            let child = self.nested(value, &at.key(name));
            let patch = PatchStrategy::default();
            schema.properties.push(Property {
                name: owned(name),
                patch,
                atomic: false,
                schema: child.into(),
            });
        }
        if let Some(items) = map.get("items").filter(|items| items.is_object()) {
            schema.items = Some(self.nested(items, &path.child("items")).into());
        }
        schema.rules = self.rules(map, path).map(Box::new);
        schema
    }

    fn rules(&mut self, map: &Map<String, Value>, path: &Path<'_>) -> Option<Rules> {
        let mut rules = Rules {
            description: text(map, "description").unwrap_or_default().to_owned(),
            title: text(map, "title").unwrap_or_default().to_owned(),
            default: map.get("default").filter(|value| !value.is_null()).cloned(),
            enumeration: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            minimum: bound(map, "minimum", "exclusiveMinimum"),
            maximum: bound(map, "maximum", "exclusiveMaximum"),
            multiple_of: map.get("multipleOf").and_then(Value::as_number).cloned(),
            min_length: count(map, "minLength"),
            max_length: count(map, "maxLength"),
            pattern: self.pattern(map, path),
            min_items: count(map, "minItems"),
            max_items: count(map, "maxItems"),
            unique_items: false,
            min_properties: count(map, "minProperties"),
            max_properties: count(map, "maxProperties"),
            all_of: self.junctor(map, "allOf", path),
            any_of: self.junctor(map, "anyOf", path),
            one_of: self.junctor(map, "oneOf", path),
            not: None,
            carried: Map::new(),
        };
        if let Some(not) = map.get("not").filter(|not| not.is_object()) {
            rules.not = Some(Box::new(self.nested(not, &path.child("not"))));
        }
        for name in CARRIED {
            if let Some(value) = map.get(name).filter(|value| !value.is_null()) {
                rules.carried.insert(name.to_owned(), value.clone());
            }
        }
        const STRUCTURE: [&str; 6] =
            ["type", "format", "properties", "items", "additionalProperties", "required"];
        let says_more = map.keys().any(|key| {
            let extension = key.starts_with("x-kubernetes-") && key != "x-kubernetes-validations";
            !STRUCTURE.contains(&key.as_str()) && !extension && key != "nullable"
        });
        says_more.then_some(rules)
    }

    fn pattern(&mut self, map: &Map<String, Value>, path: &Path<'_>) -> Option<Pattern> {
        let pattern = text(map, "pattern").filter(|pattern| !pattern.is_empty())?;
        match Pattern::new(pattern) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                let why = format!("must be a valid regular expression, but isn't: {error}");
                self.errors.push(FieldError::invalid(&path.child("pattern"), pattern, why));
                None
            }
        }
    }

    fn junctor(&mut self, map: &Map<String, Value>, name: &str, path: &Path<'_>) -> Vec<Schema> {
        let alternatives = map.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        alternatives.map(|(index, value)| self.nested(value, &path.child(name).index(index))).collect()
    }
}

fn text<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v str> {
    map.get(key)?.as_str()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<crate::gvk::Name> {
    map.get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(owned)
        .collect()
}

fn count(map: &Map<String, Value>, key: &str) -> Option<u64> {
    map.get(key)?.as_u64()
}

fn bound(map: &Map<String, Value>, key: &str, exclusive: &str) -> Option<Bound> {
    let value: Number = map.get(key)?.as_number()?.clone();
    Some(Bound { value, exclusive: flag(map, exclusive) })
}
