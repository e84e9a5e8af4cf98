//! What there is, what there lately was, and who did it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use store::{Event, Revision};

use super::pods::{self, is_active, is_ready, is_terminating};
use super::{number, text};
use crate::link::Sent;

/// What was decided on what was true so long ago may still be carried out: watches lag, requests are late.
const LATELY: Duration = Duration::from_secs(120);
/// Who has heard nothing for so long leads no more: the life of a lease.
const HEARD: Duration = Duration::from_secs(15);

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The plural of its kind.
    pub plural: String,
    /// Its namespace; empty for an object of none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    fn of(key: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(key).ok()?.strip_prefix("/registry/")?.split('/').skip(1);
        let (plural, first) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some(match parts.next() {
            Some(name) => Self { plural, namespace: first, name: name.to_owned() },
            None => Self { plural, namespace: String::new(), name: first },
        })
    }
}

/// One commit's change of one object.
#[derive(Debug)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// When.
    pub at: Duration,
    /// Of what.
    pub key: Key,
    /// What was there.
    pub before: Option<Arc<Value>>,
    /// What is there.
    pub after: Option<Arc<Value>>,
    /// On whose behalf; nobody's when it was the server's own doing.
    pub sent: Option<Arc<Sent>>,
    /// Whether it was on behalf of one who led at that moment.
    pub by_leader: bool,
}

impl Change {
    pub(super) fn of(event: Event, sent: Option<Arc<Sent>>, at: Duration, history: &History) -> Option<Self> {
        let key = Key::of(&event.key)?;
        let after = event.entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).map(Arc::new);
        let before = history.objects.get(&key).cloned();
        let by_leader = sent.as_ref().is_some_and(|sent| history.is_leader(sent));
        Some(Self { revision: event.revision, at, key, before, after, sent, by_leader })
    }

    /// Whether the object was made by it.
    pub fn is_new(&self) -> bool {
        self.before.is_none() && self.after.is_some()
    }

    /// Whether a process whose name begins so did it.
    pub fn is_by(&self, process: &str) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.process.name.starts_with(process))
    }

    /// Whether it is an eviction of a pod.
    pub fn is_eviction(&self) -> bool {
        self.key.plural == "pods" && self.sent.as_ref().is_some_and(|sent| sent.path.ends_with("/eviction"))
    }

    /// Whether it is what controllers and schedulers do when there is something to do.
    pub(super) fn is_work(&self) -> bool {
        let is_routine = matches!(&*self.key.plural, "leases" | "events");
        !is_routine && (self.is_by("controllers") || self.is_by("scheduler"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.sent.as_ref().map_or("the server", |sent| &sent.process.name);
        let how = self.sent.as_ref().map_or("", |sent| sent.method.as_str());
        let Key { plural, namespace, name } = &self.key;
        let what = match (&self.before, &self.after) {
            (None, _) => "made",
            (_, None) => "gone",
            _ => "changed",
        };
        write!(f, "r{} {who} {how} {plural}/{namespace}/{name} {what}", self.revision)?;
        match (&**plural, &self.after) {
            ("pods", Some(pod)) => {
                let (node, phase) = (text(pod, "/spec/nodeName"), text(pod, "/status/phase"));
                let ready = if is_ready(pod) { " ready" } else { "" };
                let ends = if pods::is_terminating(pod) { " terminating" } else { "" };
                write!(f, ": {phase}{ready}{ends} on {node:?}")
            }
            ("deployments" | "replicasets", Some(set)) => {
                let (wanted, there) = (number(set, "/spec/replicas"), number(set, "/status/replicas"));
                let (ready, available) =
                    (number(set, "/status/readyReplicas"), number(set, "/status/availableReplicas"));
                write!(f, ": wants {wanted}, has {there}, {ready} ready, {available} available")
            }
            ("statefulsets", Some(set)) => {
                let (wanted, ready) = (number(set, "/spec/replicas"), number(set, "/status/readyReplicas"));
                write!(
                    f,
                    ": wants {wanted}, {ready} ready, {} updated",
                    number(set, "/status/updatedReplicas")
                )
            }
            ("jobs", Some(job)) => {
                let count = |what: &str| number(job, &format!("/status/{what}"));
                let (active, succeeded, failed) = (count("active"), count("succeeded"), count("failed"));
                write!(f, ": {active} active, {succeeded} succeeded, {failed} failed")
            }
            ("poddisruptionbudgets", Some(budget)) => {
                write!(f, ": {} may go", number(budget, "/status/disruptionsAllowed"))
            }
            ("leases", Some(lease)) => write!(f, ": held by {:?}", text(lease, "/spec/holderIdentity")),
            ("events", Some(event)) => write!(f, ": {}", text(event, "/message")),
            _ => Ok(()),
        }
    }
}

/// What was decided about a workload, since when.
#[derive(Debug)]
struct Past<T>(Vec<(Duration, T)>);

impl<T> Default for Past<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone + PartialEq> Past<T> {
    fn note(&mut self, at: Duration, value: T) {
        if self.0.last().is_none_or(|(_, last)| *last != value) {
            self.0.push((at, value));
        }
    }

    /// What held at some time lately.
    fn lately(&self, now: Duration) -> impl Iterator<Item = &T> {
        let from = now.saturating_sub(LATELY);
        let first = self.0.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        self.0[first..].iter().map(|(_, value)| value)
    }
}

/// What a Deployment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most pods that may be wanted.
    pub most: i64,
    /// The fewest that must be available.
    pub least: i64,
}

