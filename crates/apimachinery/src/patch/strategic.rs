//! Strategic merge patch: lists merge by key where the schema says so.
//!
//! The patch of a list may carry directives: `$patch: delete` or `replace` among its items, `$setElementOrder/list` and
//! `$deleteFromPrimitiveList/list` beside it; the patch of an object `$patch: replace|delete|merge` and `$retainKeys`. A merged list
//! has the patch's order first, then the rest in their old order, as upstream.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{PatchStrategy, Ref, Schema};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Merges `patch` into `target` by the patch strategies of `schema`. After an error `target` is in no defined state.
///
/// # Errors
/// When the patch misuses a directive, or an item of a merged list lacks its key.
pub fn apply(target: &mut Value, patch: Value, schema: &Schema) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(malformed("a strategic merge patch is an object"));
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return Ok(()) };
    merge_object(map, patch, Some(schema))
}

fn malformed(message: impl Into<String>) -> PatchError {
    PatchError::Malformed(message.into())
}

fn no_key(item: &Value, key: &str) -> PatchError {
    malformed(format!("map: {item} does not contain declared merge key: {key}"))
}

/// What the schema says of a field: its node, and how it is patched.
fn lookup<'s>(schema: Option<&'s Schema>, name: &str) -> (Option<&'s Schema>, Option<&'s PatchStrategy>) {
    let Some(schema) = schema else { return (None, None) };
    match schema.property(name) {
        Some(property) => (Some(property.schema.get()), Some(&property.patch)),
        None => (schema.additional.as_ref().map(Ref::get), None),
    }
}

fn merge_object(
    target: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(Value::String(directive)) if directive == "replace" => {
            *target = patch;
            target.values_mut().for_each(strip);
            return Ok(());
        }
        Some(Value::String(directive)) if directive == "delete" => {
            target.clear();
            return Ok(());
        }
        Some(other) => {
            return Err(malformed(format!("unknown patch type: {other} in map: {}", Value::Object(patch))));
        }
    }
    retain_keys(target, &mut patch)?;
    let orders: Vec<String> = patch.keys().filter(|name| name.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in orders {
        let order = patch.remove(&directive).unwrap_or_default();
        let name = directive.strip_prefix(ORDER_PREFIX).unwrap_or_default();
        let change = patch.remove(name);
        merge_ordered(target, name, change, &order, schema)?;
    }
    for (name, change) in patch {
        merge_field(target, name, change, schema)?;
    }
    Ok(())
}

/// `$retainKeys`: whatever it does not name goes.
fn retain_keys(target: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let wrong = || malformed("invalid patch format of retainKeys");
    let kept: Vec<&str> = directive.as_array().ok_or_else(wrong)?.iter().filter_map(Value::as_str).collect();
    let unnamed = |(name, value): (&String, &Value)| {
        !value.is_null() && !name.starts_with('$') && !kept.contains(&name.as_str())
    };
    if patch.iter().any(unnamed) {
        return Err(wrong());
    }
    target.retain(|name, _| kept.contains(&name.as_str()));
    Ok(())
}

fn merge_field(
    target: &mut Map<String, Value>,
    name: String,
    mut change: Value,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    if let Some(list) = name.strip_prefix(DELETE_PREFIX) {
        let doomed = change.as_array().ok_or_else(|| malformed("invalid patch format of primitive list"))?;
        let doomed: HashSet<String> = doomed.iter().map(Value::to_string).collect();
        if let Some(Value::Array(items)) = target.get_mut(list) {
            items.retain(|item| !doomed.contains(&item.to_string()));
        }
        return Ok(());
    }
    if change.is_null() {
        target.remove(&name);
        return Ok(());
    }
    let (node, strategy) = lookup(schema, &name);
    match (target.get_mut(&name), change) {
        (Some(Value::Object(map)), Value::Object(change))
            if !strategy.is_some_and(|strategy| strategy.replace) =>
        {
            merge_object(map, change, node)?;
        }
        (Some(Value::Array(items)), Value::Array(changes))
            if strategy.is_some_and(|strategy| strategy.merge) =>
        {
            let key = strategy.and_then(|strategy| strategy.merge_key.as_deref());
            let old = std::mem::take(items);
            let merged = merge_list(old, changes, key, node, None)?;
            target.insert(name, Value::Array(merged));
        }
        (_, new) => {
            change = new;
            strip(&mut change);
            target.insert(name, change);
        }
    }
    Ok(())
}

/// A list whose order the patch says, with or without other changes to it.
fn merge_ordered(
    target: &mut Map<String, Value>,
    name: &str,
    change: Option<Value>,
    order: &Value,
    schema: Option<&Schema>,
) -> Result<(), PatchError> {
    let wrong = || malformed("invalid patch format of setElementOrder list");
    let order = order.as_array().ok_or_else(wrong)?;
    let (node, strategy) = lookup(schema, name);
    let key = strategy.and_then(|strategy| strategy.merge_key.as_deref());
    let changes = match change {
        None | Some(Value::Null) if !target.contains_key(name) => return Ok(()),
        Some(Value::Null) => {
            target.remove(name);
            return Ok(());
        }
        None => Vec::new(),
        Some(Value::Array(changes)) => changes,
        Some(_) => return Err(wrong()),
    };
    check_order(&changes, order, key)?;
    let old = match target.remove(name) {
        None => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong()),
    };
    let merged = if strategy.is_some_and(|strategy| strategy.merge) {
        merge_list(old, changes, key, node, Some(order))?
    } else {
        changes
    };
    target.insert(name.to_owned(), Value::Array(merged));
    Ok(())
}

