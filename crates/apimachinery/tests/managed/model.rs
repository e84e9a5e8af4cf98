//! A model of apply that is too simple to be fast: objects are maps from whole paths to leaves, owners sets of whole paths.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// What a part of a schema is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A number.
    Scalar,
    /// A list that is replaced as a whole.
    Atomic,
    /// An object that is replaced as a whole.
    AtomicMap,
    /// Each word once.
    Set,
    /// Entries of any name.
    Map(Box<Kind>),
    /// Named fields.
    Struct(Vec<(String, Kind)>),
    /// Objects of those fields, told apart by their `name`.
    Keyed(Vec<(String, Kind)>),
}

impl Kind {
    pub(crate) fn schema(&self) -> Value {
        let fields = |fields: &[(String, Kind)]| -> Map<String, Value> {
            fields.iter().map(|(name, kind)| (name.clone(), kind.schema())).collect()
        };
        match self {
            Kind::Scalar => json!({"type": "integer"}),
            Kind::Atomic => json!({"type": "array", "items": {"type": "integer"}}),
            Kind::AtomicMap => json!({"type": "object", "additionalProperties": {"type": "integer"},
                "x-kubernetes-map-type": "atomic"}),
            Kind::Set => {
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"})
            }
            Kind::Map(inner) => json!({"type": "object", "additionalProperties": inner.schema()}),
            Kind::Struct(inner) => json!({"type": "object", "properties": fields(inner)}),
            Kind::Keyed(inner) => {
                let mut properties = fields(inner);
                properties.insert("name".into(), json!({"type": "string"}));
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": properties}})
            }
        }
    }
}

/// `.spec`, `[name="a"]`, …, as people read them.
pub(crate) type Path = Vec<String>;

/// A place in an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spot {
    /// What stands there; nothing for what only holds others.
    pub(crate) leaf: Option<Value>,
    /// A field that the schema names, not an entry or an item.
    pub(crate) named: bool,
}

pub(crate) type Flat = BTreeMap<Path, Spot>;
pub(crate) type Paths = BTreeSet<Path>;

/// Every place of an object.
pub(crate) fn flat(kind: &Kind, object: &Value) -> Flat {
    let mut all = Flat::new();
    walk(kind, object, &mut Path::new(), true, &mut all);
    all.remove(&Path::new());
    all
}

fn walk(kind: &Kind, value: &Value, path: &mut Path, named: bool, all: &mut Flat) {
    let mut go = |step: String, kind: &Kind, value: &Value, named: bool| {
        path.push(step);
        walk(kind, value, path, named, all);
        path.pop();
    };
    let is_leaf = match (kind, value) {
        (Kind::Map(inner), Value::Object(map)) => {
            map.iter().for_each(|(name, value)| go(format!(".{name}"), inner, value, false));
            false
        }
        (Kind::Struct(fields), Value::Object(map)) => {
            for (name, kind) in fields {
                if let Some(value) = map.get(name) {
                    go(format!(".{name}"), kind, value, true);
                }
            }
            false
        }
        (Kind::Keyed(fields), Value::Array(items)) => {
            let mut fields = fields.clone();
            fields.push(("name".into(), Kind::Scalar));
            let item = Kind::Struct(fields);
            items.iter().for_each(|each| go(format!("[name={}]", each["name"]), &item, each, false));
            false
        }
        (Kind::Set, Value::Array(items)) => {
            items.iter().for_each(|item| go(format!("[={item}]"), &Kind::Scalar, item, false));
            false
        }
        _ => true,
    };
    all.insert(path.clone(), Spot { leaf: is_leaf.then(|| value.clone()), named });
}

/// One who writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) name: &'static str,
    pub(crate) applies: bool,
}

/// An object and its owners.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) object: Flat,
    pub(crate) owners: BTreeMap<Owner, Paths>,
}

/// What is owned by saying it: leaves, entries and items.
fn said(object: &Flat) -> Paths {
    object
        .iter()
        .filter(|(_, spot)| spot.leaf.is_some() || !spot.named)
        .map(|(path, _)| path.clone())
        .collect()
}

/// With the named fields that lead there.
fn with_named(object: &Flat, paths: &Paths) -> Paths {
    let mut all = paths.clone();
    for path in paths {
        for length in 1..path.len() {
            let way = path[..length].to_vec();
            // Named fields begin with a dot, as entries of maps do; what the object has not cannot be told, nor needs to.
            if object.get(&way).is_some_and(|spot| spot.named) {
                all.insert(way);
            }
        }
    }
    all
}

