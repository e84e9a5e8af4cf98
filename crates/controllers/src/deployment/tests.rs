use super::*;
use crate::plan::{Action, Patch};
use crate::stage::{Stage, patch};
use k8s_openapi::api::apps::v1::ReplicaSetStatus;
use proptest::prelude::*;
use serde_json::from_value;
use std::collections::BTreeMap;
use testkit::merge;

/// A world of one Deployment, in which its plans are carried out and its ReplicaSets behave.
struct Sim {
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    /// Available pods of each set, and those that will never be.
    broken: Option<String>,
    now: Timestamp,
    memory: Memory,
}

fn deployment(spec: Value) -> Deployment {
    from_value(json!({
        "metadata": { "name": "web", "namespace": "x", "uid": "d", "generation": 1 },
        "spec": spec,
    }))
    .unwrap()
}

fn spec(replicas: i32, image: &str, rolling: Value) -> Value {
    json!({
        "replicas": replicas,
        "selector": { "matchLabels": { "app": "web" } },
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 2,
        "strategy": rolling,
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": image }] },
        },
    })
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } })
}

impl Sim {
    fn new(spec: Value) -> Self {
        Self {
            deployment: deployment(spec),
            sets: BTreeMap::new(),
            broken: None,
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
            memory: Memory::default(),
        }
    }

    fn respec(&mut self, spec: Value) {
        self.deployment.spec = from_value(spec).unwrap();
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn view(&self) -> View {
        View {
            deployment: Some(Arc::new(self.deployment.clone())),
            sets: self.sets.values().cloned().map(Arc::new).collect(),
            running: self
                .sets
                .values()
                .filter(|set| available(set) > 0)
                .filter_map(|set| set.uid())
                .collect(),
        }
    }

    fn total(&self) -> i32 {
        self.sets.values().map(size).sum()
    }

    fn available(&self) -> i32 {
        self.sets.values().map(available).sum()
    }

    fn progressing(&self) -> (String, String) {
        let condition = status::get(self.deployment.status.as_ref().unwrap(), "Progressing").unwrap();
        (condition.status.clone(), condition.reason.clone().unwrap())
    }
}

impl Stage for Sim {
    fn actions(&mut self) -> Vec<Action> {
        let plan = plan(&self.view(), &self.memory, self.now);
        self.memory = plan.memory.clone().unwrap_or_default();
        plan.actions
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(create) => {
                let mut set: ReplicaSet = from_value(create.object).unwrap();
                let count = self.sets.len();
                set.metadata.uid = Some(format!("rs-{count}-{}", set.name_any()));
                set.metadata.generation = Some(1);
                set.metadata.creation_timestamp =
                    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
                assert!(self.sets.insert(set.name_any(), set).is_none(), "a name was taken twice");
            }
            Action::Patch(Patch { resource, key, body, .. }) if resource.kind == "ReplicaSet" => {
                let set = self.sets.get_mut(&key.name).unwrap();
                let mut value = serde_json::to_value(&*set).unwrap();
                merge(&mut value, &body);
                if value["spec"] != serde_json::to_value(&set.spec).unwrap() {
                    value["metadata"]["generation"] = json!(set.metadata.generation.unwrap_or(0) + 1);
                }
                *set = from_value(value).unwrap();
            }
            Action::Patch(Patch { body, subresource, .. }) => {
                assert_eq!(subresource, Some("status"), "this would be a new generation of the deployment");
                patch(&mut self.deployment, &body);
            }
            Action::Delete(delete) => {
                self.sets.remove(&delete.key.name);
            }
            _ => {}
        }
    }

