//! What an update left as it was (upstream: `apiserver/pkg/cel/common/equality.go`).

use apimachinery::schema::{ListType, Ref, Schema};
use serde_json::Value;

/// A value and the older one that it is compared to, with their schema.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) new: &'a Value,
    pub(super) old: &'a Value,
    pub(super) schema: &'a Schema,
}

/// Where a value stands between an object and the one that it replaces.
#[derive(Clone, Copy, Default)]
pub(super) struct Correlation<'a> {
    /// The value with its counterpart, if it has one.
    pub(super) current: Option<Pair<'a>>,
    /// The nearest value above that has one.
    pub(super) parent: Option<Pair<'a>>,
}

impl<'a> Correlation<'a> {
    /// Of an object that replaces another.
    pub(super) fn root(new: &'a Value, old: Option<&'a Value>, schema: &'a Schema) -> Self {
        Self { current: old.map(|old| Pair { new, old, schema }), parent: None }
    }

    /// Whether nothing changed here: what is wrong was wrong before.
    pub(super) fn is_unchanged(&self) -> bool {
        self.current.or(self.parent).is_some_and(|pair| pair.is_equal())
    }

    /// The same without a counterpart of its own.
    pub(super) fn detached(&self) -> Self {
        Self { current: None, parent: self.parent }
    }

    /// An entry of the object here.
    pub(super) fn key(&self, name: &str) -> Self {
        let Some(pair) = self.current else { return *self };
        // Both are in the version of the request: a change of it would not show.
        if self.parent.is_none() && ["apiVersion", "kind"].contains(&name) {
            return Self::default();
        }
        Self { current: pair.key(name), parent: Some(pair) }
    }

    /// An item of the list here.
    pub(super) fn index(&self, index: usize) -> Self {
        let Some(pair) = self.current else { return *self };
        Self { current: pair.index(index), parent: Some(pair) }
    }
}

impl<'a> Pair<'a> {
    fn key(&self, name: &str) -> Option<Self> {
        let (new, old) = (self.new.get(name)?, self.old.get(name)?);
        let schema = self.schema.child(name)?;
        Some(Self { new, old, schema })
    }

    fn index(&self, index: usize) -> Option<Self> {
        let new = self.new.as_array()?.get(index)?;
        let old = counterpart(self.schema, self.old.as_array()?, new)?;
        Some(Self { new, old, schema: self.schema.items.as_ref().map(Ref::get)? })
    }

    /// Whether they are the same; items of lists of type map are found by their keys.
    fn is_equal(&self) -> bool {
        match (self.new, self.old) {
            (Value::Array(new), Value::Array(old)) if self.schema.list_type == Some(ListType::Map) => {
                new.len() == old.len()
                    && (0..new.len()).all(|index| self.index(index).is_some_and(|pair| pair.is_equal()))
            }
            (Value::Object(new), Value::Object(old)) => {
                new.len() == old.len()
                    && new.keys().all(|name| self.key(name).is_some_and(|pair| pair.is_equal()))
            }
            (new, old) => new == old,
        }
    }
}

/// The item of an older list that has the same keys, of a list of type map.
pub(super) fn counterpart<'a>(schema: &Schema, old: &'a [Value], item: &Value) -> Option<&'a Value> {
    if schema.list_type != Some(ListType::Map) || schema.list_map_keys.is_empty() {
        return None;
    }
    let keys = |item: &'_ Value| -> bool {
        schema.list_map_keys.iter().all(|key| {
            item.get(key.as_ref())
                .is_some_and(|value| !value.is_object() && !value.is_array() && !value.is_null())
        })
    };
    if !keys(item) {
        return None;
    }
    let same = |old: &&Value| {
        keys(old) && schema.list_map_keys.iter().all(|key| old.get(key.as_ref()) == item.get(key.as_ref()))
    };
    old.iter().find(same)
}
