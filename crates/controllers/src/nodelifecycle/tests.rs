use super::*;
use crate::plan::Action;
use jiff::SignedDuration;
use serde_json::{Value, from_value};

const START: &str = "2026-01-02T03:04:05Z";

fn at(seconds: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap().checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn node(ready: Option<&str>, taints: Value) -> Node {
    let conditions =
        ready.map(|ready| json!([{ "type": "Ready", "status": ready, "lastHeartbeatTime": START }]));
    from_value(json!({
        "metadata": { "name": "n", "uid": "n", "resourceVersion": "1" },
        "spec": { "taints": taints }, "status": { "conditions": conditions },
    }))
    .unwrap()
}

fn view(node: Node, pods: Vec<Pod>, some_ready: bool) -> View {
    View {
        node: Some(Arc::new(node)),
        heard: None,
        pods: pods.into_iter().map(Arc::new).collect(),
        some_ready,
        grace: (Duration::from_secs(50), Duration::from_secs(60)),
    }
}

fn pod(tolerations: Value) -> Pod {
    from_value(json!({
        "metadata": { "name": "p", "namespace": "x", "uid": "p", "resourceVersion": "1" },
        "spec": { "nodeName": "n", "containers": [], "tolerations": tolerations },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
    .unwrap()
}

fn bodies(plan: &Plan<Memory>) -> Vec<(String, Value)> {
    let patches = plan.actions.iter().filter_map(|action| match action {
        Action::Patch(patch) => Some((patch.resource.kind.clone(), patch.body.clone())),
        _ => None,
    });
    patches.collect()
}

#[test]
fn silence_is_measured_from_when_we_heard() {
    let mut view = view(node(Some("True"), json!([])), vec![], true);
    let unheard = plan(&view, &Memory::default(), at(1000));
    assert!(unheard.actions.is_empty(), "a heartbeat that is old by its own clock is new to us");
    assert_eq!(unheard.requeue_at, Some(at(1050)));
    view.heard = Some(at(1000));
    let later = plan(&view, &Memory::default(), at(1049));
    assert!(later.actions.is_empty());
    assert_eq!(later.requeue_at, Some(at(1050)));
    let last = plan(&view, &Memory::default(), at(1050));
    let (_, body) = bodies(&last).remove(0);
    let conditions = body["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 4);
    assert!(conditions.iter().all(|condition| condition["status"] == "Unknown"));
    assert_eq!(conditions[0]["reason"], "NodeStatusUnknown");
    assert_eq!(conditions[1]["reason"], "NodeStatusNeverUpdated");
}

#[test]
fn what_cannot_be_reached_is_tainted_and_its_pods_not_ready() {
    let unknown = view(node(Some("Unknown"), json!([])), vec![pod(json!([]))], true);
    let plan_now = plan(&unknown, &Memory::default(), at(0));
    let patches = bodies(&plan_now);
    let taints = patches[0].1["spec"]["taints"].as_array().unwrap();
    assert_eq!(taints.len(), 2);
    assert!(taints.iter().all(|taint| taint["key"] == "node.kubernetes.io/unreachable"));
    assert_eq!(
        (patches[1].0.as_str(), patches[1].1["status"]["conditions"][0]["status"].as_str()),
        ("Pod", Some("False"))
    );

    let alone = view(node(Some("Unknown"), json!([])), vec![], false);
    let plan_alone = plan(&alone, &Memory::default(), at(0));
    let (_, body) = bodies(&plan_alone).remove(0);
    assert_eq!(
        body["spec"]["taints"].as_array().unwrap().len(),
        1,
        "with no node ready nobody is driven away"
    );
}

#[test]
fn pods_leave_when_their_patience_ends() {
    let taint = json!([{ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": START },
        { "key": "node.kubernetes.io/unreachable", "effect": "NoSchedule" }]);
    let patient =
        json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300 }]);
    let deletes = |plan: &Plan<Memory>| {
        plan.actions.iter().filter(|action| matches!(action, Action::Delete(_))).count()
    };
    let view_of = |tolerations| view(node(Some("Unknown"), taint.clone()), vec![pod(tolerations)], true);
    let early = plan(&view_of(patient.clone()), &Memory::default(), at(10));
    assert_eq!((deletes(&early), early.requeue_at), (0, Some(at(60)).min(Some(at(300)))));
    assert_eq!(deletes(&plan(&view_of(patient), &Memory::default(), at(300))), 1);
    assert_eq!(deletes(&plan(&view_of(json!([])), &Memory::default(), at(10))), 1);
    assert_eq!(deletes(&plan(&view_of(json!([{ "operator": "Exists" }])), &Memory::default(), at(9000))), 0);
}

#[test]
fn a_node_that_returns_is_cleared() {
    let taints = json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoExecute" }, { "key": "mine", "effect": "NoSchedule" }]);
    let back = plan(&view(node(Some("True"), taints), vec![], true), &Memory::default(), at(0));
    let (_, body) = bodies(&back).remove(0);
    assert_eq!(body["spec"]["taints"], json!([{ "key": "mine", "effect": "NoSchedule" }]));
}