impl Bounds {
    fn of(deployment: &Value) -> Self {
        let replicas = number(deployment, "/spec/replicas");
        if text(deployment, "/spec/strategy/type") == "Recreate" {
            return Self { most: replicas, least: 0 };
        }
        let share = |pointer: &str, up: i64| match deployment.pointer(pointer) {
            Some(Value::String(percent)) => {
                let percent: i64 = percent.trim_end_matches('%').parse().unwrap_or(0);
                (replicas * percent + up).div_euclid(100)
            }
            Some(value) => value.as_i64().unwrap_or(0),
            None => 0,
        };
        let surge = share("/spec/strategy/rollingUpdate/maxSurge", 99);
        let unavailable = share("/spec/strategy/rollingUpdate/maxUnavailable", 0);
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { most: replicas + surge, least: (replicas - unavailable).max(0) }
    }
}

/// The UIDs of a Job's pods that have ended.
#[derive(Debug, Default)]
struct Ended {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

/// How many pods of a Job have ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// Those that succeeded.
    pub succeeded: i64,
    /// Those that succeeded and that somebody answers for.
    pub accounted: i64,
    /// Those that failed, or were deleted before they ended.
    pub failed: i64,
}

/// A pod that does not serve any more.
#[derive(Debug)]
struct Loss {
    at: Duration,
    pod: Arc<Value>,
    /// The UID of the Deployment, or whatever it was of.
    workload: Option<String>,
    by_its_set: bool,
    by_eviction: bool,
}

/// Everything that the witness knows.
#[derive(Debug, Default)]
pub struct History {
    /// All there is.
    pub objects: BTreeMap<Key, Arc<Value>>,
    /// The versions that there were, by UID.
    versions: BTreeSet<(String, Revision)>,
    /// UIDs of what there is.
    uids: BTreeSet<String>,
    /// How many pods each workload wants at a time, by its UID.
    replicas: BTreeMap<String, Past<i64>>,
    /// Whether the next pod of a node may come first, by the UIDs of DaemonSets.
    surges: BTreeMap<String, Past<bool>>,
    /// The pods of Jobs that have ended, by the Jobs' UIDs.
    ends: BTreeMap<String, Ended>,
    /// By the UIDs of Deployments.
    bounds: BTreeMap<String, Past<Bounds>>,
    /// Who made each pod and each Job, and whether he led.
    makers: BTreeMap<String, (Arc<Sent>, bool)>,
    /// Since when pods are ready, by UID.
    ready: BTreeMap<String, Duration>,
    /// When a pod of a name was last seen ready.
    served: BTreeMap<Key, Duration>,
    /// The pods that were ready, and then were not any more.
    lost: Vec<Loss>,
    /// When somebody else last scaled what a Deployment owns, or took its pods from it, by the UIDs of both.
    meddling: BTreeMap<String, Duration>,
}

/// The UID of an object.
pub fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    let held = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    held.into_iter().flatten().any(|held| held == name)
}

