use super::*;
use crate::plan::Action;
use serde_json::{Value, from_value, json};

const START: &str = "2026-01-02T03:04:05Z";

fn now() -> Timestamp {
    START.parse().unwrap()
}

fn set(replicas: i32) -> ReplicaSet {
    from_value(json!({
        "metadata": { "name": "web", "namespace": "x", "uid": "web", "resourceVersion": "7", "generation": 1 },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } } },
        },
    }))
    .unwrap()
}

/// A pod with the set's labels, and what else is said of it.
fn pod(name: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "x", "uid": name, "labels": { "app": "web" } },
        "spec": { "containers": [] },
    });
    testkit::merge(&mut pod, &more);
    Arc::new(from_value(pod).unwrap())
}

/// One that the set controls.
fn own(name: &str, mut more: Value) -> Arc<Pod> {
    more["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web", "controller": true },
    ]);
    pod(name, more)
}

fn own_many(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|number| own(&format!("p{number}"), json!({}))).collect()
}

fn planned(set: ReplicaSet, pods: Vec<Arc<Pod>>, orphans: Vec<Arc<Pod>>) -> Plan<Memory> {
    let related = pods.clone();
    let view = View { set: Some(Arc::new(set)), pods, orphans, related };
    plan(&view, &Memory::default(), now())
}

/// What a plan does, in short; the status aside.
fn done(plan: &Plan<Memory>) -> Vec<String> {
    let short = |action: &Action| match action {
        Action::Create(_) => Some("create".to_owned()),
        Action::Delete(delete) => Some(format!("delete {}", delete.key.name)),
        Action::Confirm { key, uid, .. } => Some(format!("confirm {} {}", key.name, uid.as_deref()?)),
        Action::Patch(patch) if patch.subresource.is_none() => {
            let owners = patch.body["metadata"]["ownerReferences"].as_array()?;
            Some(format!("{} has {} owners", patch.key.name, owners.len()))
        }
        _ => None,
    };
    plan.actions.iter().filter_map(short).collect()
}

#[test]
fn as_many_as_are_wanted_but_not_too_many_at_once() {
    assert_eq!(done(&planned(set(3), own_many(1), vec![])), ["create", "create"]);
    assert_eq!(done(&planned(set(3), own_many(3), vec![])), [""; 0]);
    assert_eq!(done(&planned(set(3), own_many(4), vec![])).len(), 1);
    assert_eq!(done(&planned(set(2000), vec![], vec![])).len(), BURST);
    assert_eq!(done(&planned(set(0), own_many(BURST + 9), vec![])).len(), BURST);
}

#[test]
fn what_has_ended_or_is_going_does_not_count() {
    let pods = vec![
        own("ended", json!({ "status": { "phase": "Failed" } })),
        own("going", json!({ "metadata": { "deletionTimestamp": START } })),
        own("there", json!({ "status": { "phase": "Running" } })),
    ];
    let plan = planned(set(2), pods, vec![]);
    assert_eq!(done(&plan), ["create"]);
    let Action::Patch(status) = &plan.actions[0] else { panic!("the counts come first") };
    assert_eq!(status.body["status"]["replicas"], 1);
    assert_eq!(status.body["status"]["terminatingReplicas"], 1);
}

#[test]
fn an_orphan_is_adopted_after_the_owner_was_confirmed_and_before_anything_is_made() {
    assert_eq!(
        done(&planned(set(3), own_many(1), vec![pod("orphan", json!({}))])),
        ["confirm web web", "orphan has 1 owners"]
    );
    let ended = pod("ended", json!({ "status": { "phase": "Succeeded" } }));
    let going = pod("going", json!({ "metadata": { "deletionTimestamp": START } }));
    let other = pod("other", json!({ "metadata": { "labels": { "app": "db" } } }));
    assert_eq!(done(&planned(set(0), vec![], vec![ended, going, other])), [""; 0]);
}

#[test]
fn what_is_no_longer_selected_is_let_go() {
    let stray = own("stray", json!({ "metadata": { "labels": { "app": "db" } } }));
    assert_eq!(done(&planned(set(0), vec![stray], vec![])), ["stray has 0 owners"]);
}

#[test]
fn a_set_that_goes_does_nothing_more() {
    let mut going = set(3);
    going.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(done(&planned(going, own_many(1), vec![pod("orphan", json!({}))])), [""; 0]);
}

#[test]
fn victims_come_in_upstreams_order() {
    let ready = |since: &str| {
        json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": since },
        ] })
    };
    let running = |name: &str, more: Value| {
        let mut pod = json!({ "spec": { "nodeName": "n" }, "status": ready("2026-01-02T02:00:00Z") });
        testkit::merge(&mut pod, &more);
        own(name, pod)
    };
    let cost = |cost: &str| json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": cost } } });
    let restarts = json!({ "status": { "containerStatuses": [
        { "name": "c", "restartCount": 4, "image": "", "imageID": "", "ready": true },
    ] } });
    let expected = vec![
        own("1-unplaced", json!({})),
        own("2-pending", json!({ "spec": { "nodeName": "n" }, "status": { "phase": "Pending" } })),
        own("3-unknown", json!({ "spec": { "nodeName": "n" }, "status": { "phase": "Unknown" } })),
        own("4-unready", json!({ "spec": { "nodeName": "n" }, "status": { "phase": "Running" } })),
        running("5-cheap", cost("-5")),
        running("6-young", json!({ "status": ready("2026-01-02T03:04:00Z") })),
        running("7-restarted", restarts),
        running("8-old", json!({ "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" } })),
        running("9-alone", json!({ "spec": { "nodeName": "quiet" } })),
        running("a-dear", cost("5")),
    ];
    let mut pods = expected.clone();
    pods.reverse();
    victims::order(&mut pods, &expected, now());
    let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
    assert_eq!(names(&pods), names(&expected));
}
