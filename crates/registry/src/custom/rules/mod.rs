//! Rules of definitions in CEL (`x-kubernetes-validations`): compiled once a version, run on every write of its objects.
//!
//! [`compile`] makes one rule a program, [`RuleSet`] is the tree of a schema's rules, [`run`] goes through an object with it,
//! [`ratchet`] knows what an update left as it was, and [`definition`] says what is wrong with the rules of a definition.

mod compile;
mod defaults;
mod definition;
mod field_path;
mod ratchet;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::schema::{Ref, Schema};
use apimachinery::warnings::Warnings;
use cel::{DeclType, escape};
use serde_json::Value;

use compile::Rule;
pub(crate) use definition::check as check_definition;
pub(crate) use field_path::find;
use ratchet::Correlation;
use run::{Place, Run};

/// The rules of one version of a custom resource.
pub(super) struct RuleSet {
    schema: Arc<Schema>,
    root: Node,
}

/// The rules of a node of the schema, and of those below that have any.
struct Node {
    rules: Vec<Rule>,
    /// What kept the rules from being compiled at all.
    fault: Option<&'static str>,
    decl: Option<DeclType>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    all_of: Vec<Node>,
}

/// The name that types have in messages where the schema has none.
const TYPE_NAME: &str = "selfType";

/// The rules that a node has itself, as they are written.
fn written(schema: &Schema) -> &[Value] {
    let rules = schema.rules.as_ref().and_then(|rules| rules.carried.get("x-kubernetes-validations"));
    rules.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl RuleSet {
    /// The rules of a version's `openAPIV3Schema`, if it has any.
    pub(super) fn of(schema: &Value) -> Option<Self> {
        // Checked when the definition was written.
        let schema = Arc::new(Schema::from_crd(schema, None, &Path::empty()).ok()?);
        let decl = DeclType::from_schema(&schema, TYPE_NAME, true);
        let root = Node::of(&schema, &schema, decl.as_ref())?;
        Some(Self { schema, root })
    }

    /// Runs the rules on an object, and on the one that it replaces. What an update did not change is not held against it: it
    /// becomes a warning.
    pub(super) fn check(
        &self,
        object: &Value,
        old: Option<&Value>,
        errors: &mut Vec<FieldError>,
        warnings: &Warnings,
    ) {
        let correlation = Correlation::root(object, old, &self.schema);
        let place = Place { schema: &self.schema, value: object, old, correlation };
        Run::new(errors, warnings).value(&self.root, place, &Path::empty());
    }
}

impl Node {
    /// The rules of `validation` (a node, or one of its `allOf`) for the values that `schema` describes.
    fn of(validation: &Schema, schema: &Schema, decl: Option<&DeclType>) -> Option<Self> {
        let element = decl.and_then(DeclType::element);
        let below = |one: &Option<Ref>, other: &Option<Ref>| {
            let (one, other) = (one.as_ref()?.get(), other.as_ref()?.get());
            Self::of(one, other, element).map(Box::new)
        };
        let mut properties = BTreeMap::new();
        for property in &validation.properties {
            let name = property.name.as_ref();
            let Some(own) = schema.property(name).map(|own| own.schema.get()) else { continue };
            let made;
            let declared = match decl.and_then(|decl| decl.field(name)) {
                Some(declared) => declared,
                // No identifier reaches it, but its own rules may.
                None if escape(name).is_none() => {
                    match DeclType::from_schema(own, TYPE_NAME, own.embedded_resource) {
                        Some(decl) => {
                            made = decl;
                            &made
                        }
                        None => continue,
                    }
                }
                None => continue,
            };
            if let Some(node) = Self::of(property.schema.get(), own, Some(declared)) {
                properties.insert(name.to_owned(), node);
            }
        }
        let all_of = validation.rules.iter().flat_map(|rules| &rules.all_of);
        let all_of: Vec<Self> = all_of.filter_map(|validation| Self::of(validation, schema, decl)).collect();
        let written = written(validation);
        let rules = match decl {
            Some(decl) => written.iter().map(|rule| Rule::compile(rule, schema, decl)).collect(),
            None => Vec::new(),
        };
        let fault = (decl.is_none() && !written.is_empty())
            .then_some("failed to convert to declType for CEL validation rules");
        let node = Self {
            rules,
            fault,
            decl: decl.cloned(),
            items: below(&validation.items, &schema.items),
            additional: below(&validation.additional, &schema.additional),
            properties,
            all_of,
        };
        node.has_any().then_some(node)
    }

    fn has_any(&self) -> bool {
        !self.rules.is_empty()
            || self.fault.is_some()
            || self.items.is_some()
            || self.additional.is_some()
            || !self.properties.is_empty()
            || !self.all_of.is_empty()
    }
}
