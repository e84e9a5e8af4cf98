use super::*;
use crate::plan::{Action, Patch};
use crate::stage::{
    Objects, Stage, image, images, is_available, is_leaving, leave, moving, patch, respec, started, typed,
};
use identity::{INDEX_LABEL, NAME_LABEL, range};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, from_value};
use testkit::merge;

/// A world of one StatefulSet, in which its plans are carried out and its pods behave.
struct Sim {
    set: StatefulSet,
    pods: Objects,
    revisions: Objects,
    claims: Objects,
    /// The image that never gets ready.
    broken: Option<&'static str>,
    made: usize,
    said: Vec<String>,
    now: Timestamp,
}

fn set(more: Value) -> StatefulSet {
    let mut set = json!({
        "metadata": { "name": "web", "namespace": "x", "uid": "u", "generation": 1, "resourceVersion": "1" },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": "web" } }, "serviceName": "peers",
            "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 1,
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0, "maxUnavailable": 1 } },
            "template": { "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "v1" }] } },
        },
    });
    merge(&mut set, &json!({ "spec": more }));
    from_value(set).unwrap()
}

fn with_claims(more: Value) -> Value {
    let mut spec = json!({ "volumeClaimTemplates": [{
        "metadata": { "name": "data", "labels": { "kind": "disk" } },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        "status": { "phase": "Pending" },
    }] });
    merge(&mut spec, &more);
    spec
}

impl Sim {
    fn new(more: Value) -> Self {
        Self {
            set: set(more),
            pods: Objects::new(),
            revisions: Objects::new(),
            claims: Objects::new(),
            broken: None,
            made: 0,
            said: Vec::new(),
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    fn respec(&mut self, more: Value) {
        respec(&mut self.set, &more);
    }

    fn view(&self) -> View {
        let claims: Vec<Arc<PersistentVolumeClaim>> = typed(&self.claims);
        let namesake = self.revisions.get(&history::name_of(&self.set));
        View {
            set: Some(Arc::new(self.set.clone())),
            pods: typed(&self.pods),
            revisions: typed(&self.revisions),
            namesake: namesake.map(|value| Arc::new(from_value(value.clone()).unwrap())),
            claims: claims.into_iter().map(|claim| (claim.name_any(), claim)).collect(),
        }
    }

    fn of_kind(&mut self, kind: &str) -> &mut Objects {
        match kind {
            "Pod" => &mut self.pods,
            "ControllerRevision" => &mut self.revisions,
            "PersistentVolumeClaim" => &mut self.claims,
            other => panic!("a {other}"),
        }
    }

    /// In order, a pod is made when all before it are available; and never before its claims.
    fn check_order(&self, pod: &Value) {
        let made: Pod = from_value(pod.clone()).unwrap();
        let at = ordinal(&self.set, &made).unwrap();
        if identity::is_ordered(&self.set) {
            for before in range(&self.set).start..at {
                let name = identity::pod_name(&self.set, before);
                assert!(self.is_available(&name), "{name} is not available, and pod {at} is made");
            }
        }
        for template in claims::templates(&self.set) {
            assert!(self.claims.contains_key(&claims::name(&self.set, template, at)));
        }
    }

    fn is_available(&self, name: &str) -> bool {
        self.pods.get(name).is_some_and(is_available)
    }

    fn available(&self) -> usize {
        self.pods.keys().filter(|name| self.is_available(name)).count()
    }

    fn said(&mut self) -> String {
        std::mem::take(&mut self.said).join(" ")
    }

    fn images(&self) -> String {
        images(&self.pods)
    }

    fn status(&self) -> k8s_openapi::api::apps::v1::StatefulSetStatus {
        self.set.status.clone().unwrap()
    }

    fn names(of: &Objects) -> String {
        of.keys().cloned().collect::<Vec<_>>().join(" ")
    }
}

impl Stage for Sim {
    fn actions(&mut self) -> Vec<Action> {
        plan(&self.view(), self.now).actions
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(create) => {
                let mut object = create.object;
                self.made += 1;
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                object["metadata"]["uid"] = json!(format!("{name}/{}", self.made));
                let kind = create.resource.kind;
                if kind == "Pod" {
                    object["status"] = json!({ "phase": "Pending" });
                    self.check_order(&object);
                    self.said.push(format!("+{name}"));
                }
                assert!(self.of_kind(&kind).insert(name, object).is_none(), "a name was taken twice");
            }
            Action::Patch(Patch { resource, key, body, subresource, .. }) => {
                if resource.kind == "StatefulSet" {
                    assert_eq!(subresource, Some("status"), "this would be a new generation of the set");
                    patch(&mut self.set, &body);
                } else {
                    merge(self.of_kind(&resource.kind).get_mut(&key.name).unwrap(), &body);
                }
            }
            Action::Delete(delete) if delete.resource.kind == "Pod" => {
                leave(&mut self.pods, &delete.key.name, self.now);
                self.said.push(format!("-{}", delete.key.name));
            }
            Action::Delete(delete) => {
                self.of_kind(&delete.resource.kind).remove(&delete.key.name).unwrap();
            }
            _ => {}
        }
    }

    fn pods_move(&mut self, chance: usize) -> bool {
        let Some(name) = moving(&self.pods, self.broken, chance) else { return false };
        let pod = self.pods.get_mut(&name).unwrap();
        if !is_leaving(pod) {
            started(pod, self.now);
            return true;
        }
        let uid = pod["metadata"]["uid"].clone();
        self.pods.remove(&name);
        // What the garbage collector does.
        self.claims.retain(|_, claim| claim["metadata"]["ownerReferences"][0]["uid"] != uid);
        true
    }
}

#[test]
fn pods_come_in_order_and_go_in_reverse() {
    let mut sim = Sim::new(json!({}));
    sim.settle();
    assert_eq!(sim.said(), "+web-0 +web-1 +web-2");
    let status = sim.status();
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, Some(3), Some(3)));
    assert_eq!((status.updated_replicas, status.current_replicas), (Some(3), Some(3)));
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!((status.observed_generation, status.collision_count), (Some(1), Some(0)));
    assert_eq!(sim.step(), 0, "at rest nothing is written");
    sim.respec(json!({ "replicas": 1 }));
    sim.settle();
    assert_eq!(sim.said(), "-web-2 -web-1");
}

