use super::*;
use crate::plan::{Action, Patch};
use crate::stage::{
    Objects, Stage, image, images, is_available, is_leaving, leave, moving, patch, respec, started, typed,
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, from_value};
use testkit::merge;

/// A world of one DaemonSet and some nodes, in which its plans are carried out and its pods behave.
struct Sim {
    set: DaemonSet,
    nodes: Vec<Arc<Node>>,
    pods: Objects,
    revisions: Objects,
    memory: Memory,
    broken: Option<&'static str>,
    made: usize,
    now: Timestamp,
}

fn node(name: &str, more: Value) -> Arc<Node> {
    let mut node = json!({ "metadata": { "name": name } });
    merge(&mut node, &more);
    Arc::new(from_value(node).unwrap())
}

fn tainted(name: &str, key: &str, effect: &str) -> Arc<Node> {
    node(name, json!({ "spec": { "taints": [{ "key": key, "effect": effect }] } }))
}

fn set(more: Value) -> DaemonSet {
    let mut set = json!({
        "metadata": { "name": "agent", "namespace": "x", "uid": "u", "generation": 1, "resourceVersion": "1" },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } }, "revisionHistoryLimit": 1,
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1, "maxSurge": 0 } },
            "template": { "metadata": { "labels": { "app": "agent" } },
                "spec": { "containers": [{ "name": "c", "image": "v1" }] } },
        },
    });
    merge(&mut set, &json!({ "spec": more }));
    from_value(set).unwrap()
}

fn rolling(unavailable: Value, surge: Value) -> Value {
    json!({ "updateStrategy": { "rollingUpdate": { "maxUnavailable": unavailable, "maxSurge": surge } } })
}

impl Sim {
    fn new(nodes: usize, more: Value) -> Self {
        Self {
            set: set(more),
            nodes: (0..nodes).map(|number| node(&format!("n{number}"), json!({}))).collect(),
            pods: Objects::new(),
            revisions: Objects::new(),
            memory: Memory::default(),
            broken: None,
            made: 0,
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    fn respec(&mut self, more: Value) {
        respec(&mut self.set, &more);
    }

    fn view(&self) -> View {
        let namesake = self.revisions.get(&history::name_of(&self.set));
        View {
            set: Some(Arc::new(self.set.clone())),
            nodes: self.nodes.clone(),
            pods: typed(&self.pods),
            revisions: typed(&self.revisions),
            namesake: namesake.map(|value| Arc::new(from_value(value.clone()).unwrap())),
        }
    }

    fn plan(&mut self) -> Plan<Memory> {
        let plan = plan(&self.view(), &self.memory, self.now);
        self.memory = plan.memory.clone().unwrap_or_default();
        plan
    }

    /// How many nodes have a pod that serves.
    fn served(&self) -> usize {
        let serving = self.pods.values().filter(|pod| is_available(pod)).map(wants);
        serving.collect::<std::collections::BTreeSet<_>>().len()
    }

    fn staying(&self) -> Vec<&Value> {
        self.pods.values().filter(|pod| !is_leaving(pod)).collect()
    }

    fn on(&self) -> Vec<String> {
        let mut on: Vec<_> = self.staying().into_iter().map(wants).collect();
        on.sort();
        on
    }

    fn images(&self) -> String {
        images(&self.pods)
    }

    fn status(&self) -> k8s_openapi::api::apps::v1::DaemonSetStatus {
        self.set.status.clone().unwrap()
    }
}

impl Stage for Sim {
    fn actions(&mut self) -> Vec<Action> {
        self.plan().actions
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(create) if create.resource.kind == "Pod" => {
                let mut pod = create.object;
                self.made += 1;
                let name = format!("agent-{:03}", self.made);
                pod["metadata"]["name"] = json!(name);
                pod["metadata"]["uid"] = json!(name);
                pod["metadata"]["creationTimestamp"] = json!(Time(self.now));
                pod["status"] = json!({ "phase": "Pending" });
                self.pods.insert(name, pod);
            }
            Action::Create(create) => {
                let name = create.object["metadata"]["name"].as_str().unwrap().to_owned();
                assert!(self.revisions.insert(name, create.object).is_none(), "a name was taken twice");
            }
            Action::Patch(Patch { resource, key, body, subresource, .. }) => match resource.kind.as_str() {
                "DaemonSet" => {
                    assert_eq!(subresource, Some("status"), "this would be a new generation of the set");
                    patch(&mut self.set, &body);
                }
                "Pod" => merge(self.pods.get_mut(&key.name).unwrap(), &body),
                _ => merge(self.revisions.get_mut(&key.name).unwrap(), &body),
            },
            Action::Delete(delete) if delete.resource.kind == "Pod" => {
                leave(&mut self.pods, &delete.key.name, self.now);
            }
            Action::Delete(delete) => drop(self.revisions.remove(&delete.key.name).unwrap()),
            _ => {}
        }
    }

    /// It is placed, starts, or ends.
    fn pods_move(&mut self, chance: usize) -> bool {
        let Some(name) = moving(&self.pods, self.broken, chance) else { return false };
        let pod = self.pods.get_mut(&name).unwrap();
        if is_leaving(pod) {
            self.pods.remove(&name);
        } else if pod["spec"].get("nodeName").is_none() {
            pod["spec"]["nodeName"] = json!(wants(pod));
        } else {
            started(pod, self.now);
        }
        true
    }
}

/// The node that a pod asks for.
fn wants(pod: &Value) -> String {
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].as_str().unwrap().to_owned()
}

