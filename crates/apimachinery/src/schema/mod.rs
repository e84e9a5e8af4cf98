//! The one description of a kind, built-in or custom, and everything that follows from it.
//!
//! A [`Schema`] is a tree of nodes that may share and recur: built-in definitions live in a [`table::Table`] and are
//! parsed when first used; a CRD's schema is owned. What it is good for:
//!
//! - [`Schema::conform`]: bytes' tree to a proper object of a built-in kind (types, nulls, unknown fields);
//! - [`Schema::unknown_fields`], [`Schema::prune`], [`Schema::prune_nulls`], [`Schema::apply_defaults`],
//!   [`Schema::validate`]: the life of a custom object;
//! - [`Schema::from_crd`]: a CRD's `openAPIV3Schema` checked to be structural;
//! - [`Schema::to_openapi`]: the OpenAPI documents;
//! - [`crate::patch::strategic`] reads the patch strategies from it.

mod conform;
mod default;
mod formats;
mod lists;
mod openapi;
mod prune;
mod rules;
mod structural;
mod structure;
pub mod table;
mod validate;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::gvk::Name;
pub use conform::{Conformed, DecodeError, strict_error};
pub use formats::holds as format_holds;
pub use openapi::OpenApi;
pub use rules::{Bound, Pattern, Rules};
use table::Table;

/// What JSON a node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Type {
    /// Anything.
    #[default]
    Any,
    /// An object: with properties, or a map.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or text (`x-kubernetes-int-or-string`).
    IntOrString,
}

impl Type {
    /// Its name in a schema; empty for those that have none.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any | Self::IntOrString => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How the items of a list belong together (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Each item once.
    Set,
    /// One item per value of the keys.
    Map,
}

/// Who may own the parts of an object (`x-kubernetes-map-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MapType {
    /// Each entry by itself.
    #[default]
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// How strategic merge treats a field (`x-kubernetes-patch-*`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Lists are merged by key (or as sets), not replaced.
    pub merge: bool,
    /// Objects are replaced.
    pub replace: bool,
    /// Keys that the patch does not name are cleared, where the patch says so (`$retainKeys`).
    pub retain_keys: bool,
    /// What identifies an item of a list of objects.
    pub merge_key: Option<Name>,
}

/// A named field of an object.
#[derive(Debug, Clone)]
pub struct Property {
    /// Its name.
    pub name: Name,
    /// How strategic merge treats it.
    pub patch: PatchStrategy,
    /// Whether it is atomic although its type is not.
    pub atomic: bool,
    /// What it holds.
    pub schema: Ref,
}

/// A node below another: owned, or a shared definition of a table.
#[derive(Clone)]
pub enum Ref {
    /// A node of its own.
    Inline(Arc<Schema>),
    /// A definition, parsed when first asked for.
    Named {
        /// Where it is defined.
        table: &'static Table,
        /// Which one.
        index: u32,
    },
}

impl Ref {
    /// The node.
    pub fn get(&self) -> &Schema {
        match self {
            Self::Inline(schema) => schema,
            Self::Named { table, index } => table.at(*index),
        }
    }

    /// The definition's name, where it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Inline(_) => None,
            Self::Named { table, index } => table.name(*index),
        }
    }
}

impl std::fmt::Debug for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Definitions refer to each other in circles: print names, not what they hold.
        match self {
            Self::Inline(schema) => schema.fmt(f),
            Self::Named { .. } => write!(f, "@{}", self.name().unwrap_or_default()),
        }
    }
}

impl From<Schema> for Ref {
    fn from(schema: Schema) -> Self {
        Self::Inline(Arc::new(schema))
    }
}

/// A node of a schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// The definition's name (`io.k8s.api.apps.v1.DeploymentSpec`), or empty.
    pub name: Name,
    /// What JSON it takes.
    pub kind: Type,
    /// `int32`, `byte`, `date-time`, …; or empty.
    pub format: Name,
    /// Named fields, sorted by name.
    pub properties: Vec<Property>,
    /// What a list holds.
    pub items: Option<Ref>,
    /// What the unnamed entries of an object hold: it is a map.
    pub additional: Option<Ref>,
    /// Names of properties that must be there.
    pub required: Vec<Name>,
    /// Unknown fields stay.
    pub preserve_unknown: bool,
    /// Holds a whole object with its own apiVersion, kind and metadata.
    pub embedded_resource: bool,
    /// Takes null.
    pub nullable: bool,
    /// How a list's items belong together.
    pub list_type: Option<ListType>,
    /// What identifies an item of a list of type map.
    pub list_map_keys: Vec<Name>,
    /// Who may own the parts of an object.
    pub map_type: Option<MapType>,
    /// What only custom kinds have: text, defaults, limits.
    pub rules: Option<Box<Rules>>,
}

/// How long a decoder may be about unknown fields.
pub const MAX_REPORTED_FIELDS: usize = 100;

impl Schema {
    /// The property of that name.
    pub fn property(&self, name: &str) -> Option<&Property> {
        // Few objects have more than a dozen fields, but some have forty: always search by halves.
        let at = self.properties.binary_search_by(|property| property.name.as_ref().cmp(name)).ok()?;
        self.properties.get(at)
    }

    /// The node that describes the entry `name` of an object: a property, or what a map holds.
    pub fn child(&self, name: &str) -> Option<&Schema> {
        self.property(name)
            .map(|property| property.schema.get())
            .or_else(|| self.additional.as_ref().map(Ref::get))
    }

    /// The node at a path of field names; list items are skipped through.
    pub fn at<'s>(&self, path: impl IntoIterator<Item = &'s str>) -> Option<&Schema> {
        path.into_iter().try_fold(self, |node, name| {
            let mut node = node;
            while let (Type::Array, Some(items)) = (node.kind, &node.items) {
                node = items.get();
            }
            node.child(name)
        })
    }

    /// The name of the Go type that upstream would decode this into, for its messages.
    fn type_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// The default value, if the schema has one.
    pub fn default_value(&self) -> Option<&Value> {
        self.rules.as_ref().and_then(|rules| rules.default.as_ref())
    }

    /// The description, if the schema has one.
    pub fn description(&self) -> Option<&str> {
        self.rules.as_ref().map(|rules| rules.description.as_str()).filter(|text| !text.is_empty())
    }
}

impl Type {
    /// What upstream calls the type of a JSON value in its messages.
    fn of(value: &Value) -> &'static str {
        match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
}

fn owned(text: &str) -> Name {
    Cow::Owned(text.to_owned())
}
