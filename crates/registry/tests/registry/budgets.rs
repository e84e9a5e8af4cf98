//! Priority classes, disruption budgets, and evictions that ask them.

use apimachinery::status::Status;
use registry::{DeleteOptions, Part, RequestContext};
use serde_json::{Value, json};

use crate::world::{World, cx, findings, pod};

const BUDGETS: &str = "poddisruptionbudgets.policy";
const CLASSES: &str = "priorityclasses.scheduling.k8s.io";

fn budget(spec: Value) -> Value {
    json!({"metadata": {"name": "b"}, "spec": spec})
}

fn for_pod() -> Value {
    budget(json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "p"}}}))
}

async fn refused(resource: &str, object: Value, expected: &str) {
    let status = World::new().await.create(resource, object.clone()).await.unwrap_err();
    assert_eq!(findings(&status), expected, "{object}");
}

/// A pod `p` that runs, ready or not.
async fn running(world: &World, ready: bool) {
    let mut made = world.create("pods", pod("p")).await.unwrap();
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    made["status"]["phase"] = json!("Running");
    made["status"]["conditions"] = json!([condition]);
    made["spec"]["nodeName"] = json!("n");
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    made["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    world.registry.bind(&cx(), "default", "p", binding).await.unwrap();
    world.update_part("pods", Part::Status, made).await.unwrap();
}

/// The budget `b` of that pod, with what its keeper says about it.
async fn kept(world: &World, status: Value) {
    let mut made = world.create(BUDGETS, for_pod()).await.unwrap();
    made["status"] = json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 1,
        "expectedPods": 2});
    for (name, value) in status.as_object().unwrap() {
        made["status"][name] = value.clone();
    }
    world.update_part(BUDGETS, Part::Status, made).await.unwrap();
}

async fn evict(world: &World) -> Result<(), Status> {
    evict_with(world, &cx(), &DeleteOptions::default()).await
}

async fn evict_with(world: &World, cx: &RequestContext, options: &DeleteOptions) -> Result<(), Status> {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    world.registry.evict(cx, "default", "p", eviction, options).await
}

fn cause(status: &Status) -> (u16, &str, &str, u32) {
    let details = status.details.as_ref().expect("details");
    let cause = &details.causes[0];
    (status.code, &cause.reason, &cause.message, details.retry_after_seconds)
}

async fn is_going(world: &World) -> bool {
    world.get("pods", "p").await.unwrap()["metadata"].get("deletionTimestamp").is_some()
}