/// Without those paths and what is below them. What held something and holds nothing any more is null.
fn without(object: &Flat, doomed: &Paths) -> Flat {
    let is_doomed = |path: &Path| (1..=path.len()).any(|length| doomed.contains(&path[..length]));
    let mut left: Flat = object
        .iter()
        .filter(|(path, _)| !is_doomed(path))
        .map(|(path, spot)| (path.clone(), spot.clone()))
        .collect();
    let holds =
        |flat: &Flat, path: &Path| flat.keys().any(|each| each.len() > path.len() && each.starts_with(path));
    let bare: Vec<Path> = left
        .iter()
        .filter(|(path, spot)| spot.leaf.is_none() && holds(object, path) && !holds(&left, path))
        .map(|(path, _)| path.clone())
        .collect();
    for path in bare {
        left.get_mut(&path).unwrap().leaf = Some(Value::Null);
    }
    left
}

/// What is new or otherwise in the second, and what it has not any more.
fn changes(old: &Flat, new: &Flat) -> (Paths, Paths) {
    let is_null = |spot: &Spot| spot.leaf.as_ref().is_none_or(Value::is_null);
    let differs = |old: &Spot, new: &Spot| old.leaf != new.leaf && !(is_null(old) && is_null(new));
    let taken = new.iter().filter(|(path, spot)| old.get(*path).is_none_or(|old| differs(old, spot)));
    let removed = old.keys().filter(|path| !new.contains_key(*path));
    (taken.map(|(path, _)| path.clone()).collect(), removed.cloned().collect())
}

impl World {
    /// Nulls go when an object is stored.
    fn store(&mut self, object: Flat) {
        self.object = object.into_iter().filter(|(_, spot)| spot.leaf != Some(Value::Null)).collect();
    }

    fn take(&mut self, but: Option<&Owner>, paths: &[&Paths]) {
        for (owner, owned) in &mut self.owners {
            if Some(owner) != but {
                owned.retain(|path| !paths.iter().any(|paths| paths.contains(path)));
            }
        }
        self.owners.retain(|_, owned| !owned.is_empty());
    }

    pub(crate) fn update(&mut self, name: &'static str, new: Flat) {
        let (taken, removed) = changes(&self.object, &new);
        self.take(None, &[&taken, &removed]);
        if !taken.is_empty() {
            self.owners.entry(Owner { name, applies: false }).or_default().extend(taken);
        }
        self.store(new);
    }

    /// The paths that others own, if there are any and they may not be taken.
    pub(crate) fn apply(&mut self, name: &'static str, config: &Flat, force: bool) -> Result<(), Paths> {
        let me = Owner { name, applies: true };
        let mut merged = self.object.clone();
        merged.extend(config.iter().map(|(path, spot)| (path.clone(), spot.clone())));
        let mine = said(config);
        let last = self.owners.get(&me).cloned().unwrap_or_default();
        let others: Vec<&Paths> =
            self.owners.iter().filter(|(owner, _)| **owner != me).map(|(_, paths)| paths).collect();
        let new = if last.is_empty() { merged } else { pruned(&merged, &last, &mine, &others) };
        let (taken, removed) = changes(&self.object, &new);
        let conflicts: Paths = others.iter().flat_map(|paths| paths.intersection(&taken)).cloned().collect();
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        self.take(Some(&me), &[&taken, &removed]);
        self.owners.insert(me, mine);
        self.owners.retain(|_, owned| !owned.is_empty());
        self.store(new);
        Ok(())
    }
}

fn pruned(merged: &Flat, last: &Paths, mine: &Paths, others: &[&Paths]) -> Flat {
    let minus = |a: &Paths, b: &Paths| -> Paths { a.difference(b).cloned().collect() };
    let last = with_named(merged, last);
    let everything = with_named(merged, &said(merged));
    let mut owned = mine.clone();
    others.iter().for_each(|paths| owned.extend(paths.iter().cloned()));
    let owned = with_named(merged, &owned);
    let left = |object: &Flat| minus(&everything, &with_named(merged, &said(object)));
    let first = without(merged, &last);
    let second = without(merged, &minus(&left(&first), &owned));
    let doomed: Paths = left(&second).intersection(&last).cloned().collect();
    without(merged, &doomed)
}
