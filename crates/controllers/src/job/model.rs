//! Jobs against a world that crashes between any two writes, and goes on between what was seen and what comes of it: no pod's
//! end is counted twice, none is lost, and every Job ends.

use super::pods::is_tracked;
use super::{FINALIZER, View, end, plan};
use crate::plan::{Action, Lists};
use crate::pod::Pod;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use proptest::prelude::*;
use serde_json::{Value, from_value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

struct Model {
    job: Value,
    pods: BTreeMap<String, Value>,
    now: Timestamp,
    made: usize,
    /// The pods whose ends must be counted, as they ended.
    ended: BTreeMap<String, &'static str>,
    /// Those that were noted, by the list that they were noted in.
    noted: BTreeMap<String, &'static str>,
    /// Those that were noted and are no longer.
    counted: BTreeSet<String>,
}

/// What happens to a pod.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Starts,
    Succeeds,
    Fails,
    IsDeleted,
    /// Its node has heard that it is deleted, and has ended it.
    IsEnded,
}

#[derive(Clone, Debug)]
enum Step {
    /// The controller plans, something happens to a pod of which it has not heard, and the controller does so many actions
    /// before it is killed, from the front or from the back.
    Plan {
        actions: usize,
        backwards: bool,
        meanwhile: Option<(usize, Fate)>,
    },
    Pod {
        at: usize,
        fate: Fate,
    },
    Wait {
        seconds: i64,
    },
}

/// The object is not as an action requires.
struct Conflict;

/// A pod's next version.
fn touch(pod: &mut Value) {
    let version: u64 =
        pod["metadata"]["resourceVersion"].as_str().map_or(0, |version| version.parse().unwrap());
    pod["metadata"]["resourceVersion"] = json!((version + 1).to_string());
}

