//! What a place in a tree is to those who own its parts.

use serde_json::Value;

use super::element::{self, ElementError};
use crate::gvk::Name;
use crate::schema::{ListType, MapType, Property, Ref, Schema, Type};

/// A place in a tree, as its schema describes it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'s> {
    /// Without one, what lies here is taken as it comes: objects by their fields, all else as a whole.
    schema: Option<&'s Schema>,
    /// The field that leads here.
    property: Option<&'s Property>,
    /// The schema is that of a custom kind.
    custom: bool,
}

/// How the parts of a place are owned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape<'s> {
    /// As one.
    Leaf,
    /// Each field or entry by itself.
    Object,
    /// A list: each value by itself.
    Set,
    /// A list: each item by its keys.
    Keyed(&'s [Name]),
}

/// Fields that upstream's types hold by value: they are there, empty, in every object, so nobody adds them.
const STANDING: [(&str, &str); 11] = [
    ("DaemonSetSpec", "updateStrategy"),
    ("DeploymentSpec", "strategy"),
    ("Event", "source"),
    ("IngressStatus", "loadBalancer"),
    ("NodeStatus", "daemonEndpoints"),
    ("NodeStatus", "nodeInfo"),
    ("PersistentVolumeClaimSpec", "resources"),
    ("PodTemplate", "template"),
    ("ReplicaSetSpec", "template"),
    ("ServiceStatus", "loadBalancer"),
    ("StatefulSetSpec", "updateStrategy"),
];

impl<'s> Place<'s> {
    /// A whole object of a kind; a custom kind may have no schema.
    pub fn root(schema: Option<&'s Schema>, custom: bool) -> Self {
        Self { schema, property: None, custom }
    }

    /// Whether the kind is a custom one.
    pub(super) fn is_custom(self) -> bool {
        self.custom
    }

    /// What the schema says of the place.
    pub(super) fn schema(self) -> Option<&'s Schema> {
        self.schema
    }

    /// How the parts of this value are owned here.
    pub(super) fn shape(self, value: &Value) -> Shape<'s> {
        let as_it_comes = || if value.is_object() { Shape::Object } else { Shape::Leaf };
        let Some(schema) = self.schema else { return as_it_comes() };
        let atomic = self.property.is_some_and(|property| property.atomic);
        match schema.kind {
            _ if atomic => Shape::Leaf,
            Type::Object if schema.map_type == Some(MapType::Atomic) => Shape::Leaf,
            Type::Object => Shape::Object,
            Type::Array => self.list(schema),
            Type::Any if self.custom => as_it_comes(),
            _ => Shape::Leaf,
        }
    }

    fn list(self, schema: &'s Schema) -> Shape<'s> {
        match (schema.list_type, self.property.map(|property| &property.patch)) {
            (Some(ListType::Atomic), _) => Shape::Leaf,
            (Some(ListType::Set), _) => Shape::Set,
            (Some(ListType::Map), _) => Shape::Keyed(&schema.list_map_keys),
            // What has no type says how it is patched, which comes to the same.
            (None, Some(patch)) if patch.merge => match &patch.merge_key {
                Some(key) => Shape::Keyed(std::slice::from_ref(key)),
                None => Shape::Set,
            },
            (None, _) => Shape::Leaf,
        }
    }

    /// Whether the schema makes a whole of what has parts here.
    pub(super) fn is_atomic(self) -> bool {
        self.schema.is_some_and(|schema| {
            matches!(schema.kind, Type::Object | Type::Array) && self.shape(&Value::Null) == Shape::Leaf
        })
    }

    /// Whether the schema names that field.
    pub(super) fn names(self, name: &str) -> bool {
        self.schema.is_some_and(|schema| schema.property(name).is_some())
    }

    /// The place of a field or entry.
    pub(super) fn field(self, name: &str) -> Self {
        let Some(schema) = self.schema else { return self };
        match schema.property(name) {
            Some(property) => Self { schema: Some(property.schema.get()), property: Some(property), ..self },
            None => Self { schema: schema.additional.as_ref().map(Ref::get), property: None, ..self },
        }
    }

    /// Whether the schema has nothing at that field.
    pub(super) fn refuses(self, name: &str) -> bool {
        self.schema.is_some_and(|schema| {
            schema.property(name).is_none()
                && schema.additional.is_none()
                && !schema.preserve_unknown
                && !schema.embedded_resource
                && !schema.properties.is_empty()
        })
    }

    /// The place of the items of a list.
    pub(super) fn item(self) -> Self {
        let schema = self.schema.and_then(|schema| schema.items.as_ref()).map(Ref::get);
        Self { schema, property: None, ..self }
    }

    /// The place that a step of a path leads to.
    pub(super) fn step(self, step: &str) -> Self {
        match step.strip_prefix("f:") {
            Some(name) => self.field(name),
            None => self.item(),
        }
    }

    /// The step to an item of a list of that shape.
    pub(super) fn element(self, shape: Shape<'_>, item: &Value) -> Result<String, ElementError> {
        match shape {
            Shape::Keyed(keys) => element::key(item, keys, |name| self.key_default(name)),
            _ => element::value(item),
        }
    }

    /// What an item has that does not name the key.
    fn key_default(self, name: &str) -> Option<Value> {
        let item = self.schema?.items.as_ref()?.get();
        if self.custom {
            return item.property(name)?.schema.get().default_value().cloned();
        }
        if name == "protocol" {
            return Some(Value::from("TCP"));
        }
        // As upstream's types have it: a field that is always written is empty where nobody fills it.
        let required = item.required.iter().any(|required| required == name);
        match item.property(name)?.schema.get().kind {
            Type::String if required => Some(Value::from("")),
            Type::Integer if required => Some(Value::from(0)),
            _ => None,
        }
    }

    /// Whether every object has that field, empty at least, as upstream's types have it.
    pub(super) fn stands(self, name: &str) -> bool {
        let Some(schema) = self.schema.filter(|_| !self.custom) else { return false };
        let holder = schema.name.rsplit('.').next().unwrap_or_default();
        let has_parts = |schema: &Schema| matches!(schema.kind, Type::Object | Type::Array);
        schema.property(name).is_some_and(|property| has_parts(property.schema.get()))
            && (["metadata", "spec", "status"].contains(&name)
                || schema.required.iter().any(|required| required == name)
                || STANDING.contains(&(holder, name)))
    }
}
