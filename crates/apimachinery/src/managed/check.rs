//! Whether a configuration fits its kind: types, fields that exist, items that are there once.

use std::collections::HashSet;

use serde_json::Value;

use super::element;
use super::place::{Place, Shape};
use crate::schema::Type;

/// What is wrong with the configuration, each with its path, in upstream's words. Empty for a good one.
pub(super) fn check(place: Place<'_>, config: &Value) -> String {
    let mut errors = Vec::new();
    walk(place, config, &mut String::new(), &mut errors);
    match errors.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        many => many.iter().fold("errors:".to_owned(), |text, each| format!("{text}\n  {each}")),
    }
}

fn fail(path: &str, why: &str, errors: &mut Vec<String>) {
    errors.push(if path.is_empty() { why.to_owned() } else { format!("{path}: {why}") });
}

fn walk(place: Place<'_>, value: &Value, path: &mut String, errors: &mut Vec<String>) {
    let Some(schema) = place.schema().filter(|_| !value.is_null()) else { return };
    let wrong = match (schema.kind, value) {
        (Type::Object, Value::Object(map)) => {
            for (name, value) in map {
                let length = path.len();
                element::show(&element::field(name), path);
                if place.refuses(name) {
                    fail(path, "field not declared in schema", errors);
                    path.truncate(length);
                    return;
                }
                walk(place.field(name), value, path, errors);
                path.truncate(length);
            }
            return;
        }
        (Type::Array, Value::Array(items)) => return walk_list(place, items, path, errors),
        (Type::Object, other) => format!("expected map, got &{{{}}}", shown(other)),
        (Type::Array, other) => format!("expected list, got &{{{}}}", shown(other)),
        (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Integer | Type::Number, Value::Number(_)) => return,
        (Type::String, other) => {
            format!("expected string, got &value.valueUnstructured{{Value:{}}}", shown(other))
        }
        (Type::Boolean, other) => format!("expected boolean, got &{{{}}}", shown(other)),
        (Type::Integer | Type::Number, other) => {
            format!("expected numeric (int or float), got {}", go_type(other))
        }
        (Type::IntOrString, Value::Object(_) | Value::Array(_)) => {
            format!("expected any scalar, got &{{{}}}", shown(value))
        }
        (Type::Any, Value::Object(_) | Value::Array(_)) if schema.format == "quantity" => {
            format!("expected any scalar, got &{{{}}}", shown(value))
        }
        (Type::IntOrString | Type::Any, _) => return,
    };
    fail(path, &wrong, errors);
}

fn walk_list(place: Place<'_>, items: &[Value], path: &mut String, errors: &mut Vec<String>) {
    let shape = place.shape(&Value::Null);
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let step = match shape {
            Shape::Leaf | Shape::Object => format!("i:{index}"),
            shape => match place.element(shape, item) {
                Ok(step) => step,
                Err(error) => return fail(path, &format!("element {index}: {error}"), errors),
            },
        };
        let length = path.len();
        element::show(&step, path);
        if !seen.insert(step) {
            let (list, item) = path.split_at(length);
            fail(list, &format!("duplicate entries for key {item}"), errors);
        }
        walk(place.item(), item, path, errors);
        path.truncate(length);
    }
}

/// As Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}:{}", shown(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
