//! The paths of a tree: what somebody owns who applies it.

use serde_json::Value;

use super::element;
use super::place::{Place, Shape};
use super::set::{ITSELF, Node, Set, attach, has_below, is_member, node};

/// The paths of an object.
pub(super) fn fields(place: Place<'_>, object: &Value) -> Set {
    Set(walk(place, object).1)
}

/// Whether the value itself is owned, and what is below it.
fn walk(place: Place<'_>, value: &Value) -> (bool, Node) {
    let mut found = Node::new();
    match (place.shape(value), value) {
        (Shape::Leaf, _) => return (true, found),
        (Shape::Object, Value::Object(map)) => {
            for (name, value) in map {
                let (member, below) = walk(place.field(name), value);
                let bare = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                attach(&mut found, &element::field(name), node(member || bare || !place.names(name), below));
            }
        }
        (shape @ (Shape::Keyed(_) | Shape::Set), Value::Array(items)) => {
            for item in items {
                let Ok(step) = place.element(shape, item) else { continue };
                // An item that is there twice is owned as one.
                let below = if found.contains_key(&step) { Node::new() } else { walk(place.item(), item).1 };
                attach(&mut found, &step, node(true, below));
            }
        }
        _ => {}
    }
    (false, found)
}

/// Adds the named fields that only lead to members: they go when all that they hold goes.
pub(super) fn with_named(place: Place<'_>, mut set: Set) -> Set {
    add_named(place, &mut set.0);
    set
}

fn add_named(place: Place<'_>, node: &mut Node) {
    for (step, value) in node.iter_mut().filter(|(step, _)| *step != ITSELF) {
        let Some(below) = value.as_object_mut() else { continue };
        add_named(place.step(step), below);
        let named = step.strip_prefix("f:").is_some_and(|name| place.names(name));
        if named && has_below(below) && !is_member(below) {
            below.insert(ITSELF.to_owned(), Value::Object(Node::new()));
        }
    }
}

/// Brings a set in line with a schema that has changed since: what has become a whole is owned as one.
pub(super) fn reconcile(place: Place<'_>, set: &mut Set) {
    reconcile_node(place, &mut set.0);
}

fn reconcile_node(place: Place<'_>, node: &mut Node) {
    for (step, value) in node.iter_mut().filter(|(step, _)| *step != ITSELF) {
        let (below, Some(node)) = (place.step(step), value.as_object_mut()) else { continue };
        if below.is_atomic() && has_below(node) {
            node.clear();
        } else if below.schema().is_some() {
            reconcile_node(below, node);
        }
    }
}
