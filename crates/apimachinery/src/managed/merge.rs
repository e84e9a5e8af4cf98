//! A configuration into an object, and paths out of one.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::place::{Place, Shape};
use super::set::{Node, Set, is_member};

/// The object with what the configuration says. Nothing is removed by this.
pub(super) fn merge(place: Place<'_>, object: &Value, config: &Value) -> Value {
    let shape = place.shape(config);
    if place.shape(object) != shape || shape == Shape::Leaf || (is_bare(object) && is_bare(config)) {
        return config.clone();
    }
    match (shape, object, config) {
        (Shape::Object, Value::Object(object), Value::Object(config)) => {
            let mut merged = object.clone();
            for (name, value) in config {
                let value = match object.get(name) {
                    Some(old) => merge(place.field(name), old, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (_, Value::Array(object), Value::Array(config)) => {
            Value::Array(merge_list(place, shape, object, config))
        }
        // Null says nothing where there is something.
        (_, object, Value::Null) => object.clone(),
        _ => config.clone(),
    }
}

fn is_bare(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Items stand in the order of the configuration; those that it does not name stay behind those that they followed.
fn merge_list(place: Place<'_>, shape: Shape<'_>, object: &[Value], config: &[Value]) -> Vec<Value> {
    let steps = |list: &'_ [Value]| -> Vec<Option<String>> {
        list.iter().map(|item| place.element(shape, item).ok()).collect()
    };
    let (old_steps, new_steps) = (steps(object), steps(config));
    let mut old_items: HashMap<&str, Option<&Value>> = HashMap::new();
    for (step, item) in old_steps.iter().zip(object) {
        if let Some(step) = step {
            // What is there twice is not merged with: who would say with which?
            old_items.entry(step).and_modify(|known| *known = None).or_insert(Some(item));
        }
    }
    let in_config: HashMap<&str, usize> =
        new_steps.iter().enumerate().filter_map(|(index, step)| Some((step.as_deref()?, index))).collect();
    let mut order = Order {
        shared: new_steps
            .iter()
            .flatten()
            .map(String::as_str)
            .filter(|step| old_items.contains_key(step))
            .collect(),
        taken: vec![false; config.len()],
        next: 0,
    };
    let mut merged = Vec::with_capacity(object.len().max(config.len()));
    let (mut at, mut new_at) = (0, 0);
    while at < object.len() || new_at < config.len() {
        let step = old_steps.get(at).and_then(Option::as_deref);
        let known = step.and_then(|step| in_config.get(step).copied());
        if let Some(item) = object.get(at) {
            match known {
                None => {
                    merged.push(item.clone());
                    at += 1;
                    continue;
                }
                Some(index) if new_at < config.len() && index != new_at && order.comes_later(step) => {
                    at += 1;
                    continue;
                }
                Some(index) if index == new_at || order.is_taken(index) => at += 1,
                Some(_) => {}
            }
        }
        let (Some(item), Some(step)) = (config.get(new_at), new_steps.get(new_at)) else { continue };
        let old = step.as_deref().and_then(|step| old_items.get(step).copied().flatten());
        merged.push(old.map_or_else(|| item.clone(), |old| merge(place.item(), old, item)));
        order.took(new_at, step.as_deref());
        new_at += 1;
    }
    merged
}

/// How far the items that both lists have are taken.
struct Order<'a> {
    /// Their steps, in the configuration's order.
    shared: Vec<&'a str>,
    /// Which items of the configuration are taken.
    taken: Vec<bool>,
    next: usize,
}

impl Order<'_> {
    /// Whether another item that both have is to be taken before this one.
    fn comes_later(&self, step: Option<&str>) -> bool {
        self.shared.get(self.next).is_some_and(|next| Some(*next) != step)
    }

    fn is_taken(&self, index: usize) -> bool {
        self.taken.get(index).copied().unwrap_or_default()
    }

    fn took(&mut self, index: usize, step: Option<&str>) {
        if let Some(taken) = self.taken.get_mut(index) {
            *taken = true;
        }
        if self.shared.get(self.next).is_some_and(|next| Some(*next) == step) {
            self.next += 1;
        }
    }
}

/// The object without those paths.
pub(super) fn remove(place: Place<'_>, object: &Value, paths: &Set) -> Value {
    match take_out(place, object, &paths.0) {
        Value::Null => Value::Object(Map::new()),
        object => object,
    }
}

/// A value of which everything is taken out is null.
fn take_out(place: Place<'_>, value: &Value, node: &Node) -> Value {
    let inside = |place: Place<'_>, value: &Value, step: &str| match node.get(step).and_then(Value::as_object)
    {
        None => Some(value.clone()),
        Some(node) if is_member(node) => None,
        Some(node) => Some(take_out(place, value, node)),
    };
    match (place.shape(value), value) {
        (Shape::Object, Value::Object(map)) if !map.is_empty() => {
            let kept: Map<String, Value> = map
                .iter()
                .filter_map(|(name, value)| {
                    let step = super::element::field(name);
                    Some((name.clone(), inside(place.field(name), value, &step)?))
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (shape @ (Shape::Keyed(_) | Shape::Set), Value::Array(items)) if !items.is_empty() => {
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|item| match place.element(shape, item) {
                    Ok(step) => inside(place.item(), item, &step).map(|left| with_keys(shape, item, left)),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        _ => value.clone(),
    }
}

/// An item that keeps its place keeps its keys: without them it would be another one.
fn with_keys(shape: Shape<'_>, item: &Value, left: Value) -> Value {
    let (Shape::Keyed(keys), Value::Object(item)) = (shape, item) else { return left };
    let mut left = match left {
        Value::Object(left) => left,
        _ => Map::new(),
    };
    for key in keys {
        if let Some(value) = item.get(key.as_ref()).filter(|_| !left.contains_key(key.as_ref())) {
            left.insert(key.to_string(), value.clone());
        }
    }
    Value::Object(left)
}