impl Model {
    fn new(spec: Value) -> Self {
        let mut job = json!({
            "metadata": { "name": "j", "namespace": "x", "uid": "job", "resourceVersion": "1" },
            "spec": {
                "selector": { "matchLabels": { "job": "j" } },
                "template": { "metadata": { "labels": { "job": "j" } }, "spec": { "containers": [] } },
            },
            "status": {},
        });
        testkit::merge(&mut job["spec"], &spec);
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let (pods, ended, noted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { job, pods, now, made: 0, ended, noted, counted: BTreeSet::new() }
    }

    fn job(&self) -> Job {
        from_value(self.job.clone()).unwrap()
    }

    fn view(&self) -> View {
        let pods = self.pods.values().map(|pod| Arc::new(from_value::<Pod>(pod.clone()).unwrap())).collect();
        View { job: Some(Arc::new(self.job())), pods, orphans: Vec::new(), strays: Vec::new() }
    }

    fn plan(&mut self, actions: usize, backwards: bool, meanwhile: Option<(usize, Fate)>) {
        let plan = plan(&self.view(), self.now);
        assert!(plan.independent);
        if let Some((at, fate)) = meanwhile {
            self.pod(at, fate);
        }
        // Actions on one object stay in order, objects come in any.
        let mut objects: Vec<(String, Vec<Action>)> = Vec::new();
        for action in plan.actions {
            let name = match &action {
                Action::Patch(patch) => patch.key.name.clone(),
                Action::Delete(delete) => delete.key.name.clone(),
                _ => String::new(),
            };
            match objects.iter_mut().find(|(known, _)| *known == name) {
                Some((_, theirs)) => theirs.push(action),
                None => objects.push((name, vec![action])),
            }
        }
        if backwards {
            objects.reverse();
        }
        let mut left = actions;
        for (_, theirs) in objects {
            for action in theirs {
                // What is refused ends what was to be done with the object.
                if left == 0 || self.act(action).is_err() {
                    break;
                }
                left -= 1;
            }
        }
    }

    /// Does it, unless the object is not as the action says.
    fn act(&mut self, action: Action) -> Result<(), Conflict> {
        match action {
            Action::Create(create) => {
                self.made += 1;
                let (mut pod, name) = (create.object, format!("p{}", self.made));
                (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!(name), json!(name));
                pod["metadata"]["creationTimestamp"] = json!(self.now);
                touch(&mut pod);
                self.pods.insert(name, pod);
            }
            Action::Delete(delete) => {
                if let Some(pod) = self.pods.get_mut(&delete.key.name) {
                    pod["metadata"]["deletionTimestamp"] = json!(self.now);
                    touch(pod);
                }
                self.sweep();
            }
            Action::Patch(patch) if patch.key.name == "j" => self.patch_status(&patch.body),
            Action::Patch(patch) => {
                assert_eq!(patch.lists, Lists::ByKey);
                let Some(pod) = self.pods.get_mut(&patch.key.name) else { return Err(Conflict) };
                let required = &patch.body["metadata"]["resourceVersion"];
                if !required.is_null() && *required != pod["metadata"]["resourceVersion"] {
                    return Err(Conflict);
                }
                pod["metadata"]["finalizers"] = json!([]);
                touch(pod);
                // One that is let go of before it ended is surplus, and one that was to be counted has been noted.
                if let Some(end) = self.ended.get(&patch.key.name) {
                    let index =
                        pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str();
                    let completed = self.job["status"]["completedIndexes"].as_str().unwrap_or_default();
                    let by_index = *end == "succeeded"
                        && index.is_some_and(|index| {
                            super::indexes::Indexes::parse(completed, 99).has(index.parse().unwrap())
                        });
                    assert!(
                        by_index || self.noted.contains_key(&patch.key.name),
                        "{} is lost",
                        patch.key.name
                    );
                }
                self.sweep();
            }
            Action::Tell { .. } => {}
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    fn patch_status(&mut self, body: &Value) {
        assert_eq!(body["metadata"]["resourceVersion"], self.job["metadata"]["resourceVersion"]);
        let before = self.uncounted();
        testkit::merge(&mut self.job["status"], &body["status"]);
        let version: u64 = self.job["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        self.job["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        let after = self.uncounted();
        for (uid, list) in &after {
            let earlier = self.noted.insert(uid.clone(), list);
            assert!(earlier.is_none_or(|earlier| earlier == *list), "{uid} is noted twice");
            assert!(!self.counted.contains(uid), "{uid} is noted again");
        }
        self.counted.extend(before.into_keys().filter(|uid| !after.contains_key(uid)));
        let count = |list: &str| self.counted.iter().filter(|uid| self.noted[*uid] == list).count();
        let told = |field: &str| self.job["status"][field].as_u64().unwrap_or(0) as usize;
        assert_eq!(told("failed"), count("failed"));
        if self.job["spec"]["completionMode"] != "Indexed" {
            assert_eq!(told("succeeded"), count("succeeded"));
        }
    }

    fn uncounted(&self) -> BTreeMap<String, &'static str> {
        let list = |name: &'static str| {
            let uids =
                self.job["status"]["uncountedTerminatedPods"][name].as_array().cloned().unwrap_or_default();
            uids.into_iter().map(move |uid| (uid.as_str().unwrap().to_owned(), name))
        };
        list("succeeded").chain(list("failed")).collect()
    }

    /// What is deleted, has ended and is held by nobody is gone.
    fn sweep(&mut self) {
        self.pods.retain(|_, pod| {
            let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
            let over = phase != "Running" && !pod["metadata"]["deletionTimestamp"].is_null();
            !over || pod["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty())
        });
    }

    fn pod(&mut self, at: usize, fate: Fate) {
        let Some((name, pod)) = self.pods.iter_mut().nth(at) else { return };
        let phase = pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned();
        let (runs, deleted) = (phase == "Running", !pod["metadata"]["deletionTimestamp"].is_null());
        touch(pod);
        let ends = match fate {
            Fate::Starts if phase == "Pending" && !deleted => {
                pod["status"]["phase"] = json!("Running");
                None
            }
            Fate::IsDeleted => {
                pod["metadata"]["deletionTimestamp"] = json!(self.now);
                None
            }
            Fate::Succeeds if runs => Some(("Succeeded", "succeeded", 0)),
            Fate::Fails if runs => Some(("Failed", "failed", 1)),
            Fate::IsEnded if deleted && (runs || phase == "Pending") => Some(("Failed", "failed", 137)),
            _ => None,
        };
        if let Some((phase, list, code)) = ends {
            let state = json!({ "terminated": { "exitCode": code, "finishedAt": self.now } });
            pod["status"] = json!({ "phase": phase, "containerStatuses": [{ "name": "c", "state": state }] });
            let is_held =
                pod["metadata"]["finalizers"].as_array().is_some_and(|held| held.contains(&json!(FINALIZER)));
            let is_user = !matches!(fate, Fate::IsEnded);
            if is_held && is_user {
                self.ended.insert(name.clone(), list);
            }
        }
        self.sweep();
    }

    /// Lets pods succeed and plans be carried out whole until the Job has ended.
    fn finish(&mut self) {
        self.job["spec"]["suspend"] = json!(false);
        for _ in 0..60 {
            self.now = self.now.checked_add(SignedDuration::from_mins(11)).unwrap();
            self.plan(usize::MAX, false, None);
            for at in 0..self.pods.len() {
                [Fate::Starts, Fate::Succeeds, Fate::IsEnded].into_iter().for_each(|fate| self.pod(at, fate));
            }
        }
        let job = self.job();
        assert!(end::ended(&job).is_some(), "{:#}", self.job["status"]);
        let held = self.view().pods.iter().filter(|pod| is_tracked(pod)).count();
        assert_eq!(held, 0, "nothing is held for ever");
        assert!(self.uncounted().is_empty());
        for (uid, list) in &self.noted {
            assert!(self.counted.contains(uid), "{uid} {list}");
        }
    }
}

fn specs() -> impl Strategy<Value = Value> {
    let replacement = prop_oneof![Just("Failed"), Just("TerminatingOrFailed")];
    let kind = prop_oneof![Just("Queue"), Just("Completions"), Just("Indexed"), Just("PerIndex")];
    (kind, 0..5_i32, 1..4_i32, 0..5_i32, replacement, any::<bool>()).prop_map(
        |(kind, completions, parallelism, limit, replacement, suspend)| {
            let mut spec = json!({
                "parallelism": parallelism, "backoffLimit": limit, "podReplacementPolicy": replacement, "suspend": suspend,
            });
            if kind != "Queue" {
                spec["completions"] = json!(completions);
            }
            if kind == "Indexed" || kind == "PerIndex" {
                spec["completionMode"] = json!("Indexed");
            }
            if kind == "PerIndex" {
                spec["backoffLimitPerIndex"] = json!(limit);
                spec["backoffLimit"] = json!(i32::MAX);
            }
            spec
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        4 => Just(Fate::Starts), 2 => Just(Fate::Succeeds), 2 => Just(Fate::Fails), 1 => Just(Fate::IsDeleted),
        2 => Just(Fate::IsEnded)
    ];
    let meanwhile = proptest::option::of((0..6_usize, fate.clone()));
    let step = prop_oneof![
        4 => (0..6_usize, any::<bool>(), meanwhile)
            .prop_map(|(actions, backwards, meanwhile)| Step::Plan { actions, backwards, meanwhile }),
        5 => (0..6_usize, fate).prop_map(|(at, fate)| Step::Pod { at, fate }),
        1 => (1..700_i64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_end_is_counted_once(spec in specs(), steps in steps()) {
        let mut model = Model::new(spec);
        for step in steps {
            match step {
                Step::Plan { actions, backwards, meanwhile } => model.plan(actions, backwards, meanwhile),
                Step::Pod { at, fate } => model.pod(at, fate),
                Step::Wait { seconds } => {
                    model.now = model.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
                }
            }
        }
        model.finish();
    }
}

/// Found by the above: it was let go of though it had not ended, and then ended well.
#[test]
fn who_ends_well_on_the_way_out_of_a_job_that_ends_counts() {
    let spec =
        json!({ "parallelism": 2, "backoffLimit": 0, "podReplacementPolicy": "Failed", "suspend": false });
    let mut model = Model::new(spec);
    model.plan(1, true, None);
    model.plan(1, true, None);
    [Fate::Starts, Fate::Succeeds].into_iter().for_each(|fate| model.pod(1, fate));
    [Fate::Starts, Fate::IsDeleted].into_iter().for_each(|fate| model.pod(0, fate));
    model.plan(1, false, None);
    model.plan(1, false, Some((0, Fate::Succeeds)));
    model.finish();
}
