//! Sets of field paths, kept in the form in which they are written: `fieldsV1`.
//!
//! A node is an object of steps. An empty node is a path that is in the set; a node with steps below it is in the set only
//! if it also has the step `.`. No node is there without a reason. Comparing, joining and taking away work on that form, so
//! what nobody asks about is never decoded.

use serde_json::{Map, Value};

use super::element::{self, ElementError};

/// A node of a set.
pub(super) type Node = Map<String, Value>;

/// The step by which a node with others below it says that it is in the set itself.
pub(super) const ITSELF: &str = ".";

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set(pub(super) Node);

/// Whether the node's own path is in the set.
pub(super) fn is_member(node: &Node) -> bool {
    node.is_empty() || node.contains_key(ITSELF)
}

/// Whether there is anything below the node.
pub(super) fn has_below(node: &Node) -> bool {
    node.len() > usize::from(node.contains_key(ITSELF))
}

/// The steps below the node.
pub(super) fn below(node: &Node) -> impl Iterator<Item = (&String, &Node)> {
    node.iter().filter(|(step, _)| *step != ITSELF).filter_map(|(step, node)| Some((step, node.as_object()?)))
}

/// The node of those steps; none if nothing is left of it.
pub(super) fn node(member: bool, mut below: Node) -> Option<Node> {
    match (member, below.is_empty()) {
        (false, true) => None,
        (true, false) => {
            below.insert(ITSELF.to_owned(), Value::Object(Map::new()));
            Some(below)
        }
        _ => Some(below),
    }
}

/// The node's membership and what is below it.
pub(super) fn split(mut node: Node) -> (bool, Node) {
    let member = is_member(&node);
    node.remove(ITSELF);
    (member, node)
}

fn as_node(value: &mut Value) -> Option<&mut Node> {
    value.as_object_mut()
}

/// Puts the node under that step, if there is one.
pub(super) fn attach(parent: &mut Node, step: &str, node: Option<Node>) {
    if let Some(node) = node {
        parent.insert(step.to_owned(), Value::Object(node));
    }
}

fn join(a: &mut Node, b: Node) {
    let mine = is_member(a);
    let (theirs, b) = split(b);
    a.remove(ITSELF);
    join_below(a, b);
    if (mine || theirs) && !a.is_empty() {
        a.insert(ITSELF.to_owned(), Value::Object(Map::new()));
    }
}

fn join_below(a: &mut Node, b: Node) {
    if a.is_empty() {
        *a = b;
        return;
    }
    for (step, theirs) in b {
        match (a.get_mut(&step).and_then(as_node), theirs) {
            (Some(mine), Value::Object(theirs)) => join(mine, theirs),
            (None, theirs) => {
                a.insert(step, theirs);
            }
            _ => {}
        }
    }
}

/// Takes the other's paths out of the node; false if nothing is left of it.
fn subtract(a: &mut Node, b: &Node) -> bool {
    let member = is_member(a) && !is_member(b);
    a.remove(ITSELF);
    subtract_below(a, b);
    if member && !a.is_empty() {
        a.insert(ITSELF.to_owned(), Value::Object(Map::new()));
    }
    member || !a.is_empty()
}

fn subtract_below(a: &mut Node, b: &Node) {
    for (step, theirs) in below(b) {
        let Some(mine) = a.get_mut(step).and_then(as_node) else { continue };
        if !subtract(mine, theirs) {
            a.remove(step);
        }
    }
}

fn meet(a: &Node, b: &Node) -> Option<Node> {
    node(is_member(a) && is_member(b), meet_below(a, b))
}

fn meet_below(a: &Node, b: &Node) -> Node {
    let mut met = Node::new();
    for (step, theirs) in below(b) {
        if let Some(mine) = a.get(step).and_then(Value::as_object) {
            attach(&mut met, step, meet(mine, theirs));
        }
    }
    met
}

impl Set {
    /// The one path of those field names.
    pub fn of_path(names: &[impl AsRef<str>]) -> Self {
        let leaf = (!names.is_empty()).then(Node::new);
        let whole = names.iter().rev().fold(leaf, |below, name| {
            let mut node = Node::new();
            attach(&mut node, &element::field(name.as_ref()), below);
            Some(node)
        });
        Self(whole.unwrap_or_default())
    }

    /// Reads `fieldsV1` that somebody else wrote. Steps of kinds that are not known are left out, as upstream does.
    ///
    /// # Errors
    /// When it is no `fieldsV1`.
    pub fn read(fields: &Value) -> Result<Self, ElementError> {
        let (_, below) = read(fields)?;
        Ok(Self(below))
    }

    /// Takes `fieldsV1` that was written by [`Set::into_value`].
    pub fn trusted(fields: Value) -> Self {
        match fields {
            Value::Object(node) => Self(node),
            _ => Self::default(),
        }
    }

    /// As `fieldsV1`.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// Whether no path is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is in the other.
    pub fn join(&mut self, other: Self) {
        join_below(&mut self.0, other.0);
    }

    /// Takes out what is in the other. What is above or below its paths stays.
    pub fn subtract(&mut self, other: &Self) {
        subtract_below(&mut self.0, &other.0);
    }