/// The items of the patch must stand in the order that it demands.
fn check_order(changes: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let mut places = order.iter();
    for item in changes.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, key)?;
        if !order.is_empty() && !places.any(|place| identity(place, key).ok() == Some(wanted)) {
            let changes = Value::from(changes.to_vec());
            let order = Value::from(order.to_vec());
            let message = format!(
                "The order in patch list:\n{changes}\n doesn't match $setElementOrder list:\n{order}\n"
            );
            return Err(malformed(message));
        }
    }
    Ok(())
}

/// What tells an item from its neighbours: the merge key's value, or the item itself where there is no key.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Result<&'v Value, PatchError> {
    match key {
        Some(key) if item.is_object() => item.get(key).ok_or_else(|| no_key(item, key)),
        _ => Ok(item),
    }
}

/// Where each item is, by the text of its identity: large lists are merged in one pass.
struct Places(HashMap<String, usize>);

impl Places {
    fn of<'v>(identities: impl Iterator<Item = &'v Value>) -> Self {
        let mut places = HashMap::new();
        for (at, identity) in identities.enumerate() {
            places.entry(identity.to_string()).or_insert(at);
        }
        Self(places)
    }

    fn find(&self, identity: &Value) -> Option<usize> {
        self.0.get(&identity.to_string()).copied()
    }
}

/// The identities of all items.
fn identities<'v>(items: &'v [Value], key: Option<&str>) -> Result<Vec<&'v Value>, PatchError> {
    items.iter().map(|item| identity(item, key)).collect()
}

fn merge_list(
    old: Vec<Value>,
    changes: Vec<Value>,
    key: Option<&str>,
    schema: Option<&Schema>,
    order: Option<&[Value]>,
) -> Result<Vec<Value>, PatchError> {
    let of_objects = old.iter().chain(&changes).any(Value::is_object);
    let key = if of_objects {
        Some(key.ok_or_else(|| malformed("cannot merge lists without merge key"))?)
    } else {
        None
    };
    if of_objects && old.iter().chain(&changes).any(|item| !item.is_object()) {
        return Err(malformed("list element types are not identical"));
    }
    let item_schema = schema.and_then(|schema| schema.items.as_ref()).map(Ref::get);
    let old_places = Places::of(identities(&old, key)?.into_iter());
    let (mut merged, changes) = match key {
        Some(key) => directives(old, changes, key)?,
        None => (old, changes),
    };
    let order = match order {
        Some(order) => Places::of(identities(order, key)?.into_iter()),
        None => Places::of(identities(&changes, key)?.into_iter()),
    };
    let mut places = Places::of(identities(&merged, key)?.into_iter());
    for mut change in changes {
        let wanted = identity(&change, key)?;
        match places.find(wanted).and_then(|at| merged.get_mut(at)) {
            Some(Value::Object(item)) => {
                let Value::Object(change) = change else { continue };
                merge_object(item, change, item_schema)?;
            }
            Some(_) => {}
            None => {
                places.0.insert(wanted.to_string(), merged.len());
                strip(&mut change);
                merged.push(change);
            }
        }
    }
    arrange(merged, &order, &old_places, key)
}

/// Carries out the items that are directives: `$patch: delete` takes a matching item away, `$patch: replace` all of the old ones.
fn directives(
    mut old: Vec<Value>,
    changes: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut rest = Vec::with_capacity(changes.len());
    let mut doomed = HashSet::new();
    let mut replace = false;
    for mut change in changes {
        let directive = change.as_object_mut().and_then(|change| change.remove(DIRECTIVE));
        match directive.as_ref().map(|directive| directive.as_str().unwrap_or_default()) {
            None => rest.push(change),
            Some("delete") => {
                doomed.insert(change.get(key).ok_or_else(|| no_key(&change, key))?.to_string());
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(malformed("merging lists cannot yet be specified in the patch")),
            Some(other) => return Err(malformed(format!("unknown patch type: {other} in map: {change}"))),
        }
    }
    if replace {
        rest.iter_mut().for_each(strip);
        return Ok((rest, Vec::new()));
    }
    if !doomed.is_empty() {
        old.retain(|item| item.get(key).is_none_or(|identity| !doomed.contains(&identity.to_string())));
    }
    Ok((old, rest))
}

/// Items that `order` names stand in that order; the others keep theirs, each before the first of the named that it stood before.
fn arrange(
    merged: Vec<Value>,
    order: &Places,
    old: &Places,
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let mut named: Vec<(usize, Option<usize>, Value)> = Vec::new();
    let mut others: Vec<(Option<usize>, Value)> = Vec::new();
    for item in merged {
        let identity = identity(&item, key)?;
        let (place, was) = (order.find(identity), old.find(identity));
        match place {
            Some(at) => named.push((at, was, item)),
            None => others.push((was, item)),
        }
    }
    named.sort_by_key(|(at, ..)| *at);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, at, item) in named {
        while let Some((_, other)) = others.next_if(|(was, _)| was.zip(at).is_some_and(|(was, at)| was < at))
        {
            out.push(other);
        }
        out.push(item);
    }
    out.extend(others.map(|(_, other)| other));
    Ok(out)
}

/// What is taken over as it stands may hold no directives and no nulls of a patch.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                let directive = name == DIRECTIVE
                    || name == RETAIN_KEYS
                    || name.starts_with(DELETE_PREFIX)
                    || name.starts_with(ORDER_PREFIX);
                !directive && !value.is_null()
            });
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => {
            items.retain(|item| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete"));
            items.iter_mut().for_each(strip);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