#[test]
fn each_node_that_is_fit_has_one() {
    let mut sim = Sim::new(2, json!({ "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } }));
    let ssd = json!({ "metadata": { "labels": { "disk": "ssd" } } });
    sim.nodes.extend([node("a", ssd.clone()), node("b", ssd)]);
    sim.settle();
    assert_eq!(sim.on(), ["a", "b"]);
    let status = sim.status();
    assert_eq!(
        (status.desired_number_scheduled, status.current_number_scheduled, status.number_ready),
        (2, 2, 2)
    );
    assert_eq!(
        (status.updated_number_scheduled, status.number_available, status.number_unavailable),
        (Some(2), Some(2), None)
    );
    assert_eq!((status.number_misscheduled, status.observed_generation), (0, Some(1)));
    assert_eq!(sim.step(), 0, "at rest nothing is written");
    let pod = sim.pods.values().next().unwrap();
    let hash = pod["metadata"]["labels"][HASH_LABEL].as_str().unwrap();
    assert!(sim.revisions.contains_key(&format!("agent-{hash}")));
    let tolerations = pod["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.len(), 6);
    assert_eq!(
        tolerations[0],
        json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" })
    );
    sim.nodes.retain(|node| node.name_any() != "a");
    sim.step();
    assert_eq!(sim.status().desired_number_scheduled, 1);
    assert_eq!(sim.on(), ["a", "b"], "its pod is for the pod garbage collector");
}

#[test]
fn taints_keep_pods_away_drive_them_off_or_are_borne() {
    let fit = |node: &Node, more: Value| Fitting::of(&set(json!({ "template": { "spec": more } }))).fit(node);
    let plain = json!({});
    assert_eq!(fit(&tainted("n", "mine", "NoSchedule"), plain.clone()), Fit::Borne);
    assert_eq!(fit(&tainted("n", "mine", "NoExecute"), plain.clone()), Fit::Unfit);
    assert_eq!(fit(&tainted("n", "mine", "PreferNoSchedule"), plain.clone()), Fit::Wanted);
    for key in ["not-ready", "unreachable"] {
        assert_eq!(
            fit(&tainted("n", &format!("node.kubernetes.io/{key}"), "NoExecute"), plain.clone()),
            Fit::Wanted
        );
    }
    let network = tainted("n", "node.kubernetes.io/network-unavailable", "NoSchedule");
    assert_eq!(fit(&network, plain.clone()), Fit::Borne);
    assert_eq!(fit(&network, json!({ "hostNetwork": true })), Fit::Wanted);
    assert_eq!(
        fit(&tainted("n", "mine", "NoSchedule"), json!({ "tolerations": [{ "operator": "Exists" }] })),
        Fit::Wanted
    );
    assert_eq!(fit(&node("n", plain.clone()), json!({ "nodeName": "m" })), Fit::Unfit);
    let fields = json!([{ "key": "metadata.name", "operator": "NotIn", "values": ["n"] }]);
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchFields": fields }] } } });
    assert_eq!(fit(&node("n", plain.clone()), json!({ "affinity": affinity })), Fit::Unfit);
    assert_eq!(fit(&node("m", plain), json!({ "affinity": affinity })), Fit::Wanted);
}

#[test]
fn a_node_that_is_no_longer_fit_loses_its_pod() {
    let mut sim = Sim::new(3, json!({}));
    sim.settle();
    sim.nodes[0] = tainted("n0", "mine", "NoExecute");
    sim.nodes[1] = tainted("n1", "mine", "NoSchedule");
    sim.settle();
    assert_eq!(sim.on(), ["n1", "n2"]);
    assert_eq!((sim.status().desired_number_scheduled, sim.status().number_misscheduled), (1, 1));
}

#[test]
fn what_waits_for_a_node_that_is_gone_goes() {
    let mut sim = Sim::new(2, json!({}));
    sim.step();
    sim.nodes.truncate(1);
    sim.settle();
    assert_eq!(sim.on(), ["n0"]);
}

#[test]
fn what_has_ended_is_replaced_and_failures_with_patience() {
    let mut sim = Sim::new(1, json!({}));
    sim.settle();
    let end = |sim: &mut Sim, phase: &str| {
        sim.pods.values_mut().for_each(|pod| pod["status"] = json!({ "phase": phase }));
    };
    end(&mut sim, "Succeeded");
    sim.settle();
    assert_eq!((sim.made, sim.served()), (2, 1));
    end(&mut sim, "Failed");
    sim.settle();
    assert_eq!((sim.made, sim.served()), (3, 1));
    end(&mut sim, "Failed");
    sim.step();
    let waits = sim.plan();
    assert_eq!(waits.requeue_at, Some(sim.now + SignedDuration::from_secs(1)));
    sim.settle();
    assert_eq!((sim.made, sim.served()), (3, 0), "it has failed a moment ago");
    sim.now += SignedDuration::from_secs(1);
    sim.settle();
    assert_eq!((sim.made, sim.served()), (4, 1));
}

#[test]
fn an_update_waits_for_none_when_it_is_others_business() {
    let mut sim = Sim::new(2, json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } }));
    sim.settle();
    sim.respec(image("v2"));
    sim.settle();
    assert_eq!(sim.images(), "v1 v1");
    assert_eq!(sim.status().updated_number_scheduled, None);
    sim.pods.pop_first();
    sim.settle();
    assert_eq!(sim.images(), "v1 v2");
}

#[test]
fn a_broken_update_stops_and_can_be_taken_back() {
    let mut sim = Sim::new(4, json!({}));
    sim.settle();
    sim.broken = Some("v2");
    sim.respec(image("v2"));
    sim.settle();
    assert_eq!(sim.served(), 3, "one is broken");
    sim.respec(image("v1"));
    sim.settle();
    assert_eq!((sim.served(), sim.images()), (4, "v1 v1 v1 v1".into()));
    let mut numbers: Vec<_> = sim.revisions.values().map(|revision| revision["revision"].clone()).collect();
    numbers.sort_by_key(|number| number.as_i64());
    assert_eq!(numbers, [2, 3], "the first template came back under the next number");
}

#[test]
fn old_pods_that_do_not_serve_are_replaced_whatever_may_be_unavailable() {
    let mut sim = Sim::new(3, json!({}));
    sim.broken = Some("v1");
    sim.settle();
    sim.respec(image("v2"));
    sim.settle();
    assert_eq!((sim.served(), sim.images()), (3, "v2 v2 v2".into()));
}

#[test]
fn with_a_surge_the_new_one_comes_before_the_old_one_goes() {
    let mut sim = Sim::new(3, rolling(json!(0), json!(1)));
    sim.settle();
    sim.respec(image("v2"));
    sim.step();
    sim.step();
    assert_eq!(sim.staying().len(), 4);
    sim.settle();
    assert_eq!((sim.served(), sim.images()), (3, "v2 v2 v2".into()));
}

#[test]
fn revisions_that_say_the_same_become_one() {
    let mut sim = Sim::new(1, json!({}));
    sim.settle();
    let (name, first) = sim.revisions.pop_first().unwrap();
    let mut twin = first.clone();
    merge(
        &mut twin,
        &json!({ "metadata": { "name": "agent-twin", "labels": { HASH_LABEL: "twin" } }, "revision": 7 }),
    );
    sim.revisions = [(name, first), ("agent-twin".into(), twin)].into();
    sim.settle();
    assert_eq!(sim.revisions.keys().collect::<Vec<_>>(), ["agent-twin"]);
    assert_eq!((sim.made, sim.staying()[0]["metadata"]["labels"][HASH_LABEL].as_str()), (1, Some("twin")));
}

#[test]
fn a_set_that_selects_all_is_told_so_and_one_that_goes_rests() {
    let all =
        View { set: Some(Arc::new(set(json!({ "selector": { "matchLabels": null } })))), ..View::default() };
    let plan_of = |view: &View| plan(view, &Memory::default(), Timestamp::UNIX_EPOCH).actions;
    assert!(matches!(&plan_of(&all)[..], [Action::Tell { reason: "SelectingAll", .. }]));
    let mut sim = Sim::new(1, json!({}));
    sim.set.metadata.deletion_timestamp = Some(Time(sim.now));
    assert!(plan_of(&sim.view()).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    /// Whatever the bounds, and in whatever order pods come and go: an update takes no more nodes' pods away than may be
    /// unavailable, makes no more than may be too many, and arrives.
    #[test]
    fn updates_keep_their_bounds_and_arrive(
        nodes in 1..8usize,
        bound in 1..4usize,
        surges: bool,
        chances in proptest::collection::vec(0..1000usize, 150),
    ) {
        let spec = if surges { rolling(json!(0), json!(bound)) } else { rolling(json!(bound), json!(0)) };
        let mut sim = Sim::new(nodes, spec);
        sim.settle();
        sim.respec(image("v2"));
        for chance in chances {
            if chance % 3 == 0 {
                sim.step_as_far_as(chance % 7);
            } else {
                sim.pods_move(chance);
            }
            let (unavailable, surge) = if surges { (0, bound) } else { (bound, 0) };
            prop_assert!(sim.served() + unavailable >= nodes, "{} of {nodes} are served", sim.served());
            prop_assert!(sim.staying().len() <= nodes + surge);
        }
        sim.settle();
        let all = vec!["v2"; nodes].join(" ");
        prop_assert_eq!((sim.served(), sim.images()), (nodes, all));
    }
}