    /// What is in both.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        Self(meet_below(&self.0, &other.0))
    }

    /// Takes out a top-level field with everything below it.
    pub fn drop_field(&mut self, name: &str) {
        self.0.remove(&element::field(name));
    }

    /// Takes out what nobody owns.
    pub(super) fn drop_unowned(&mut self) {
        self.drop_field("apiVersion");
        self.drop_field("kind");
        let Some(metadata) = self.0.get_mut("f:metadata").and_then(as_node) else { return };
        metadata.remove(ITSELF);
        for name in super::UNOWNED {
            metadata.remove(&element::field(name));
        }
        if metadata.is_empty() {
            self.0.remove("f:metadata");
        }
    }

    /// Keeps only what is on the way to or below one of those paths of field names; `*` stands for any step.
    pub fn keep(&mut self, paths: &[&[&str]]) {
        keep(&mut self.0, paths);
    }

    /// Its paths as people read them (`.spec.containers[name="a"].image`): those of a level before those below.
    pub fn paths(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(&self.0, &mut String::new(), &mut all);
        all
    }
}

fn keep(node: &mut Node, paths: &[&[&str]]) {
    node.retain(|step, value| {
        if step == ITSELF {
            return true;
        }
        let mut rest: Vec<&[&str]> = Vec::new();
        for path in paths {
            let Some((first, tail)) = path.split_first() else { return true };
            if *first == "*" || step.strip_prefix("f:") == Some(*first) {
                rest.push(tail);
            }
        }
        if rest.iter().any(|tail| tail.is_empty()) {
            return true;
        }
        let Some(below) = value.as_object_mut().filter(|_| !rest.is_empty()) else { return false };
        let member = is_member(below);
        keep(below, &rest);
        member || has_below(below)
    });
}

fn list(node: &Node, path: &mut String, all: &mut Vec<String>) {
    let length = path.len();
    for (step, _) in below(node).filter(|(_, node)| is_member(node)) {
        element::show(step, path);
        all.push(path.clone());
        path.truncate(length);
    }
    for (step, next) in below(node).filter(|(_, node)| has_below(node)) {
        element::show(step, path);
        list(next, path, all);
        path.truncate(length);
    }
}

/// Whether the node itself is in the set, and what is below it.
fn read(fields: &Value) -> Result<(bool, Node), ElementError> {
    let Value::Object(map) = fields else {
        let nothing = fields.is_null().then(|| (true, Node::new()));
        return nothing.ok_or_else(|| ElementError(format!("expected an object, got {fields}")));
    };
    let (mut member, mut found) = (map.contains_key(ITSELF), Node::new());
    for (step, value) in map.iter().filter(|(step, _)| *step != ITSELF) {
        let Some(step) = element::read(step)? else { continue };
        let (is_member, below) = read(value)?;
        let Some(new) = node(is_member, below) else { continue };
        match found.get_mut(&step).and_then(as_node) {
            Some(known) => join(known, new),
            None => attach(&mut found, &step, Some(new)),
        }
    }
    if found.is_empty() {
        member = true;
    }
    Ok((member, found))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> Set {
        Set::read(&value).unwrap()
    }

    #[test]
    fn members_and_what_is_below_them_are_apart() {
        let all = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}}}));
        assert_eq!(all.paths(), [".a", ".a.b", ".c.d"]);
        assert_eq!(Set::of_path(&["c", "d"]), set(json!({"f:c": {"f:d": {}}})));
        assert!(Set::of_path(&[""; 0]).is_empty());
        let mut left = all.clone();
        left.subtract(&set(json!({"f:a": {}})));
        assert_eq!(left.into_value(), json!({"f:a": {"f:b": {}}, "f:c": {"f:d": {}}}));
        let mut left = all.clone();
        left.subtract(&set(json!({"f:a": {"f:b": {}}, "f:c": {"f:d": {}}})));
        assert_eq!(left.into_value(), json!({"f:a": {}}));
        assert_eq!(all.meet(&set(json!({"f:a": {}, "f:c": {}}))).into_value(), json!({"f:a": {}}));
        let mut both = set(json!({"f:a": {}}));
        both.join(set(json!({"f:a": {"f:b": {}}})));
        assert_eq!(both.into_value(), json!({"f:a": {".": {}, "f:b": {}}}));
    }

    #[test]
    fn filters_keep_the_way_and_what_is_below() {
        let mut all = set(json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:containers":
            {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:resources": {"f:limits": {}}}}, "f:x": {}}}));
        all.keep(&[&["spec", "containers", "*", "resources"]]);
        let expected = json!({"f:spec": {"f:containers":
            {"k:{\"name\":\"a\"}": {".": {}, "f:resources": {"f:limits": {}}}}}});
        assert_eq!(all.into_value(), expected);
        let mut owned =
            set(json!({"f:kind": {}, "f:metadata": {".": {}, "f:name": {}, "f:labels": {"f:a": {}}}}));
        owned.drop_unowned();
        assert_eq!(owned.into_value(), json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
    }

    fn any_set() -> impl Strategy<Value = Set> {
        let leaf = Just(Value::Object(Map::new()));
        let tree = leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map(prop::sample::select(vec!["f:a", "f:b", "v:1", "."]), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
        });
        tree.prop_map(|value| Set::read(&value).unwrap())
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_paths(a in any_set(), b in any_set()) {
            let paths = |set: &Set| set.paths().into_iter().collect::<BTreeSet<_>>();
            let (mut joined, mut left) = (a.clone(), a.clone());
            joined.join(b.clone());
            left.subtract(&b);
            prop_assert_eq!(paths(&joined), &paths(&a) | &paths(&b));
            prop_assert_eq!(paths(&left), &paths(&a) - &paths(&b));
            prop_assert_eq!(paths(&a.meet(&b)), &paths(&a) & &paths(&b));
            for each in [&joined, &left, &a.meet(&b)] {
                prop_assert_eq!(&Set::read(&each.clone().into_value()).unwrap(), each, "canonical");
            }
        }
    }
}
