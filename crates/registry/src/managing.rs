//! Who manages which fields of an object: how writes keep `metadata.managedFields`.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::managed::{self, Elsewhere, Entry, Place, Reset, Set, Writer};
use apimachinery::schema::Ref;
use apimachinery::status::Status;
use serde_json::Value;

use crate::tree::{at, items, object, text};
use crate::{Kind, Kinds, Part, Registry, RequestContext};

const FIELD: &str = "managedFields";
/// Longest name of a manager, in bytes.
const MAX_MANAGER: usize = 128;
/// Longest name of a subresource, in bytes.
const MAX_SUBRESOURCE: usize = 256;

/// What may change through a part of a pod that is about its containers' resources.
const RESIZED: &[&[&str]] = &[
    &["spec", "containers", "*", "resources"],
    &["spec", "containers", "*", "resizePolicy"],
    &["spec", "initContainers", "*", "resources"],
    &["spec", "initContainers", "*", "resizePolicy"],
];

/// A write, as the field manager sees it: borrowed parts of it need a place to live.
pub(crate) struct Writing<'a> {
    kind: &'a Kind,
    part: Part,
    manager: &'a str,
    kinds: Arc<Kinds>,
    api_version: String,
    now: String,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(cx: &'a RequestContext, registry: &Registry, kind: &'a Kind, part: Part) -> Self {
        let (api_version, now) = (kind.api_version(), apimachinery::time::format(cx.now));
        Self { kind, part, manager: &cx.field_manager, kinds: registry.kinds(), api_version, now }
    }

    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer {
            place: Place::root(self.kind.schema.as_ref().map(Ref::get), self.kind.custom),
            manager: self.manager,
            api_version: &self.api_version,
            subresource: self.part.name(),
            reset: reset(self.kind, self.part),
            now: &self.now,
        }
    }

    /// Writes down who owns what of a new object.
    pub(crate) fn created(&self, body: &mut Value) -> Result<(), Status> {
        let given = take(body).filter(|given| !managed::is_reset(given));
        let entries = given.and_then(|given| managed::decode(given, false).ok()).unwrap_or_default();
        self.check(&entries, body)?;
        let after = self.writer().update(None, body, || entries.clone());
        put(body, managed::encode(after.unwrap_or(entries)));
        Ok(())
    }

    /// The managers of an object, but for those of versions that are served no longer: nobody knows what they own.
    pub(crate) fn known(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let is_served = |version: &str| {
            let mut kinds = self.kinds.all().iter();
            version == self.api_version
                || kinds.any(|kind| {
                    Arc::ptr_eq(&kind.resource, &self.kind.resource) && kind.api_version() == version
                })
        };
        entries.into_iter().filter(|entry| is_served(&entry.api_version)).collect()
    }

    /// Whether names that a client writes down itself are such as managers have.
    fn check(&self, given: &[Entry], body: &Value) -> Result<(), Status> {
        let mut errors = Vec::new();
        for (index, entry) in given.iter().enumerate() {
            let path = Path::new("metadata");
            let path = path.child(FIELD);
            let path = path.index(index);
            if entry.manager.len() > MAX_MANAGER {
                errors.push(FieldError::too_long(&path.child("manager"), MAX_MANAGER));
            }
            if entry.manager.contains(char::is_control) {
                let why = "must be printable";
                errors.push(FieldError::invalid(&path.child("manager"), entry.manager.as_str(), why));
            }
            if entry.subresource.len() > MAX_SUBRESOURCE {
                errors.push(FieldError::too_long(&path.child("subresource"), MAX_SUBRESOURCE));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        let name = apimachinery::meta::name(body);
        Err(Status::invalid(&self.kind.resource.kind, name, errors))
    }

    /// Writes down who owns what of an object after `old` became `new`. An object that has no managers gets none by this.
    pub(crate) fn changed(&self, old: &Value, new: &mut Value, others: &Others) -> Result<(), Status> {
        let known = at(old, &["metadata", FIELD]);
        let given = take(new);
        // Who writes through a subresource has no say in this, and who says nothing does not mean it.
        let given = given.filter(|_| self.part == Part::Whole);
        if given.as_ref().is_some_and(managed::is_reset) {
            return Ok(());
        }
        let said = given.filter(|given| Some(given) != known);
        let said = said.and_then(|given| managed::decode(given, false).ok()).filter(|said| !said.is_empty());
        if said.is_none() && known.is_none() {
            return Ok(());
        }
        self.check(said.as_deref().unwrap_or_default(), new)?;
        let entries = || match &said {
            Some(said) => self.known(said.clone()),
            None => self.known(stored(known)),
        };
        let after = match self.writer().update_among(Some(old), new, entries, &others.seen()) {
            Some(entries) => managed::encode(entries),
            None => match said {
                Some(said) => managed::encode(said),
                None => known.cloned(),
            },
        };
        put(new, after);
        Ok(())
    }
}

/// A change as it looks in the versions that some managers wrote the object in.
#[derive(Default)]
pub(crate) struct Others(Vec<Other>);

struct Other {
    kind: Arc<Kind>,
    api_version: String,
    old: Value,
    new: Value,
}

impl Others {
    pub(crate) fn seen(&self) -> Vec<Elsewhere<'_>> {
        let each = self.0.iter().map(|other| Elsewhere {
            api_version: &other.api_version,
            place: Place::root(other.kind.schema.as_ref().map(Ref::get), other.kind.custom),
            old: Some(&other.old),
            new: &other.new,
        });
        each.collect()
    }
}

