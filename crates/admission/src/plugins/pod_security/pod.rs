//! A pod, or what one is made from, as the checks look at it.

use serde_json::Value;

use crate::tree::{at, entries, items, text};

/// Metadata and spec.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'a>(&'a Value);

/// A container of any kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a>(pub(super) &'a Value);

impl<'a> Pod<'a> {
    pub(super) fn new(object: &'a Value) -> Self {
        Self(object)
    }

    /// A field of the spec.
    pub(super) fn field(&self, path: &[&str]) -> Option<&'a Value> {
        at(self.0.get("spec")?, path).filter(|value| !value.is_null())
    }

    pub(super) fn is_true(&self, path: &[&str]) -> bool {
        self.field(path) == Some(&Value::Bool(true))
    }

    pub(super) fn items(&self, path: &[&str]) -> &'a [Value] {
        self.0.get("spec").map_or(&[], |spec| items(spec, path))
    }

    /// All of them, in the order in which upstream names them.
    pub(super) fn containers(&self) -> impl Iterator<Item = Container<'a>> + use<'a> {
        let pod = *self;
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(move |list| pod.items(&[list])).map(Container)
    }

    /// The names of those of which something holds.
    pub(super) fn those(&self, mut holds: impl FnMut(Container<'a>) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| holds(*container)).map(|container| container.name()).collect()
    }

    pub(super) fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let all = entries(self.0, &["metadata", "annotations"]);
        all.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
    }

    /// With users of its own, its root is nobody on the machine.
    pub(super) fn has_own_users(&self) -> bool {
        self.field(&["hostUsers"]) == Some(&Value::Bool(false))
    }

    pub(super) fn is_windows(&self) -> bool {
        self.field(&["os", "name"]).and_then(Value::as_str) == Some("windows")
    }
}

impl<'a> Container<'a> {
    pub(super) fn name(&self) -> &'a str {
        text(self.0, &["name"])
    }

    /// A field of its security context.
    pub(super) fn security(&self, path: &[&str]) -> Option<&'a Value> {
        at(self.0.get("securityContext")?, path).filter(|value| !value.is_null())
    }

    pub(super) fn words(&self, path: &[&str]) -> impl Iterator<Item = &'a str> + use<'a> {
        let all = self.0.get("securityContext").map_or(&[][..], |security| items(security, path));
        all.iter().filter_map(Value::as_str)
    }
}
