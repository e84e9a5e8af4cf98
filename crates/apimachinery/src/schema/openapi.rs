//! Rendering schemas as OpenAPI documents.

use serde_json::{Map, Value, json};

use super::{Bound, ListType, MapType, PatchStrategy, Property, Ref, Rules, Schema, Type};

/// Which dialect of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenApi {
    /// Swagger 2.0, served at `/openapi/v2`; definitions are under `#/definitions/`.
    V2,
    /// OpenAPI 3.0, served at `/openapi/v3`; definitions are under `#/components/schemas/`.
    V3,
}

impl OpenApi {
    const fn prefix(self) -> &'static str {
        match self {
            Self::V2 => "#/definitions/",
            Self::V3 => "#/components/schemas/",
        }
    }
}

impl Ref {
    /// As JSON: a reference where it is a named definition, else the node.
    pub fn to_openapi(&self, dialect: OpenApi) -> Value {
        match self.name() {
            Some(name) => json!({"$ref": format!("{}{name}", dialect.prefix())}),
            None => self.get().to_openapi(dialect),
        }
    }

    /// The names of the definitions that it refers to, directly.
    pub fn references(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.get().collect_references(&mut found);
        found
    }
}

impl Schema {
    /// The node as JSON. Named definitions below it become references.
    pub fn to_openapi(&self, dialect: OpenApi) -> Value {
        let mut out = Map::new();
        if let Some(rules) = &self.rules {
            rules.render(dialect, &mut out);
        }
        self.render_type(dialect, &mut out);
        if !self.properties.is_empty() {
            let properties = self.properties.iter().map(|property| {
                let schema = render_property(property, dialect);
                (property.name.clone().into_owned(), schema)
            });
            out.insert("properties".to_owned(), Value::Object(properties.collect()));
        }
        if let Some(items) = &self.items {
            out.insert("items".to_owned(), items.to_openapi(dialect));
        }
        if let Some(additional) = &self.additional {
            out.insert("additionalProperties".to_owned(), additional.to_openapi(dialect));
        }
        if !self.required.is_empty() {
            out.insert("required".to_owned(), json!(self.required));
        }
        if self.nullable && dialect == OpenApi::V3 {
            out.insert("nullable".to_owned(), Value::Bool(true));
        }
        self.render_extensions(&mut out);
        Value::Object(out)
    }

    fn render_type(&self, dialect: OpenApi, out: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
        match (self.kind, self.format.as_ref(), dialect) {
            (Type::IntOrString, "int-or-string", OpenApi::V2) => {
                set("type", "string".into());
                set("format", "int-or-string".into());
            }
            (Type::IntOrString, "int-or-string", OpenApi::V3) => {
                set("format", "int-or-string".into());
                set("oneOf", json!([{"type": "integer"}, {"type": "string"}]));
            }
            (Type::IntOrString, ..) => {
                set("x-kubernetes-int-or-string", true.into());
            }
            (Type::Any, "quantity", OpenApi::V2) => {
                set("type", "string".into());
            }
            (Type::Any, "quantity", OpenApi::V3) => {
                set("oneOf", json!([{"type": "string"}, {"type": "number"}]));
            }
            (kind, format, _) => {
                if kind != Type::Any {
                    set("type", kind.as_str().into());
                }
                match format {
                    "" => {}
                    "micro-time" => {
                        set("format", "date-time".into());
                    }
                    format => {
                        set("format", format.into());
                    }
                }
            }
        }
    }

    fn render_extensions(&self, out: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Value| out.insert(format!("x-kubernetes-{key}"), value);
        // Upstream does not say so of its own kinds.
        if self.preserve_unknown && self.name.is_empty() {
            set("preserve-unknown-fields", true.into());
        }
        if self.embedded_resource {
            set("embedded-resource", true.into());
        }
        if let Some(list_type) = self.list_type {
            let name = match list_type {
                ListType::Atomic => "atomic",
                ListType::Set => "set",
                ListType::Map => "map",
            };
            set("list-type", name.into());
        }
        if !self.list_map_keys.is_empty() {
            set("list-map-keys", json!(self.list_map_keys));
        }
        match self.map_type {
            Some(MapType::Atomic) => set("map-type", "atomic".into()),
            Some(MapType::Granular) => set("map-type", "granular".into()),
            None => None,
        };
    }

    fn collect_references<'s>(&'s self, found: &mut Vec<&'s str>) {
        let below = self.properties.iter().map(|property| &property.schema);
        for schema in below.chain(&self.items).chain(&self.additional) {
            match schema {
                Ref::Named { table, index } => found.extend(table.name(*index)),
                Ref::Inline(schema) => schema.collect_references(found),
            }
        }
    }
}

fn render_property(property: &Property, dialect: OpenApi) -> Value {
    let mut schema = property.schema.to_openapi(dialect);
    let Some(out) = schema.as_object_mut() else { return schema };
    let PatchStrategy { merge, replace, retain_keys, merge_key } = &property.patch;
    let named = [(*merge, "merge"), (*replace, "replace"), (*retain_keys, "retainKeys")];
    let strategies: Vec<&str> = named.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    if !strategies.is_empty() {
        out.insert("x-kubernetes-patch-strategy".to_owned(), strategies.join(",").into());
    }
    if let Some(key) = merge_key {
        out.insert("x-kubernetes-patch-merge-key".to_owned(), key.as_ref().into());
    }
    schema
}

impl Rules {
    fn render(&self, dialect: OpenApi, out: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Option<Value>| value.map(|value| out.insert(key.to_owned(), value));
        let text = |text: &String| (!text.is_empty()).then(|| Value::from(text.as_str()));
        set("description", text(&self.description));
        set("title", text(&self.title));
        set("enum", (!self.enumeration.is_empty()).then(|| Value::from(self.enumeration.clone())));
        let exclusive =
            |bound: &Option<Bound>| bound.as_ref().filter(|bound| bound.exclusive).map(|_| Value::Bool(true));
        let limit = |bound: &Option<Bound>| bound.as_ref().map(|bound| Value::Number(bound.value.clone()));
        set("minimum", limit(&self.minimum));
        set("exclusiveMinimum", exclusive(&self.minimum));
        set("maximum", limit(&self.maximum));
        set("exclusiveMaximum", exclusive(&self.maximum));
        set("multipleOf", self.multiple_of.clone().map(Value::Number));
        set("minLength", self.min_length.map(Value::from));
        set("maxLength", self.max_length.map(Value::from));
        set("pattern", self.pattern.as_ref().map(|pattern| pattern.as_str().into()));
        set("minItems", self.min_items.map(Value::from));
        set("maxItems", self.max_items.map(Value::from));
        set("uniqueItems", self.unique_items.then_some(Value::Bool(true)));
        set("minProperties", self.min_properties.map(Value::from));
        set("maxProperties", self.max_properties.map(Value::from));
        if dialect == OpenApi::V3 {
            let list = |schemas: &[Schema]| {
                let rendered: Vec<Value> = schemas.iter().map(|schema| schema.to_openapi(dialect)).collect();
                (!rendered.is_empty()).then_some(Value::Array(rendered))
            };
            set("default", self.default.clone());
            set("allOf", list(&self.all_of));
            set("anyOf", list(&self.any_of));
            set("oneOf", list(&self.one_of));
            set("not", self.not.as_ref().map(|schema| schema.to_openapi(dialect)));
        }
        for (name, value) in &self.carried {
            set(name, Some(value.clone()));
        }
    }
}