    /// One pod of one set comes or goes, as chance has it; false when all sets are as they should be.
    fn pods_move(&mut self, chance: usize) -> bool {
        let broken = self.broken.clone();
        let healthy = |set: &ReplicaSet| broken.as_ref() != Some(&image(set));
        let off = |set: &&mut ReplicaSet| {
            let pods = set.status.as_ref().map_or(0, |status| status.replicas);
            let observed = set.status.as_ref().and_then(|status| status.observed_generation);
            let is_behind = observed < set.metadata.generation;
            is_behind
                || pods != size(set)
                || (healthy(set) && available(set) != size(set))
                || available(set) > pods
        };
        let mut candidates: Vec<_> = self.sets.values_mut().filter(off).collect();
        if candidates.is_empty() {
            return false;
        }
        let at = chance % candidates.len();
        let set = &mut candidates[at];
        let wanted = size(set);
        let can = broken.as_ref() != Some(&image(set));
        let status = set.status.get_or_insert_with(ReplicaSetStatus::default);
        let ready = status.available_replicas.unwrap_or(0);
        if status.replicas > wanted {
            status.replicas -= 1;
            status.available_replicas = Some(ready.min(status.replicas));
        } else if status.replicas < wanted {
            status.replicas += 1;
        } else if can && ready < wanted {
            status.available_replicas = Some(ready + 1);
        }
        status.ready_replicas = status.available_replicas;
        status.observed_generation = set.metadata.generation;
        true
    }
}

fn available(set: &ReplicaSet) -> i32 {
    sets::available(set)
}

fn image(set: &ReplicaSet) -> String {
    let spec = set.spec.as_ref().unwrap().template.as_ref().unwrap().spec.as_ref().unwrap();
    spec.containers[0].image.clone().unwrap()
}

#[test]
fn a_first_rollout_completes_and_says_so() {
    let mut sim = Sim::new(spec(3, "v1", rolling(json!("25%"), json!("25%"))));
    sim.step();
    assert_eq!(sim.progressing(), ("True".into(), "NewReplicaSetCreated".into()));
    sim.settle();
    assert_eq!(sim.progressing(), ("True".into(), "NewReplicaSetAvailable".into()));
    let status = sim.deployment.status.clone().unwrap();
    assert_eq!(
        (status.available_replicas, status.updated_replicas, status.unavailable_replicas),
        (Some(3), Some(3), None)
    );
    assert_eq!(sim.deployment.annotations()[sets::REVISION], "1");
    let set = sim.sets.values().next().unwrap();
    assert_eq!(
        (set.annotations()[sets::DESIRED].as_str(), set.annotations()[sets::MAX].as_str()),
        ("3", "4")
    );
    assert_eq!(sim.step(), 0, "at rest nothing is written");
}

