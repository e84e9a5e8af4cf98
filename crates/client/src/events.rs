//! Events: what a role tells the people who look at an object.
//!
//! Recording never waits and never fails the caller: a full queue drops. What repeats is counted on the event that is
//! there already; what varies a lot is folded into one; an object that makes too much noise is not heard for a while
//! (upstream's correlator, with its numbers).

use crate::write::is_not_found;
use crate::{Ambient, ObjectKey};
use clock::{Instant, Tasks};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Error, Resource};
use serde_json::json;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;
use tokio::sync::mpsc;

const QUEUE: usize = 1_000;
const REMEMBERED: usize = 4_096;
/// More than this many different messages for one reason within the interval are folded into one event.
const SIMILAR: usize = 10;
const SIMILAR_INTERVAL: Duration = Duration::from_secs(600);
/// Per object: a burst, then one every five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
const MESSAGE_LIMIT: usize = 1_024;

/// How serious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

impl EventType {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Tells of one component's doings. Clones share the queue.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Note>,
    ambient: Ambient,
}

#[derive(Clone, Debug, PartialEq)]
struct Note {
    regarding: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    at: Timestamp,
}

impl EventRecorder {
    /// A recorder whose events name `component` (and `host`, for one of many on different machines) as their source.
    pub fn start(
        client: Client,
        component: &str,
        host: Option<&str>,
        ambient: Ambient,
        tasks: &Tasks,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        let source = EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) };
        let mut writer =
            Writer { client, source, correlator: Correlator::default(), ambient: ambient.clone() };
        tasks.spawn("events", async move {
            while let Some(note) = receiver.recv().await {
                writer.write(note).await;
            }
        });
        Self { sender, ambient }
    }

    /// Records what happened to an object. Reasons are short CamelCase words for machines, messages are for people.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_on(object.object_ref(&()), kind, reason, message);
    }

    /// Records what happened to the object, or a part of it (`fieldPath`), that the reference names.
    pub fn record_on(
        &self,
        regarding: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let message = truncated(message.into());
        let note = Note { regarding, kind, reason: reason.to_owned(), message, at: self.ambient.clock.now() };
        if self.sender.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

fn truncated(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let mut end = MESSAGE_LIMIT;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

/// What makes two notes the same event.
type Same = (String, EventType, String, String);
/// What makes two notes alike.
type Alike = (String, EventType, String);

fn subject(regarding: &ObjectReference) -> String {
    let of = |part: &Option<String>| part.clone().unwrap_or_default();
    let parts =
        [&regarding.kind, &regarding.namespace, &regarding.name, &regarding.uid, &regarding.field_path];
    parts.map(of).join("/")
}

/// The event that counts a note, if one was written before.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    key: ObjectKey,
    count: i32,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

#[derive(Default)]
struct Correlator {
    alike: Remembered<Alike, (HashSet<String>, Instant)>,
    written: Remembered<Same, Written>,
    buckets: Remembered<String, Bucket>,
}

impl Correlator {
    /// Folds and filters; the note to write and what it is the same as, unless its subject makes too much noise.
    fn pass(&mut self, mut note: Note, now: Instant) -> Option<(Note, Same)> {
        let subject = subject(&note.regarding);
        let alike = (subject.clone(), note.kind, note.reason.clone());
        let (messages, last) = self.alike.entry(alike, || (HashSet::new(), now));
        if now.since(*last) > SIMILAR_INTERVAL {
            messages.clear();
        }
        *last = now;
        let same = if messages.len() >= SIMILAR && !messages.contains(&note.message) {
            let same = (subject.clone(), note.kind, note.reason.clone(), String::new());
            note.message = truncated(format!("(combined from similar events): {}", note.message));
            same
        } else {
            messages.insert(note.message.clone());
            (subject.clone(), note.kind, note.reason.clone(), note.message.clone())
        };
        let bucket = self.buckets.entry(subject, || Bucket { tokens: BURST, filled: now });
        bucket.tokens =
            (bucket.tokens + now.since(bucket.filled).as_secs_f64() * REFILL_PER_SECOND).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return None;
        }
        bucket.tokens -= 1.0;
        Some((note, same))
    }
}

/// A map that forgets what it has held longest.
struct Remembered<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.values.contains_key(&key) {
            self.order.push_back(key.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.values.remove(&oldest);
            }
        }
        self.values.entry(key).or_insert_with(make)
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }
}