/// The reference by which something controls an object: its kind and UID.
pub fn controller(object: &Value) -> Option<(&str, &str)> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((text(owner, "/kind"), text(owner, "/uid")))
}

impl History {
    pub(super) fn take_in(&mut self, change: &Change) {
        match &change.after {
            Some(object) => {
                self.objects.insert(change.key.clone(), object.clone());
                self.versions.insert((uid(object).to_owned(), change.revision));
                self.uids.insert(uid(object).to_owned());
            }
            None => {
                self.objects.remove(&change.key);
                if let Some(object) = &change.before {
                    self.uids.remove(uid(object));
                    // A write that took away the last finalizer is answered with the object as it went.
                    self.versions.insert((uid(object).to_owned(), change.revision));
                }
            }
        }
        match (&*change.key.plural, &change.after) {
            ("replicasets", Some(set)) => {
                self.take_in_size(change.at, set, number(set, "/spec/replicas"));
                self.take_in_meddling(change);
            }
            ("statefulsets", Some(set)) => {
                self.take_in_size(change.at, set, number(set, "/spec/replicas"));
            }
            ("daemonsets", Some(set)) => {
                let surge = number(set, "/spec/updateStrategy/rollingUpdate/maxSurge");
                self.surges.entry(uid(set).to_owned()).or_default().note(change.at, surge > 0);
            }
            ("jobs", Some(job)) => {
                let is_suspended = job.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
                let at_once = if is_suspended { 0 } else { number(job, "/spec/parallelism") };
                self.take_in_size(change.at, job, at_once);
                self.take_in_maker(change);
            }
            ("deployments", Some(deployment)) => {
                self.take_in_size(change.at, deployment, number(deployment, "/spec/replicas"));
                let past = self.bounds.entry(uid(deployment).to_owned()).or_default();
                past.note(change.at, Bounds::of(deployment));
            }
            ("pods", _) => self.take_in_pod(change),
            _ => {}
        }
    }

    fn take_in_size(&mut self, at: Duration, workload: &Value, wanted: i64) {
        self.replicas.entry(uid(workload).to_owned()).or_default().note(at, wanted);
    }

    fn take_in_maker(&mut self, change: &Change) {
        if let (true, Some(object), Some(sent)) = (change.is_new(), &change.after, &change.sent) {
            self.makers.insert(uid(object).to_owned(), (sent.clone(), change.by_leader));
        }
    }

    /// Somebody scales what a Deployment owns, or takes its pods from it: what comes of it is his doing.
    fn take_in_meddling(&mut self, change: &Change) {
        let (Some(before), Some(after)) = (&change.before, &change.after) else { return };
        let is_scaled = number(before, "/spec/replicas") != number(after, "/spec/replicas");
        let orphans = is_terminating(after) && !is_terminating(before) && has_finalizer(after, "orphan");
        if !(is_scaled || orphans) || change.is_by("controllers") {
            return;
        }
        // A set that nobody owns now may be adopted.
        let owner = controller(after).map(|(_, deployment)| deployment);
        for of in owner.into_iter().chain([uid(after)]) {
            self.meddling.insert(of.to_owned(), change.at);
        }
    }

    fn take_in_pod(&mut self, change: &Change) {
        self.take_in_maker(change);
        match &change.after {
            Some(pod) if is_ready(pod) => {
                self.ready.entry(uid(pod).to_owned()).or_insert(change.at);
            }
            after => {
                let gone = after.as_ref().or(change.before.as_ref());
                gone.and_then(|pod| self.ready.remove(uid(pod)));
            }
        }
        if [&change.before, &change.after].into_iter().flatten().any(|pod| is_ready(pod)) {
            self.served.insert(change.key.clone(), change.at);
        }
        if let Some(pod) = &change.after {
            self.take_in_end(pod);
        }
        let serves = |pod: &Value| is_active(pod) && is_ready(pod);
        let (Some(before), after) = (&change.before, &change.after) else { return };
        if serves(before) && !after.as_ref().is_some_and(|after| serves(after)) {
            self.lost.push(Loss {
                at: change.at,
                pod: before.clone(),
                workload: self.workload(before).map(str::to_owned),
                by_its_set: self.is_taken_by_its_set(change),
                by_eviction: change.is_eviction(),
            });
        }
    }