impl Writing<'_> {
    /// The change from `old` to `new` in those of these versions that are served and not the one that is written.
    ///
    /// # Errors
    /// When it cannot be converted.
    pub(crate) async fn others<'v>(
        &self,
        versions: impl Iterator<Item = &'v str>,
        old: &Value,
        new: &Value,
    ) -> Result<Others, Status> {
        let mut wanted: Vec<&str> = versions.filter(|version| *version != self.api_version).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut others = Vec::new();
        for version in wanted {
            let mut kinds = self.kinds.all().iter();
            let found = kinds.find(|kind| {
                Arc::ptr_eq(&kind.resource, &self.kind.resource) && kind.api_version() == version
            });
            let Some(kind) = found else { continue };
            let mut converted = self.kind.converted_to(kind, [old, new]).await?.into_iter();
            if let (Some(old), Some(new)) = (converted.next(), converted.next()) {
                others.push(Other { kind: kind.clone(), api_version: version.to_owned(), old, new });
            }
        }
        Ok(Others(others))
    }
}

/// The versions that the managers of an object wrote it in.
pub(crate) fn versions_of(object: &Value) -> impl Iterator<Item = &str> {
    items(object, &["metadata", FIELD]).iter().map(|entry| text(entry, &["apiVersion"]))
}

/// What the server wrote down itself.
pub(crate) fn stored(known: Option<&Value>) -> Vec<Entry> {
    known.and_then(|known| managed::decode(known.clone(), true).ok()).unwrap_or_default()
}

/// The stored managers of an object.
pub(crate) fn entries_of(object: &Value) -> Vec<Entry> {
    stored(at(object, &["metadata", FIELD]))
}

/// What the managers of an object's replicas own of its scale.
pub(crate) fn of_scale(object: &Value, replicas: &[String]) -> Option<Value> {
    let path = Set::of_path(replicas);
    let owners = entries_of(object).into_iter().filter(|entry| !entry.fields.meet(&path).is_empty());
    let of_scale = owners.map(|entry| Entry {
        api_version: "autoscaling/v1".into(),
        fields: Set::of_path(&["spec", "replicas"]),
        ..entry
    });
    managed::encode(of_scale.collect())
}

/// The object without its managers, if it has any.
pub(crate) fn without(object: &Value) -> Option<Value> {
    at(object, &["metadata", FIELD])?;
    let mut lean = object.clone();
    take(&mut lean);
    Some(lean)
}

/// Takes `managedFields` out of an object.
pub(crate) fn take(body: &mut Value) -> Option<Value> {
    body.get_mut("metadata")?.as_object_mut()?.remove(FIELD)
}

/// Puts `managedFields` into an object in place of those that it has.
pub(crate) fn put(body: &mut Value, managed: Option<Value>) {
    let metadata = object(body, "metadata");
    match managed {
        Some(managed) => metadata.insert(FIELD.into(), managed),
        None => metadata.remove(FIELD),
    };
}

/// Puts the old managers back if nothing but their times has changed: a write that says nothing new is none.
pub(crate) fn forget_times(old: &Value, new: &mut Value) {
    let (Some(before), Some(after)) = (at(old, &["metadata", FIELD]), at(new, &["metadata", FIELD])) else {
        return;
    };
    if before == after || !is_same_but_times(before, after) {
        return;
    }
    let (before, after) = (Some(before.clone()), take(new));
    put(new, before);
    if new != old {
        put(new, after);
    }
}

fn is_same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_array(), b.as_array()) else { return false };
    fn rest(entry: &Value) -> impl Iterator<Item = (&String, &Value)> {
        entry.as_object().into_iter().flatten().filter(|(name, _)| *name != "time")
    }
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| rest(a).eq(rest(b)))
}

/// What a write to that part cannot change.
fn reset(kind: &Kind, part: Part) -> Reset {
    match part {
        Part::Whole if kind.rules.status => Reset::Fields(&["status"]),
        Part::Whole | Part::Scale | Part::Binding => Reset::Nothing,
        Part::Status if kind.rules.status_metadata => Reset::AllBut(&[
            &["status"],
            &["metadata", "labels"],
            &["metadata", "annotations"],
            &["metadata", "finalizers"],
        ]),
        Part::Status => Reset::AllBut(&[&["status"]]),
        Part::Finalize => Reset::AllBut(&[&["spec", "finalizers"]]),
        Part::EphemeralContainers => Reset::AllBut(&[&["spec", "ephemeralContainers"]]),
        Part::Resize => Reset::AllBut(RESIZED),
        Part::Approval => Reset::AllBut(&[&["status", "conditions"]]),
    }
}