#[test]
fn a_pod_is_itself() {
    let mut sim = Sim::new(with_claims(json!({ "ordinals": { "start": 5 }, "replicas": 1 })));
    sim.respec(json!({ "template": { "spec": { "volumes": [
        { "name": "data", "emptyDir": {} }, { "name": "own", "emptyDir": {} },
    ] } } }));
    sim.settle();
    let pod = &sim.pods["web-5"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!((&labels[NAME_LABEL], &labels[INDEX_LABEL]), (&json!("web-5"), &json!("5")));
    assert_eq!(labels[history::HASH_LABEL], json!(sim.status().update_revision));
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-5"), &json!("peers")));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data-web-5" } },
            { "name": "own", "emptyDir": {} }])
    );
    let claim = &sim.claims["data-web-5"];
    assert_eq!(claim["metadata"]["labels"], json!({ "kind": "disk", "app": "web" }));
    assert!(claim.get("status").is_none() && claim["spec"]["accessModes"][0] == "ReadWriteOnce");
    sim.pods.get_mut("web-5").unwrap()["metadata"]["labels"] = json!({ "app": "web" });
    sim.step();
    assert_eq!(sim.pods["web-5"]["metadata"]["labels"][NAME_LABEL], "web-5", "it gets its labels back");
}

#[test]
fn in_parallel_nobody_waits_but_not_too_many_come_at_once() {
    let mut sim = Sim::new(json!({ "podManagementPolicy": "Parallel" }));
    sim.step();
    assert_eq!(sim.said(), "+web-0 +web-1 +web-2");
    sim.respec(json!({ "replicas": 0 }));
    sim.step();
    assert_eq!(sim.said().split(' ').count(), 3);
    let mut sim = Sim::new(json!({ "podManagementPolicy": "Parallel", "replicas": i32::MAX }));
    sim.step();
    assert_eq!(sim.pods.len(), BURST);
}

