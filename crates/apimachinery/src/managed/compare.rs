//! Two trees apart: what was added, what was modified, what was removed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::UNOWNED;
use super::element;
use super::place::{Place, Shape};
use super::set::{Node, Set, attach, node, split};

/// The difference of two objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// In the new one only.
    pub(super) added: Set,
    /// In both, but different.
    pub(super) modified: Set,
    /// In the old one only.
    pub(super) removed: Set,
}

impl Comparison {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the new object says otherwise than the old one, and what it does not say any more.
    pub(super) fn into_taken_and_removed(self) -> (Set, Set) {
        let mut taken = self.added;
        taken.join(self.modified);
        (taken, self.removed)
    }
}

/// The difference of two nodes, in three nodes.
#[derive(Default)]
struct Diff {
    added: Option<Node>,
    modified: Option<Node>,
    removed: Option<Node>,
}

/// What has been found below a node so far.
#[derive(Default)]
struct Parts {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Parts {
    fn absorb(&mut self, step: impl FnOnce() -> String, diff: Diff) {
        if diff.added.is_none() && diff.modified.is_none() && diff.removed.is_none() {
            return;
        }
        let step = step();
        attach(&mut self.added, &step, diff.added);
        attach(&mut self.modified, &step, diff.modified);
        attach(&mut self.removed, &step, diff.removed);
    }

    fn done(self) -> Diff {
        Diff {
            added: node(false, self.added),
            modified: node(false, self.modified),
            removed: node(false, self.removed),
        }
    }
}

/// What a change did to an object, but for what nobody owns. Without an old one the object is new.
pub(super) fn compare(place: Place<'_>, old: Option<&Value>, new: &Value) -> Comparison {
    let empty = Map::new();
    let (old, new) = (old.and_then(Value::as_object).unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut parts = Parts::default();
    for (name, old, new) in zip(old, new) {
        if matches!(name, "apiVersion" | "kind") {
            continue;
        }
        if name == "metadata" {
            let mut below = Parts::default();
            let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let owned = |name: &str| !UNOWNED.contains(&name);
            fields(place.field(name), old.unwrap_or(&empty), new.unwrap_or(&empty), owned, &mut below);
            parts.absorb(|| element::field(name), below.done());
        } else {
            parts.absorb(|| element::field(name), field(place, name, old, new));
        }
    }
    Comparison { added: Set(parts.added), modified: Set(parts.modified), removed: Set(parts.removed) }
}

/// The entries of two maps, by name.
fn zip<'a>(
    old: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let both = old.iter().map(|(name, value)| (name.as_str(), Some(value), new.get(name)));
    let only = new.iter().filter(|(name, _)| !old.contains_key(*name));
    both.chain(only.map(|(name, value)| (name.as_str(), None, Some(value))))
}

fn fields(
    place: Place<'_>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    wanted: impl Fn(&str) -> bool,
    parts: &mut Parts,
) {
    for (name, old, new) in zip(old, new).filter(|(name, ..)| wanted(name)) {
        parts.absorb(|| element::field(name), field(place, name, old, new));
    }
}

fn field(place: Place<'_>, name: &str, old: Option<&Value>, new: Option<&Value>) -> Diff {
    let below = place.field(name);
    match (old, new) {
        (Some(old), Some(new)) => both(below, old, new),
        (Some(value), None) | (None, Some(value)) if place.stands(name) => {
            if is_empty(value) {
                return Diff::default();
            }
            match old {
                Some(old) => both(below, old, &Value::Null),
                None => both(below, &Value::Null, value),
            }
        }
        (old, new) => one(below, old, new),
    }
}

/// What is on one side only.
fn one(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
    Diff {
        added: new.map(|value| everything(place, value)),
        modified: None,
        removed: old.map(|value| everything(place, value)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn leaf(old: &Value, new: &Value) -> Diff {
    Diff { modified: (old != new).then(Node::new), ..Diff::default() }
}

fn both(place: Place<'_>, old: &Value, new: &Value) -> Diff {
    let (before, after) = (place.shape(old), place.shape(new));
    if before != after {
        // Only where no schema says what should be here: another kind of thing than it was.
        let below = |value| node(false, split(everything(place, value)).1);
        return Diff { added: below(new), modified: Some(Node::new()), removed: below(old) };
    }
    if after == Shape::Leaf || (is_empty(old) && is_empty(new)) {
        return leaf(old, new);
    }
    let mut parts = Parts::default();
    if after == Shape::Object {
        let empty = Map::new();
        let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
        fields(place, old, new, |_| true, &mut parts);
    } else if old != new {
        let (old, new) = (index(place, after, old), index(place, after, new));
        items(place.item(), &old, &new, &mut parts);
    }
    parts.done()
}

type Index<'a> = BTreeMap<String, Vec<&'a Value>>;

/// The items of a list by their steps; an item that has none is nobody's.
fn index<'a>(place: Place<'_>, shape: Shape<'_>, list: &'a Value) -> Index<'a> {
    let mut index = Index::new();
    for item in list.as_array().into_iter().flatten() {
        if let Ok(step) = place.element(shape, item) {
            index.entry(step).or_default().push(item);
        }
    }
    index
}

/// Items that stand in a list more than once are one thing that is owned as a whole.
fn items(place: Place<'_>, old: &Index<'_>, new: &Index<'_>, parts: &mut Parts) {
    let none = Vec::new();
    let steps = old.keys().chain(new.keys().filter(|step| !old.contains_key(*step)));
    for step in steps {
        let (before, after) = (old.get(step).unwrap_or(&none), new.get(step).unwrap_or(&none));
        let diff = match (before.as_slice(), after.as_slice()) {
            ([old], [new]) => both(place, old, new),
            ([], [new]) => one(place, None, Some(new)),
            ([old], []) => one(place, Some(old), None),
            ([], many) if !many.is_empty() => Diff { added: Some(Node::new()), ..Diff::default() },
            ([old], _) => Diff { added: Some(Node::new()), ..one(place, Some(old), None) },
            (_, [new]) => Diff { removed: Some(Node::new()), ..one(place, None, Some(new)) },
            (_, []) => Diff { removed: Some(Node::new()), ..Diff::default() },
            (before, after) => Diff { modified: (before != after).then(Node::new), ..Diff::default() },
        };
        parts.absorb(|| step.clone(), diff);
    }
}

/// The node of a value that is new as a whole: each part of it, and whatever holds them.
fn everything(place: Place<'_>, value: &Value) -> Node {
    let mut found = Node::new();
    match (place.shape(value), value) {
        (Shape::Object, Value::Object(map)) => {
            for (name, value) in map {
                found.insert(element::field(name), Value::Object(everything(place.field(name), value)));
            }
        }
        (shape @ (Shape::Keyed(_) | Shape::Set), list @ Value::Array(_)) => {
            for (step, items) in index(place, shape, list) {
                let below = match items.as_slice() {
                    [item] => everything(place.item(), item),
                    _ => Node::new(),
                };
                found.insert(step, Value::Object(below));
            }
        }
        _ => {}
    }
    node(true, found).unwrap_or_default()
}