    /// Pods of Jobs, as long as these hold them: what is let go of before its end counts for nothing.
    fn take_in_end(&mut self, pod: &Value) {
        let Some(("Job", job)) = controller(pod) else { return };
        if !has_finalizer(pod, "batch.kubernetes.io/job-tracking") {
            return;
        }
        let ended = self.ends.entry(job.to_owned()).or_default();
        match text(pod, "/status/phase") {
            "Succeeded" => ended.succeeded.insert(uid(pod).to_owned()),
            "Failed" => ended.failed.insert(uid(pod).to_owned()),
            _ if is_terminating(pod) => ended.failed.insert(uid(pod).to_owned()),
            _ => false,
        };
    }

    /// Whether a pod was taken away by the controller that wants fewer, and not for its node's sake or with its owner.
    pub(super) fn is_taken_by_its_set(&self, change: &Change) -> bool {
        let Some(before) = change.before.as_ref() else { return false };
        let set = controller(before).and_then(|(kind, set)| match kind {
            "StatefulSet" => self.by_uid("statefulsets", set),
            _ => self.by_uid("replicasets", set),
        });
        let stays = set.is_some_and(|set| !pods::is_terminating(set));
        // A collection is deleted with its namespace.
        let is_one =
            |sent: &Arc<Sent>| sent.method == http::Method::DELETE && sent.path.ends_with(&change.key.name);
        stays
            && change.is_by("controllers")
            && change.sent.as_ref().is_some_and(is_one)
            && !self.is_on_bad_node(before)
    }

    fn is_on_bad_node(&self, pod: &Value) -> bool {
        let node = Key {
            plural: "nodes".to_owned(),
            namespace: String::new(),
            name: text(pod, "/spec/nodeName").to_owned(),
        };
        let Some(node) = self.objects.get(&node) else { return true };
        let taints = node.pointer("/spec/taints").and_then(Value::as_array);
        taints.into_iter().flatten().any(|taint| taint["effect"] == "NoExecute")
    }