#[test]
fn what_has_ended_is_replaced_once_it_is_gone() {
    let mut sim = Sim::new(json!({}));
    sim.settle();
    sim.said();
    for phase in ["Failed", "Succeeded"] {
        sim.pods.get_mut("web-1").unwrap()["status"] = json!({ "phase": phase });
        sim.step();
        sim.step();
        assert_eq!(sim.step(), 0, "nothing is done while it goes");
        assert!(sim.pods["web-1"]["metadata"].get("deletionTimestamp").is_some());
        sim.settle();
        assert_eq!(sim.said(), "-web-1 +web-1");
    }
}

#[test]
fn an_update_goes_from_the_highest_down_to_the_partition() {
    let mut sim = Sim::new(json!({}));
    sim.settle();
    sim.said();
    let first = sim.status().update_revision;
    sim.respec(json!({ "updateStrategy": { "rollingUpdate": { "partition": 1 } } }));
    sim.respec(image("v2"));
    sim.settle();
    assert_eq!(sim.said(), "-web-2 +web-2 -web-1 +web-1");
    assert_eq!(sim.images(), "v1 v2 v2");
    let status = sim.status();
    assert_eq!((&status.current_revision, status.updated_replicas), (&first, Some(2)));
    assert_ne!(status.update_revision, first);
    // One below the partition comes back as it was.
    sim.pods.get_mut("web-0").unwrap()["status"] = json!({ "phase": "Failed" });
    sim.settle();
    assert_eq!((sim.said(), sim.images()), ("-web-0 +web-0".into(), "v1 v2 v2".into()));
    sim.respec(json!({ "updateStrategy": { "rollingUpdate": { "partition": 0 } } }));
    sim.settle();
    assert_eq!(sim.images(), "v2 v2 v2");
    assert_eq!(sim.status().current_revision, sim.status().update_revision);
    sim.respec(json!({ "updateStrategy": { "rollingUpdate": { "partition": 100 } } }));
    sim.respec(image("v3"));
    sim.settle();
    assert_eq!(sim.images(), "v2 v2 v2", "a partition above all holds all back");
}

#[test]
fn what_is_deleted_by_others_alone_is_updated_then_only() {
    let mut sim = Sim::new(json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } }));
    sim.settle();
    sim.respec(image("v2"));
    sim.settle();
    assert_eq!(sim.images(), "v1 v1 v1");
    sim.pods.remove("web-1");
    sim.settle();
    assert_eq!(sim.images(), "v1 v2 v1");
}

#[test]
fn a_broken_update_stops_at_its_first_pod() {
    let mut sim = Sim::new(json!({}));
    sim.settle();
    sim.broken = Some("v2");
    sim.said();
    sim.respec(image("v2"));
    sim.settle();
    assert_eq!((sim.said(), sim.images()), ("-web-2 +web-2".into(), "v1 v1 v2".into()));
    sim.respec(image("v1"));
    sim.settle();
    assert_eq!(sim.images(), "v1 v1 v2", "in order it waits for the broken one, as upstream does");
    sim.pods.remove("web-2");
    sim.settle();
    assert_eq!(sim.images(), "v1 v1 v1");
}

#[test]
fn in_parallel_broken_pods_are_replaced_first_and_cost_nothing() {
    let unavailable = json!({ "updateStrategy": { "rollingUpdate": { "maxUnavailable": 2 } },
        "podManagementPolicy": "Parallel", "replicas": 5 });
    let mut sim = Sim::new(unavailable);
    sim.settle();
    sim.said();
    for name in ["web-0", "web-1"] {
        sim.pods.get_mut(name).unwrap()["status"] = json!({ "phase": "Running" });
    }
    sim.respec(image("v2"));
    sim.step();
    assert_eq!(sim.said(), "-web-1 -web-0", "two are not available already");
    sim.settle();
    assert_eq!(sim.images(), "v2 v2 v2 v2 v2");
}

