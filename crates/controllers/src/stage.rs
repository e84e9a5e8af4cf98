//! Where tests play a controller of pods through: objects are JSON by their names, plans are carried out on them, and pods
//! behave.

use crate::plan::Action;
use client::kube::Resource;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};
use std::collections::BTreeMap;
use std::sync::Arc;
use testkit::merge;

/// Objects of one kind, by their names.
pub(crate) type Objects = BTreeMap<String, Value>;

/// A controller and its world.
pub(crate) trait Stage {
    /// What it would do now.
    fn actions(&mut self) -> Vec<Action>;
    /// It is done.
    fn apply(&mut self, action: Action);
    /// One pod goes on, as chance has it; false when none has anywhere to go.
    fn pods_move(&mut self, chance: usize) -> bool;

    /// Plans once and carries it out; the number of writes.
    fn step(&mut self) -> usize {
        self.step_as_far_as(usize::MAX)
    }

    /// Plans once and carries out as much, as if the controller had been killed then; the number of writes.
    fn step_as_far_as(&mut self, count: usize) -> usize {
        let actions: Vec<_> = self.actions().into_iter().take(count).collect();
        let writes = actions.iter().filter(|action| !matches!(action, Action::Tell { .. })).count();
        actions.into_iter().for_each(|action| self.apply(action));
        writes
    }

    /// Goes on until nothing does any more.
    fn settle(&mut self) {
        for chance in 0..10_000 {
            let wrote = self.step();
            if !self.pods_move(chance) && wrote == 0 {
                return;
            }
        }
        panic!("never at rest");
    }
}

/// The objects, as controllers see them.
pub(crate) fn typed<K: DeserializeOwned>(of: &Objects) -> Vec<Arc<K>> {
    of.values().map(|value| Arc::new(from_value(value.clone()).unwrap())).collect()
}

/// Changes a field or more.
pub(crate) fn patch<K: Serialize + DeserializeOwned>(object: &mut K, patch: &Value) {
    let mut value = to_value(&*object).unwrap();
    merge(&mut value, patch);
    *object = from_value(value).unwrap();
}

/// Changes the spec, which is a new generation.
pub(crate) fn respec<K: Resource + Serialize + DeserializeOwned>(object: &mut K, spec: &Value) {
    patch(object, &json!({ "spec": spec }));
    *object.meta_mut().generation.as_mut().unwrap() += 1;
}

/// The part of a spec that names the image of its pods.
pub(crate) fn image(image: &str) -> Value {
    json!({ "template": { "spec": { "containers": [{ "name": "c", "image": image }] } } })
}

/// The images of pods, in the order of their names.
pub(crate) fn images(pods: &Objects) -> String {
    let images = pods.values().map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap());
    images.collect::<Vec<_>>().join(" ")
}

/// Which pod may go on: it is to leave, or to start, unless its image is broken.
pub(crate) fn moving(pods: &Objects, broken: Option<&str>, chance: usize) -> Option<String> {
    let moves = |pod: &Value| {
        let image = &pod["spec"]["containers"][0]["image"];
        is_leaving(pod) || pod["status"]["phase"] == "Pending" && broken.is_none_or(|broken| *image != broken)
    };
    let moving: Vec<_> = pods.iter().filter(|(_, pod)| moves(pod)).map(|(name, _)| name).collect();
    moving.get(chance % moving.len().max(1)).map(|name| (*name).clone())
}

/// A pod has started.
pub(crate) fn started(pod: &mut Value, now: Timestamp) {
    let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": Time(now) });
    pod["status"] = json!({ "phase": "Running", "conditions": [ready] });
}

/// A pod is to leave.
pub(crate) fn leave(pods: &mut Objects, name: &str, now: Timestamp) {
    pods.get_mut(name).unwrap()["metadata"]["deletionTimestamp"] = json!(Time(now));
}

pub(crate) fn is_leaving(pod: &Value) -> bool {
    pod["metadata"].get("deletionTimestamp").is_some()
}

pub(crate) fn is_available(pod: &Value) -> bool {
    !is_leaving(pod) && !pod["status"]["conditions"].is_null()
}