    /// The objects of a kind.
    pub fn all<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects.iter().filter(move |(key, _)| key.plural == plural)
    }

    /// The object of a kind and UID.
    pub fn by_uid(&self, plural: &str, wanted: &str) -> Option<&Arc<Value>> {
        self.objects
            .iter()
            .find(|(key, object)| key.plural == plural && uid(object) == wanted)
            .map(|(_, o)| o)
    }

    /// Whether there is an object of that UID.
    pub fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }

    /// Whether there was such a version of an object.
    pub fn had(&self, uid: &str, revision: Revision) -> bool {
        self.versions.contains(&(uid.to_owned(), revision))
    }

    /// What something controls, of a kind.
    pub fn controlled<'a>(&'a self, plural: &'a str, owner: &'a str) -> impl Iterator<Item = &'a Arc<Value>> {
        self.all(plural)
            .map(|(_, object)| object)
            .filter(move |object| controller(object).is_some_and(|(_, uid)| uid == owner))
    }

    /// The Deployment of a pod, if it has one.
    pub fn deployment_of(&self, pod: &Value) -> Option<&Arc<Value>> {
        let (_, set) = controller(pod)?;
        let (_, deployment) = controller(self.by_uid("replicasets", set)?)?;
        self.by_uid("deployments", deployment)
    }

    /// The UID of what says how many pods there are to be of a pod's kind: its Deployment, or what controls it.
    pub fn workload<'a>(&'a self, pod: &'a Value) -> Option<&'a str> {
        match self.deployment_of(pod) {
            Some(deployment) => Some(uid(deployment)),
            None => controller(pod).map(|(_, owner)| owner),
        }
    }

    /// Whether somebody answers for an object: not its maker, if he never learnt that he had made it, nor one who led no
    /// longer.
    pub fn is_accounted(&self, object: &Value) -> bool {
        self.is_accounted_for(uid(object))
    }

    fn is_accounted_for(&self, uid: &str) -> bool {
        self.makers.get(uid).is_none_or(|(sent, by_leader)| *by_leader && !sent.is_lost())
    }

    /// How many pods of a Job have ended.
    pub fn ends(&self, job: &str) -> Ends {
        let Some(ended) = self.ends.get(job) else { return Ends::default() };
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let answered = |uid: &&String| self.is_accounted_for(uid);
        Ends {
            succeeded: count(ended.succeeded.len()),
            accounted: count(ended.succeeded.iter().filter(answered).count()),
            failed: count(ended.failed.len()),
        }
    }

    /// The pods of a workload that somebody answers for: not those whose maker never learnt that he had made them, nor those
    /// that a leader made after another had taken over. Such there may be; they go again.
    pub fn accounted<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a Arc<Value>> {
        self.controlled("pods", set).filter(|pod| self.is_accounted(pod))
    }

    /// The most pods that a workload wanted lately.
    pub fn most_replicas(&self, set: &str, now: Duration) -> i64 {
        self.replicas.get(set).and_then(|past| past.lately(now).max().copied()).unwrap_or(0)
    }

    /// The fewest pods that a workload wanted lately.
    pub fn fewest_replicas(&self, workload: &str, now: Duration) -> i64 {
        self.replicas.get(workload).and_then(|past| past.lately(now).min().copied()).unwrap_or(0)
    }

    /// The pods that a workload wants.
    pub fn replicas(&self, workload: &str) -> Option<i64> {
        self.replicas.get(workload)?.0.last().map(|(_, wanted)| *wanted)
    }

    /// Whether the next pod of a node might lately come first.
    pub fn surged_lately(&self, set: &str, now: Duration) -> bool {
        self.surges.get(set).is_none_or(|past| past.lately(now).any(|surges| *surges))
    }

    /// Whether a pod of that name was lately ready.
    pub fn was_lately_ready(&self, pod: &Key, now: Duration) -> bool {
        let is_ready = self.objects.get(pod).is_some_and(|pod| is_ready(pod));
        is_ready || self.served.get(pod).is_some_and(|at| *at >= now.saturating_sub(LATELY))
    }

    /// The widest bounds of a Deployment lately.
    pub fn widest_bounds(&self, deployment: &str, now: Duration) -> Option<Bounds> {
        let past = self.bounds.get(deployment)?;
        let most = past.lately(now).map(|bounds| bounds.most).max()?;
        let least = past.lately(now).map(|bounds| bounds.least).min()?;
        Some(Bounds { most, least })
    }

    /// Whether a pod that was taken away just now had been ready for so long that whoever leads had heard of it.
    pub fn was_known_to_be_ready(&self, pod: &Value, now: Duration) -> bool {
        self.ready.get(uid(pod)).is_some_and(|since| now.saturating_sub(*since) > HEARD)
    }

    /// How many pods of a workload were lately lost that its sets did not take away.
    pub fn losses(&self, workload: &str, now: Duration) -> usize {
        let of = |loss: &&Loss| loss.workload.as_deref() == Some(workload) && !loss.by_its_set;
        self.lately_lost(now).filter(of).count()
    }

    /// How many such pods were lately lost that were not evicted.
    pub fn lost_otherwise(&self, now: Duration, is_such: impl Fn(&Value) -> bool) -> usize {
        self.lately_lost(now).filter(|loss| !loss.by_eviction && is_such(&loss.pod)).count()
    }

    fn lately_lost(&self, now: Duration) -> impl Iterator<Item = &Loss> {
        let from = now.saturating_sub(LATELY);
        self.lost.iter().rev().take_while(move |loss| loss.at >= from)
    }

    /// Whether somebody else lately scaled what a Deployment owns, or took its pods from it.
    pub fn is_meddled_with(&self, deployment: &str, now: Duration) -> bool {
        let sets = self.controlled("replicasets", deployment).map(|set| uid(set));
        let lately = |of: &str| self.meddling.get(of).is_some_and(|at| *at >= now.saturating_sub(LATELY));
        sets.chain([deployment]).any(lately)
    }

    /// Whether the candidate holds the lease.
    pub fn leads(&self, lease: &str, candidate: Option<&str>) -> bool {
        let key =
            Key { plural: "leases".to_owned(), namespace: "kube-system".to_owned(), name: lease.to_owned() };
        let holder = self.objects.get(&key).map(|lease| text(lease, "/spec/holderIdentity"));
        candidate.is_some() && holder == candidate
    }

    fn is_leader(&self, sent: &Sent) -> bool {
        let lease = if sent.process.name.starts_with("scheduler") {
            "kube-scheduler"
        } else {
            "kube-controller-manager"
        };
        self.leads(lease, sent.process.candidate.as_deref())
    }
}