#[test]
fn minimum_readiness_is_waited_for() {
    let mut sim = Sim::new(json!({ "minReadySeconds": 10 }));
    sim.step();
    sim.pods_move(0);
    let waits = plan(&sim.view(), sim.now);
    let until = sim.now + SignedDuration::from_secs(10);
    assert_eq!(waits.requeue_at, Some(until));
    sim.step();
    assert_eq!(sim.said(), "+web-0");
    let status = sim.status();
    assert_eq!((status.ready_replicas, status.available_replicas), (Some(1), Some(0)));
    sim.now = until;
    sim.step();
    assert_eq!(sim.said(), "+web-1");
}

#[test]
fn claims_stay_or_go_as_the_policy_says() {
    let policy = |deleted: &str, scaled: &str| json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": deleted, "whenScaled": scaled } });
    let owners = |sim: &Sim, claim: &str| {
        let owners = sim.claims[claim]["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        owners.iter().map(|owner| owner["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let mut sim = Sim::new(with_claims(json!({})));
    sim.settle();
    assert_eq!(owners(&sim, "data-web-2"), "");
    sim.respec(policy("Delete", "Retain"));
    sim.settle();
    assert_eq!(owners(&sim, "data-web-2"), "StatefulSet");
    sim.respec(policy("Retain", "Delete"));
    sim.settle();
    assert_eq!(owners(&sim, "data-web-2"), "");
    sim.respec(json!({ "replicas": 2 }));
    sim.step();
    assert_eq!(owners(&sim, "data-web-2"), "Pod", "before the pod goes");
    sim.settle();
    assert_eq!(Sim::names(&sim.claims), "data-web-0 data-web-1");
    sim.respec(policy("Delete", "Delete"));
    sim.settle();
    assert_eq!(owners(&sim, "data-web-1"), "StatefulSet");
    sim.respec(json!({ "replicas": 1 }));
    sim.step();
    assert_eq!(owners(&sim, "data-web-1"), "Pod", "the set's own end has nothing to do with it now");
    sim.settle();
    sim.respec(policy("Retain", "Retain"));
    sim.settle();
    assert_eq!((Sim::names(&sim.claims), owners(&sim, "data-web-0")), ("data-web-0".into(), String::new()));
}

#[test]
fn a_claim_on_its_way_out_keeps_its_pod_from_being_made() {
    let policy = json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Delete" }, "replicas": 1 });
    let mut sim = Sim::new(with_claims(policy));
    let claim = |owner: Value, deleted: Value| json!({ "metadata": { "name": "data-web-0", "uid": "c", "ownerReferences": owner, "deletionTimestamp": deleted } });
    let earlier = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "earlier" }]);
    sim.claims.insert("data-web-0".into(), claim(earlier, Value::Null));
    sim.step();
    assert!(sim.pods.is_empty(), "it would lose its claim with the pod before it");
    sim.claims.insert("data-web-0".into(), claim(json!([]), json!(Time(sim.now))));
    sim.step();
    assert!(sim.pods.is_empty());
    sim.claims.clear();
    sim.settle();
    assert_eq!(sim.pods.len(), 1);
    sim.claims.clear();
    sim.pods.get_mut("web-0").unwrap()["status"] = json!({ "phase": "Pending" });
    sim.step();
    assert_eq!(Sim::names(&sim.claims), "data-web-0", "a pod that has not started gets its claim again");
}

#[test]
fn a_claim_of_another_controller_is_left_to_it() {
    let policy =
        json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" }, "replicas": 1 });
    let mut sim = Sim::new(with_claims(policy));
    sim.settle();
    let other = json!({ "apiVersion": "example.com/v1", "kind": "Keeper", "name": "k", "uid": "k", "controller": true });
    let owners = &mut sim.claims.get_mut("data-web-0").unwrap()["metadata"]["ownerReferences"];
    owners.as_array_mut().unwrap().push(other.clone());
    sim.settle();
    assert_eq!(sim.claims["data-web-0"]["metadata"]["ownerReferences"], json!([other]));
}