#[test]
fn a_rollback_reuses_its_set_and_numbers_on() {
    let strategy = || rolling(json!(1), json!(0));
    let mut sim = Sim::new(spec(2, "v1", strategy()));
    sim.settle();
    sim.respec(spec(2, "v2", strategy()));
    sim.settle();
    assert_eq!(sim.deployment.annotations()[sets::REVISION], "2");
    sim.respec(spec(2, "v1", strategy()));
    sim.settle();
    assert_eq!(sim.sets.len(), 2);
    assert_eq!(sim.deployment.annotations()[sets::REVISION], "3");
    let first = sim.sets.values().find(|set| image(set) == "v1").unwrap();
    assert_eq!(first.annotations()["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(size(first), 2);
}

#[test]
fn history_is_cut_to_its_limit() {
    let mut sim = Sim::new(spec(1, "v0", rolling(json!(1), json!(0))));
    sim.settle();
    for version in 1..6 {
        sim.now = sim.now.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
        sim.respec(spec(1, &format!("v{version}"), rolling(json!(1), json!(0))));
        sim.settle();
    }
    let mut images: Vec<_> = sim.sets.values().map(image).collect();
    images.sort();
    assert_eq!(images, ["v3", "v4", "v5"]);
}

#[test]
fn recreate_waits_for_the_end_of_the_old() {
    let strategy = || json!({ "type": "Recreate" });
    let mut sim = Sim::new(spec(3, "v1", strategy()));
    sim.settle();
    sim.respec(spec(3, "v2", strategy()));
    for chance in 0..200 {
        sim.step();
        let running: std::collections::BTreeSet<_> =
            sim.sets.values().filter(|set| available(set) > 0).map(image).collect();
        assert!(running.len() <= 1, "versions ran side by side: {running:?}");
        sim.pods_move(chance);
    }
    assert_eq!(sim.available(), 3);
    assert_eq!(sim.progressing().1, "NewReplicaSetAvailable");
}

#[test]
fn a_stuck_rollout_times_out_and_a_pause_does_not_count() {
    let strategy = || rolling(json!(1), json!(0));
    let mut sim = Sim::new(spec(2, "v1", strategy()));
    sim.settle();
    sim.broken = Some("v2".into());
    sim.respec(spec(2, "v2", strategy()));
    sim.settle();
    assert_eq!(sim.available(), 2, "the old ones keep serving");
    let due = plan(&sim.view(), &sim.memory, sim.now).requeue_at.unwrap();
    assert_eq!(due.duration_since(sim.now).as_secs(), 601);
    sim.now = due;
    sim.settle();
    assert_eq!(sim.progressing(), ("False".into(), "ProgressDeadlineExceeded".into()));

    let mut paused = spec(2, "v3", strategy());
    paused["paused"] = json!(true);
    let mut sim = Sim::new(paused.clone());
    sim.settle();
    assert_eq!(sim.progressing(), ("Unknown".into(), "DeploymentPaused".into()));
    assert!(sim.sets.is_empty(), "a paused deployment rolls nothing out");
    assert_eq!(plan(&sim.view(), &sim.memory, sim.now).requeue_at, None);
    paused["paused"] = json!(false);
    sim.respec(paused);
    sim.settle();
    assert_eq!(sim.progressing().1, "NewReplicaSetAvailable");
}

#[test]
fn scaling_amid_a_rollout_is_shared_in_proportion() {
    let mut sim = Sim::new(spec(10, "v1", rolling(json!(3), json!(2))));
    sim.settle();
    sim.broken = Some("v2".into());
    sim.respec(spec(10, "v2", rolling(json!(3), json!(2))));
    sim.settle();
    let of =
        |sim: &Sim, version: &str| sim.sets.values().find(|set| image(set) == version).map(size).unwrap();
    assert_eq!((of(&sim, "v1"), of(&sim, "v2")), (8, 5));
    sim.respec(spec(15, "v2", rolling(json!(3), json!(2))));
    sim.step();
    assert_eq!((of(&sim, "v1"), of(&sim, "v2")), (11, 7), "upstream's documented example");
}

/// Found by the simulator: nothing is to be shared out then, and what waited for it waited for ever.
#[test]
fn recreation_begun_and_scaled_amid_a_rolling_update_goes_on() {
    let mut sim = Sim::new(spec(4, "v1", rolling(json!(1), json!(1))));
    sim.settle();
    sim.broken = Some("v2".into());
    sim.respec(spec(4, "v2", rolling(json!(1), json!(1))));
    sim.settle();
    assert!(sim.sets.values().all(|set| size(set) > 0));
    sim.broken = None;
    sim.respec(spec(6, "v3", json!({ "type": "Recreate" })));
    sim.settle();
    let sizes: Vec<(String, i32)> = sim.sets.values().map(|set| (image(set), size(set))).collect();
    assert_eq!(sizes.iter().filter(|(_, size)| *size > 0).collect::<Vec<_>>(), [&("v3".to_owned(), 6)]);
}

/// It was to shrink and now is to grow: until it has seen that, its pods may go that it still says are available.
#[test]
fn nothing_old_goes_for_what_a_set_says_that_has_not_seen_its_size() {
    let strategy = || rolling(json!(1), json!(0));
    let mut sim = Sim::new(spec(4, "v1", strategy()));
    sim.settle();
    sim.respec(spec(4, "v2", strategy()));
    sim.step();
    sim.step();
    let (old, new) =
        (sim.sets.values().find(|set| image(set) == "v1"), sim.sets.values().find(|set| image(set) == "v2"));
    let (old, new) = (old.unwrap().name_any(), new.unwrap().name_any());
    let set = sim.sets.get_mut(&new).unwrap();
    assert_eq!(size(set), 1);
    set.status =
        from_value(json!({ "replicas": 1, "availableReplicas": 1, "observedGeneration": 1 })).unwrap();
    set.metadata.generation = Some(3);
    sim.step();
    assert_eq!(size(&sim.sets[&old]), 4);
    sim.sets.get_mut(&new).unwrap().status.as_mut().unwrap().observed_generation = Some(3);
    sim.step();
    assert_eq!(size(&sim.sets[&old]), 3);
}

#[test]
fn a_foreign_set_of_the_same_name_is_stepped_around() {
    let mut sim = Sim::new(spec(1, "v1", rolling(json!(1), json!(0))));
    let hash = sets::template_hash(&sim.deployment.spec.as_ref().unwrap().template, None);
    let foreign: ReplicaSet = from_value(json!({
        "metadata": { "name": format!("web-{hash}"), "namespace": "x", "uid": "foreign" },
        "spec": { "selector": { "matchLabels": { "app": "other" } } },
    }))
    .unwrap();
    sim.sets.insert(foreign.name_any(), foreign);
    sim.step();
    assert_eq!(sim.deployment.status.as_ref().unwrap().collision_count, Some(1));
    sim.step();
    assert_eq!(sim.sets.len(), 2);
}

#[test]
fn a_set_that_cannot_be_made_is_told_of() {
    let sim = Sim::new(spec(1, "v1", rolling(json!(1), json!(0))));
    let mut memory = Memory::default();
    let failure =
        Failure { attempt: Attempt::Create, plural: "replicasets".into(), message: "exceeded quota".into() };
    Deployments::failed(&mut memory, &failure);
    let plan = plan(&sim.view(), &memory, sim.now);
    let Action::Patch(patch) = &plan.actions[0] else { panic!() };
    let conditions = patch.body["status"]["conditions"].as_array().unwrap();
    let progressing = conditions.iter().find(|condition| condition["type"] == "Progressing").unwrap();
    assert_eq!(progressing["reason"], "ReplicaSetCreateError");
    assert!(progressing["message"].as_str().unwrap().ends_with("exceeded quota"));
}

fn share() -> impl Strategy<Value = Value> {
    prop_oneof![(0..5).prop_map(|n| json!(n)), (0..101).prop_map(|n| json!(format!("{n}%")))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases * 3 / 8))]

    /// Whatever the bounds, and in whatever order pods come and go: a rolling update never goes above its surge, never
    /// below its minimum once that was reached, and arrives.
    #[test]
    fn rolling_updates_keep_their_bounds_and_arrive(
        replicas in 0..12i32,
        surge in share(),
        unavailable in share(),
        chances in proptest::collection::vec(0..1000usize, 400),
    ) {
        let mut sim = Sim::new(spec(replicas, "v1", rolling(surge.clone(), unavailable.clone())));
        sim.settle();
        prop_assert_eq!(sim.available(), replicas);
        sim.now = sim.now.checked_add(jiff::SignedDuration::from_secs(5)).unwrap();
        sim.respec(spec(replicas, "v2", rolling(surge, unavailable)));
        let (surge, unavailable) = sets::bounds(&sim.deployment);
        for chance in chances {
            if chance % 3 == 0 {
                sim.step();
            } else {
                sim.pods_move(chance);
            }
            prop_assert!(sim.total() <= replicas + surge, "{} above {replicas}+{surge}", sim.total());
            prop_assert!(sim.available() >= replicas - unavailable, "{} below {replicas}-{unavailable}", sim.available());
        }
        sim.settle();
        let now: Vec<_> = sim.sets.values().filter(|set| size(set) > 0).map(image).collect();
        prop_assert!(now.iter().all(|image| image == "v2"));
        prop_assert_eq!(sim.available(), replicas);
    }

    /// A change of size amid a rollout keeps the whole within its bounds, and both arrive.
    #[test]
    fn scaling_amid_a_rollout_arrives(
        before in 1..12i32,
        after in 0..12i32,
        moves in 0..20usize,
        chances in proptest::collection::vec(0..1000usize, 60),
    ) {
        let strategy = || rolling(json!("25%"), json!("25%"));
        let mut sim = Sim::new(spec(before, "v1", strategy()));
        sim.settle();
        sim.respec(spec(before, "v2", strategy()));
        for at in 0..moves {
            sim.step();
            sim.pods_move(at);
        }
        sim.respec(spec(after, "v2", strategy()));
        let limit = sim.total().max(after + sets::bounds(&sim.deployment).0);
        for chance in chances {
            sim.step();
            sim.pods_move(chance);
            prop_assert!(sim.total() <= limit);
        }
        sim.settle();
        prop_assert_eq!((sim.total(), sim.available()), (after, after));
    }
}
