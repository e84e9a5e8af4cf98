//! Random schemas, objects and managers: what the field manager does is what the model does.

use std::collections::BTreeMap;

use apimachinery::field::Path;
use apimachinery::managed::{ApplyError, Entry, Operation, Place, Reset, Writer, decode, encode};
use apimachinery::schema::Schema;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::model::{Flat, Kind, Owner, Paths, World, flat};

const MANAGERS: [&str; 3] = ["ada", "bob", "cyd"];

#[derive(Clone, Debug)]
enum Step {
    Apply { who: usize, config: Value, force: bool },
    Update { who: usize, object: Value },
}

fn kind() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![Just(Kind::Scalar), Just(Kind::Atomic), Just(Kind::AtomicMap), Just(Kind::Set)];
    leaf.prop_recursive(3, 10, 3, |inner| {
        let fields = prop::collection::btree_map("[a-c]", inner.clone(), 1..4)
            .prop_map(|fields| fields.into_iter().collect::<Vec<_>>());
        prop_oneof![
            inner.prop_map(|inner| Kind::Map(Box::new(inner))),
            fields.clone().prop_map(Kind::Struct),
            fields.prop_map(Kind::Keyed),
        ]
    })
}

/// An object of three fields of any kind.
fn root() -> impl Strategy<Value = Kind> {
    prop::collection::vec(kind(), 3).prop_map(|kinds| {
        let names = ["x", "y", "z"].map(String::from);
        Kind::Struct(names.into_iter().zip(kinds).collect())
    })
}

/// A value of the kind, chosen by a stream of numbers; none is empty.
fn value(kind: &Kind, dice: &mut impl Iterator<Item = u8>) -> Value {
    let mut roll = |most: u8| dice.next().unwrap_or_default() % most;
    match kind {
        Kind::Scalar => Value::from(roll(3)),
        Kind::Atomic => (0..=roll(2)).map(|_| Value::from(roll(2))).collect(),
        Kind::AtomicMap => json!({ (["p", "q"][usize::from(roll(2))]): roll(2) }),
        Kind::Set => match roll(3) {
            0 => json!(["u"]),
            1 => json!(["v"]),
            _ => json!(["u", "v"]),
        },
        Kind::Map(inner) => {
            let wanted = 1 + roll(3);
            object(
                ["m", "n"]
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| wanted >> at & 1 == 1)
                    .map(|(_, name)| ((*name).to_owned(), value(inner, dice))),
            )
        }
        Kind::Struct(fields) => some_fields(fields, dice),
        Kind::Keyed(fields) => {
            let wanted = 1 + roll(3);
            let mut items = Vec::new();
            for (at, name) in ["k", "l"].iter().enumerate() {
                if wanted >> at & 1 == 1 {
                    let mut item = some_fields(fields, dice);
                    item["name"] = json!(name);
                    items.push(item);
                }
            }
            Value::Array(items)
        }
    }
}

fn some_fields(fields: &[(String, Kind)], dice: &mut impl Iterator<Item = u8>) -> Value {
    let must = usize::from(dice.next().unwrap_or_default()) % fields.len();
    let mut map = Map::new();
    for (at, (name, kind)) in fields.iter().enumerate() {
        if at == must || dice.next().unwrap_or_default().is_multiple_of(2) {
            map.insert(name.clone(), value(kind, dice));
        }
    }
    Value::Object(map)
}

fn object(entries: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Object(entries.collect())
}

fn steps() -> impl Strategy<Value = (Kind, Vec<Step>)> {
    let step =
        (0..3usize, any::<bool>(), any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 60));
    (root(), prop::collection::vec(step, 1..8)).prop_map(|(kind, steps)| {
        let steps = steps.into_iter().map(|(who, applies, often, force, dice)| {
            let said = value(&kind, &mut dice.into_iter());
            if applies || often {
                Step::Apply { who, config: said, force }
            } else {
                Step::Update { who, object: said }
            }
        });
        let steps = steps.collect();
        (kind, steps)
    })
}

/// What storing does to an object.
fn stored(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let map: Map<String, Value> =
                map.into_iter().filter_map(|(name, value)| Some((name, stored(value)?))).collect();
            Some(Value::Object(map))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(stored).collect())),
        other => Some(other),
    }
}

fn owners(entries: &[Entry]) -> BTreeMap<Owner, Vec<String>> {
    let each = entries.iter().map(|entry| {
        let name = MANAGERS.into_iter().find(|name| *name == entry.manager).unwrap();
        let mut paths = entry.fields.paths();
        paths.sort();
        (Owner { name, applies: entry.operation == Operation::Apply }, paths)
    });
    each.collect()
}

fn shown(paths: &Paths) -> Vec<String> {
    let mut paths: Vec<String> = paths.iter().map(|path| path.concat()).collect();
    paths.sort();
    paths
}

/// A real object with its managers, and the model of it.
struct Both<'a> {
    kind: &'a Kind,
    place: Place<'a>,
    object: Value,
    entries: Vec<Entry>,
    model: World,
}

impl Both<'_> {
    fn flat(&self, object: &Value) -> Flat {
        flat(self.kind, object)
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let who = match step {
            Step::Apply { who, .. } | Step::Update { who, .. } => MANAGERS[*who],
        };
        let (api_version, subresource, now, reset) = ("x/v1", "", "2026-01-01T00:00:00Z", Reset::Nothing);
        let writer = Writer { place: self.place, manager: who, api_version, subresource, reset, now };
        match step {
            Step::Update { object, .. } => {
                let known = self.entries.clone();
                if let Some(entries) = writer.update(Some(&self.object), object, || known) {
                    self.entries = entries;
                }
                self.object = object.clone();
                self.model.update(who, flat(self.kind, object));
            }
            Step::Apply { config, force, .. } => {
                let wanted = self.model.apply(who, &flat(self.kind, config), *force);
                match writer.apply(&self.object, self.entries.clone(), config, *force) {
                    Ok(done) => {
                        prop_assert_eq!(wanted, Ok(()));
                        self.entries = done.entries;
                        self.object = stored(done.object).unwrap();
                    }
                    Err(ApplyError::Conflicts(conflicts)) => {
                        let mut found: Vec<String> = conflicts.into_iter().map(|each| each.path).collect();
                        found.sort();
                        found.dedup();
                        prop_assert_eq!(wanted.map_err(|paths| shown(&paths)), Err(found));
                    }
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                }
            }
        }
        prop_assert_eq!(self.flat(&self.object), self.model.object.clone());
        let modelled: BTreeMap<Owner, Vec<String>> =
            self.model.owners.iter().map(|(owner, paths)| (owner.clone(), shown(paths))).collect();
        prop_assert_eq!(owners(&self.entries), modelled);
        // What is written is read again as it was.
        let written = encode(self.entries.clone()).unwrap_or_default();
        prop_assert_eq!(encode(decode(written.clone(), false).unwrap()).unwrap_or_default(), written);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn fields_are_managed_as_in_the_model((kind, steps) in steps()) {
        let schema = Schema::from_crd(&kind.schema(), None, &Path::empty()).expect("a structural schema");
        let (object, entries, model) = (json!({}), Vec::new(), World::default());
        let place = Place::root(Some(&schema), true);
        let mut both = Both { kind: &kind, place, object, entries, model };
        for step in &steps {
            both.take(step)?;
        }
    }
}