struct Writer {
    client: Client,
    source: EventSource,
    correlator: Correlator,
    ambient: Ambient,
}

impl Writer {
    async fn write(&mut self, note: Note) {
        let Some((note, same)) = self.correlator.pass(note, self.ambient.clock.monotonic()) else { return };
        let written = self.correlator.written.get(&same).cloned();
        let outcome = match written {
            Some(written) => match self.count(&written, &note).await {
                Err(error) if is_not_found(&error) => self.create(&note).await,
                outcome => outcome,
            },
            None => self.create(&note).await,
        };
        match outcome {
            Ok(written) => {
                let entry = self.correlator.written.entry(same, || written.clone());
                *entry = written;
            }
            Err(error) => tracing::debug!(%error, reason = note.reason, "event not written"),
        }
    }

    async fn count(&self, written: &Written, note: &Note) -> Result<Written, Error> {
        let count = written.count.saturating_add(1);
        let patch = json!({ "count": count, "lastTimestamp": Time(note.at), "message": note.message });
        let api: Api<Event> = Api::namespaced(self.client.clone(), &written.key.namespace);
        api.patch(&written.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        Ok(Written { key: written.key.clone(), count })
    }

    async fn create(&self, note: &Note) -> Result<Written, Error> {
        let namespace = note.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let subject = note.regarding.name.clone().unwrap_or_default();
        let nanoseconds = u64::try_from(note.at.as_nanosecond()).unwrap_or(0);
        // Two notes of one instant must not take each other's name.
        let name = format!("{subject}.{nanoseconds:x}{:04x}", self.ambient.random.u64() & 0xffff);
        let key = ObjectKey::new(namespace, name);
        let event = Event {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: note.regarding.clone(),
            type_: Some(note.kind.name().to_owned()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            first_timestamp: Some(Time(note.at)),
            last_timestamp: Some(Time(note.at)),
            count: Some(1),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        api.create(&PostParams::default(), &event).await?;
        Ok(Written { key, count: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::{Clock, ManualClock};

    fn note(message: &str) -> Note {
        Note {
            regarding: ObjectReference { name: Some("a".into()), ..ObjectReference::default() },
            kind: EventType::Normal,
            reason: "Because".into(),
            message: message.into(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_eleventh_variation_is_folded() {
        let mut correlator = Correlator::default();
        let mut last = None;
        for i in 0..12 {
            last = correlator.pass(note(&i.to_string()), Instant::default());
        }
        let (folded, same) = last.unwrap();
        assert_eq!(folded.message, "(combined from similar events): 11");
        assert_eq!(same.3, "");
        let (known, _) = correlator.pass(note("3"), Instant::default()).unwrap();
        assert_eq!(known.message, "3", "what was seen before keeps its own event");
    }

    #[test]
    fn noise_is_limited_and_forgiven() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut correlator = Correlator::default();
        let passed = (0..40).filter(|_| correlator.pass(note("x"), clock.monotonic()).is_some()).count();
        assert_eq!(passed, 25);
        clock.advance(Duration::from_secs(300));
        assert!(correlator.pass(note("x"), clock.monotonic()).is_some());
        assert!(correlator.pass(note("x"), clock.monotonic()).is_none());
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let cut = truncated("ä".repeat(600));
        assert_eq!(cut.len(), 1024);
        assert!(truncated(format!("a{}", "ä".repeat(600))).len() < 1024);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut remembered = Remembered::default();
        for i in 0..REMEMBERED + 10 {
            *remembered.entry(i, || 0) += 1;
        }
        assert_eq!(remembered.values.len(), REMEMBERED);
        assert!(remembered.get(&5).is_none() && remembered.get(&10).is_some());
    }
}
