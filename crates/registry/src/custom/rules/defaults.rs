//! Defaults of a schema keep to its rules, as values that are there already and as values that appear (upstream:
//! `apiextensions-apiserver/pkg/apiserver/schema/defaulting`).

use apimachinery::field::{FieldError, Path};
use apimachinery::schema::{Ref, Schema};
use apimachinery::warnings::Warnings;
use cel::DeclType;

use super::ratchet::Correlation;
use super::run::{Place, Run};
use super::{Node, TYPE_NAME};

/// Runs the rules on the defaults of a schema, which stands at the path.
pub(super) fn check(schema: &Schema, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    node(schema, &mut Run::new(errors, &Warnings::default()), path);
}

fn node(schema: &Schema, run: &mut Run<'_>, path: &Path<'_>) {
    if let Some(default) = schema.default_value() {
        let decl = DeclType::from_schema(schema, TYPE_NAME, schema.embedded_resource);
        if let Some(rules) = Node::of(schema, schema, decl.as_ref()) {
            let (at, before) = (path.child("default"), run.found());
            for old in [Some(default), None] {
                if run.found() == before {
                    let correlation = Correlation::default();
                    run.value(&rules, Place { schema, value: default, old, correlation }, &at);
                }
            }
        }
    }
    // Below additionalProperties there are no defaults.
    if let Some(Ref::Inline(items)) = &schema.items {
        node(items, run, &path.child("items"));
    }
    let properties = path.child("properties");
    for property in &schema.properties {
        if let Ref::Inline(below) = &property.schema {
            node(below, run, &properties.key(&property.name));
        }
    }
}