#[test]
fn pods_that_look_like_its_own_are_adopted_and_others_let_go() {
    let mut sim = Sim::new(json!({ "replicas": 1 }));
    sim.settle();
    let orphan = |name: &str, app: &str| json!({ "metadata": { "name": name, "namespace": "x", "uid": name, "labels": { "app": app } } });
    for (name, app) in [("web-7", "web"), ("web-08", "web"), ("other-0", "web"), ("web-9", "db")] {
        sim.pods.insert(name.into(), orphan(name, app));
    }
    sim.pods.get_mut("web-0").unwrap()["metadata"]["labels"]["app"] = json!("db");
    let actions = plan(&sim.view(), sim.now).actions;
    let patched: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Patch(patch) => {
                Some((patch.key.name.as_str(), patch.body["metadata"]["ownerReferences"].as_array()?.len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(patched, [("web-0", 0), ("web-7", 1)]);
}

#[test]
fn versions_are_kept_as_long_as_they_are_wanted_and_can_come_back() {
    let mut sim = Sim::new(json!({}));
    let names = ["v1", "v2", "v3", "v4"].map(|version| {
        sim.respec(image(version));
        sim.settle();
        sim.status().current_revision.unwrap()
    });
    let mut kept = [names[2].clone(), names[3].clone()];
    kept.sort();
    assert_eq!(Sim::names(&sim.revisions), kept.join(" "), "the present one and one more");
    sim.respec(image("v3"));
    sim.settle();
    assert_eq!((sim.status().current_revision.as_ref(), sim.images()), (Some(&names[2]), "v3 v3 v3".into()));
    assert_eq!(sim.revisions[&names[2]]["revision"], 5);
}

#[test]
fn a_foreign_revision_of_the_same_name_is_stepped_around() {
    let mut sim = Sim::new(json!({}));
    let name = history::name_of(&sim.set);
    let foreign = json!({ "metadata": { "name": name, "namespace": "x" }, "revision": 1, "data": {} });
    sim.revisions.insert(name, foreign);
    sim.settle();
    assert_eq!(sim.status().collision_count, Some(1));
    assert_eq!((sim.revisions.len(), sim.available()), (2, 3));
}

#[test]
fn a_set_that_goes_makes_nothing() {
    let mut sim = Sim::new(json!({}));
    sim.set.metadata.deletion_timestamp = Some(Time(sim.now));
    sim.settle();
    assert!(sim.pods.is_empty() && sim.revisions.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    /// Whatever the policy, and in whatever order pods come and go: no more become unavailable by an update than may, those
    /// below the partition stay, pods are made in order (which the world checks), and all arrives.
    #[test]
    fn updates_and_sizes_arrive(
        before in 1..7i32,
        after in 0..7i32,
        unavailable in 1..4i32,
        partition in 0..3i32,
        parallel: bool,
        chances in proptest::collection::vec(0..1000usize, 150),
    ) {
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        let rolling = json!({ "partition": partition, "maxUnavailable": unavailable });
        let spec = json!({ "replicas": before, "podManagementPolicy": policy,
            "updateStrategy": { "rollingUpdate": rolling } });
        let mut sim = Sim::new(with_claims(spec));
        sim.settle();
        sim.respec(image("v2"));
        for chance in &chances {
            if chance % 3 == 0 {
                sim.step_as_far_as(chance % 7);
            } else {
                sim.pods_move(*chance);
            }
            let down = before - i32::try_from(sim.available()).unwrap();
            prop_assert!(down <= unavailable, "{down} are down, and {unavailable} may be");
        }
        sim.settle();
        for (name, pod) in &sim.pods {
            let at = name.rsplit('-').next().unwrap().parse::<i32>().unwrap();
            let wanted = if at < partition { "v1" } else { "v2" };
            prop_assert_eq!(&pod["spec"]["containers"][0]["image"], wanted);
        }
        sim.respec(json!({ "replicas": after }));
        for chance in &chances {
            if chance % 3 == 0 {
                sim.step_as_far_as(chance % 7);
            } else {
                sim.pods_move(*chance);
            }
        }
        sim.settle();
        prop_assert_eq!(i32::try_from(sim.pods.len()).unwrap(), after);
        prop_assert_eq!(i32::try_from(sim.available()).unwrap(), after);
        prop_assert_eq!(sim.step(), 0);
    }
}