#[tokio::test]
async fn a_budget_is_shown_as_upstream_shows_it() {
    let world = World::new().await;
    let made = world.create(BUDGETS, for_pod()).await.unwrap();
    let status =
        json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    assert_eq!((&made["status"], &made["metadata"]["generation"]), (&status, &json!(1)));
    let expected = json!({"Name": "b", "Min Available": "1", "Max Unavailable": "N/A", "Allowed Disruptions": 0,
        "Age": "2m30s"});
    assert_eq!(world.row(BUDGETS, "b").await, expected);
    let mut blind = made.clone();
    blind["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let status = world.update(BUDGETS, blind).await.unwrap_err();
    assert!(findings(&status).starts_with("metadata.resourceVersion"), "{status}");
    let mut odd = made;
    odd["status"]["conditions"] = json!([{"type": "X", "status": "Maybe", "reason": "no reason"}]);
    odd["status"]["expectedPods"] = json!(-1);
    let status = world.update_part(BUDGETS, Part::Status, odd).await.unwrap_err();
    let said = findings(&status);
    for part in [
        "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
        "status.conditions[0].lastTransitionTime: Required value: must be set",
        "status.conditions[0].reason: Invalid value: \"no reason\": a condition reason must start with",
        "status.expectedPods: Invalid value: -1: must be greater than or equal to 0",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[tokio::test]
async fn what_a_budget_may_not_say() {
    refused(
        BUDGETS,
        budget(json!({"minAvailable": 1, "maxUnavailable": 1})),
        "spec: Invalid value: {\"MaxUnavailable\":1,\"MinAvailable\":1,\"Selector\":null,\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both \
         set",
    )
    .await;
    refused(
        BUDGETS,
        budget(json!({"minAvailable": "150%"})),
        "spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%",
    )
    .await;
    refused(
        BUDGETS,
        budget(json!({"maxUnavailable": "some"})),
        "spec.maxUnavailable: Invalid value: \"some\": a valid percent string must be a numeric string followed by an \
         ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
    )
    .await;
    refused(
        BUDGETS,
        budget(json!({"unhealthyPodEvictionPolicy": "Never"})),
        "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \
         \"IfHealthyBudget\"",
    )
    .await;
}

#[tokio::test]
async fn a_pod_that_takes_nothing_of_a_budget_goes() {
    let world = World::new().await;
    kept(&world, json!({})).await;
    world.create("pods", pod("p")).await.unwrap();
    evict(&world).await.unwrap();
    assert_eq!(world.get("pods", "p").await.unwrap_err().code, 404, "a pod that has not started");
    assert_eq!(evict(&world).await.unwrap_err().code, 404);
    running(&world, true).await;
    world.delete(BUDGETS, "b").await.unwrap();
    evict(&world).await.unwrap();
    assert!(is_going(&world).await, "a pod without a budget");
    let conditions = world.get("pods", "p").await.unwrap()["status"]["conditions"].clone();
    let target = conditions.as_array().unwrap().iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!(
        (&target["status"], &target["reason"], &target["message"]),
        (&json!("True"), &json!("EvictionByEvictionAPI"), &json!("Eviction API: evicting"))
    );
}

#[tokio::test]
async fn a_budget_is_spent_one_pod_at_a_time() {
    let world = World::new().await;
    running(&world, true).await;
    kept(&world, json!({"disruptionsAllowed": 1, "currentHealthy": 2})).await;
    evict(&world).await.unwrap();
    assert!(is_going(&world).await);
    let status = world.get(BUDGETS, "b").await.unwrap()["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert!(status["disruptedPods"]["p"].is_string());
    assert_eq!(
        (&status["conditions"][0]["type"], &status["conditions"][0]["reason"]),
        (&json!("DisruptionAllowed"), &json!("InsufficientPods"))
    );
    // One that goes already takes no more.
    evict(&world).await.unwrap();
}

#[tokio::test]
async fn a_budget_that_is_spent_keeps_its_pods() {
    let world = World::new().await;
    running(&world, true).await;
    kept(&world, json!({"currentHealthy": 1})).await;
    let status = evict(&world).await.unwrap_err();
    assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let why = "The disruption budget b needs 1 healthy pods and has 1 currently";
    assert_eq!(cause(&status), (429, "DisruptionBudget", why, 0));
    world.merge(BUDGETS, "b", json!({"spec": {"minAvailable": 2}})).await.unwrap();
    let status = evict(&world).await.unwrap_err();
    let why = "The disruption budget b is still being processed by the server.";
    assert_eq!(cause(&status), (429, "DisruptionBudget", why, 10));
    assert!(!is_going(&world).await);
    let mut second = for_pod();
    second["metadata"]["name"] = json!("c");
    world.create(BUDGETS, second).await.unwrap();
    let status = evict(&world).await.unwrap_err();
    let expected =
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!((status.code, &*status.message), (500, expected));
}

#[tokio::test]
async fn an_unready_pod_goes_when_its_budget_can_do_without() {
    for (policy, healthy, goes) in
        [("IfHealthyBudget", 0, false), ("IfHealthyBudget", 1, true), ("AlwaysAllow", 0, true)]
    {
        let world = World::new().await;
        running(&world, false).await;
        kept(&world, json!({"currentHealthy": healthy, "observedGeneration": 2})).await;
        let policy = json!({"spec": {"unhealthyPodEvictionPolicy": policy}});
        world.merge(BUDGETS, "b", policy.clone()).await.unwrap();
        assert_eq!(evict(&world).await.is_ok(), goes, "{policy} {healthy}");
        assert_eq!(is_going(&world).await, goes);
        let status = world.get(BUDGETS, "b").await.unwrap()["status"].clone();
        assert_eq!(status.get("disruptedPods"), None, "nothing is spent on it");
    }
}

#[tokio::test]
async fn a_rehearsed_eviction_changes_nothing_and_conditions_hold() {
    let world = World::new().await;
    running(&world, true).await;
    kept(&world, json!({"disruptionsAllowed": 1})).await;
    let rehearsal = RequestContext { dry_run: true, ..cx() };
    evict_with(&world, &rehearsal, &DeleteOptions::default()).await.unwrap();
    assert!(!is_going(&world).await);
    assert_eq!(world.get(BUDGETS, "b").await.unwrap()["status"]["disruptionsAllowed"], 1);
    let other = DeleteOptions { uid: Some("other".into()), ..DeleteOptions::default() };
    let status = evict_with(&world, &cx(), &other).await.unwrap_err();
    assert_eq!(status.code, 409);
    assert!(status.message.contains("the UID in the precondition (other) does not match"), "{status}");
    let eviction = json!({"metadata": {"name": "q"}});
    let status = world.registry.evict(&cx(), "default", "p", eviction, &other).await.unwrap_err();
    assert_eq!((status.code, &*status.message), (400, "name in URL does not match name in Eviction object"));
    let earlier = json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "p"}});
    world.registry.evict(&rehearsal, "default", "p", earlier, &DeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_priority_class_keeps_its_value() {
    let world = World::new().await;
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    let made = world.create(CLASSES, class("high", 1000)).await.unwrap();
    assert_eq!(
        (&made["preemptionPolicy"], &made["metadata"]["generation"]),
        (&json!("PreemptLowerPriority"), &json!(1))
    );
    let expected = json!({"Name": "high", "Value": 1000, "Global-Default": false, "Age": "2m30s",
        "PreemptionPolicy": "PreemptLowerPriority"});
    assert_eq!(world.row(CLASSES, "high").await, expected);
    world.merge(CLASSES, "high", json!({"description": "for a few"})).await.unwrap();
    let status = world.merge(CLASSES, "high", json!({"value": 5})).await.unwrap_err();
    assert_eq!(findings(&status), "value: Forbidden: may not be changed in an update.");
    let status = world.merge(CLASSES, "high", json!({"preemptionPolicy": "Never"})).await.unwrap_err();
    assert_eq!(findings(&status), "preemptionPolicy: Invalid value: \"Never\": field is immutable");
    let top = "value: Forbidden: maximum allowed value of a user defined priority is 1000000000";
    refused(CLASSES, class("higher", 1_000_000_001), top).await;
    let system = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                  error: ";
    let unknown = format!("{system}system-mine is not a known system priority class");
    refused(CLASSES, class("system-mine", 1), &unknown).await;
    let value = format!("{system}value of system-node-critical PriorityClass must be 2000001000");
    refused(CLASSES, class("system-node-critical", 1), &value).await;
    let mut odd = class("odd", 1);
    odd["preemptionPolicy"] = json!("Perhaps");
    let expected = "preemptionPolicy: Unsupported value: \"Perhaps\": supported values: \"PreemptLowerPriority\", \"Never\"";
    refused(CLASSES, odd, expected).await;
}

#[tokio::test]
async fn every_cluster_has_the_systems_classes() {
    let world = World::new().await;
    let objects = registry::defaults::manifests(&crate::world::options(), 6443).unwrap();
    let classes = objects.into_iter().filter(|object| object["kind"] == "PriorityClass");
    for class in classes {
        world.create(CLASSES, class).await.unwrap();
    }
    let value = async |name: &str| world.get(CLASSES, name).await.unwrap()["value"].clone();
    assert_eq!(value("system-node-critical").await, 2_000_001_000);
    assert_eq!(value("system-cluster-critical").await, 2_000_000_000);
    let status = world.delete(CLASSES, "system-node-critical").await.unwrap_err();
    let expected = "priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class \
                    and cannot be deleted";
    assert_eq!((status.code, &*status.message), (403, expected));
}
