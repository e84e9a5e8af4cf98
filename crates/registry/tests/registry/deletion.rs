//! Deletion: at once, gracefully, by finalizer, in numbers.

use registry::{DeleteOptions, ListOptions, Part, Propagation};
use serde_json::json;

use crate::world::{World, config_map, cx, pod};

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
}

async fn running_pod(world: &World, name: &str) {
    world.create("pods", pod(name)).await.unwrap();
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
    world.registry.bind(&cx(), "default", name, binding).await.unwrap();
}

#[tokio::test]
async fn plain_objects_go_at_once() {
    let world = World::new().await;
    let created = world.create("configmaps", config_map("a", "1")).await.unwrap();
    let deleted = world.delete("configmaps", "a").await.unwrap();
    assert!(deleted.gone);
    assert_eq!(deleted.uid, created["metadata"]["uid"].as_str().unwrap());
    assert_eq!(world.delete("configmaps", "a").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn preconditions_must_hold() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let uid = DeleteOptions { uid: Some("x".into()), ..DeleteOptions::default() };
    let refused = world.delete_with("configmaps", "a", uid).await.unwrap_err();
    assert_eq!(refused.code, 409);
    let why =
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (x) does not match";
    assert!(refused.message.starts_with(why), "{refused}");
    let version = DeleteOptions { resource_version: Some("1".into()), ..DeleteOptions::default() };
    world.merge("configmaps", "a", json!({"data": {"value": "2"}})).await.unwrap();
    assert_eq!(world.delete_with("configmaps", "a", version).await.unwrap_err().code, 409);
}

#[tokio::test]
async fn a_finalizer_holds_and_lets_go() {
    let world = World::new().await;
    let mut held = config_map("a", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create("configmaps", held).await.unwrap();
    let deleted = world.delete("configmaps", "a").await.unwrap();
    assert!(!deleted.gone);
    let tree = deleted.object.tree();
    assert_eq!(tree["metadata"]["deletionTimestamp"], "2026-11-22T10:00:00Z");
    assert_eq!(tree["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = world.delete("configmaps", "a").await.unwrap();
    assert_eq!((again.gone, again.object.tree()), (false, tree));
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert_eq!(world.merge("configmaps", "a", more).await.unwrap_err().code, 422);
    world.merge("configmaps", "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert_eq!(world.get("configmaps", "a").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn propagation_is_a_finalizer() {
    let world = World::new().await;
    for (propagation, finalizer) in
        [(Propagation::Orphan, "orphan"), (Propagation::Foreground, "foregroundDeletion")]
    {
        world.create("configmaps", config_map("a", "1")).await.unwrap();
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        let deleted = world.delete_with("configmaps", "a", options).await.unwrap();
        assert!(!deleted.gone);
        assert_eq!(deleted.object.tree()["metadata"]["finalizers"], json!([finalizer]));
        world.merge("configmaps", "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    }
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    assert!(world.delete_with("configmaps", "a", background).await.unwrap().gone);
}

#[tokio::test]
async fn an_unscheduled_pod_goes_at_once_and_a_running_one_gets_its_time() {
    let world = World::new().await;
    world.create("pods", pod("idle")).await.unwrap();
    assert!(world.delete("pods", "idle").await.unwrap().gone);
    running_pod(&world, "busy").await;
    let deleted = world.delete("pods", "busy").await.unwrap();
    assert!(!deleted.gone);
    let tree = deleted.object.tree();
    assert_eq!(tree["metadata"]["deletionTimestamp"], "2026-11-22T10:00:30Z");
    assert_eq!(tree["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = world.delete_with("pods", "busy", grace(10)).await.unwrap().object.tree();
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-11-22T10:00:10Z");
    let longer = world.delete_with("pods", "busy", grace(60)).await.unwrap().object.tree();
    assert_eq!(longer["metadata"]["deletionTimestamp"], "2026-11-22T10:00:10Z");
    assert!(world.delete_with("pods", "busy", grace(0)).await.unwrap().gone);
}

#[tokio::test]
async fn an_ended_pod_goes_at_once() {
    let world = World::new().await;
    running_pod(&world, "done").await;
    let mut ended = world.get("pods", "done").await.unwrap();
    ended["status"]["phase"] = json!("Succeeded");
    world.update_part("pods", Part::Status, ended).await.unwrap();
    assert!(world.delete("pods", "done").await.unwrap().gone);
}

#[tokio::test]
async fn a_namespace_waits_for_its_controller() {
    let world = World::new().await;
    let created = world.create("namespaces", json!({"metadata": {"name": "n"}})).await.unwrap();
    assert_eq!(created["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(created["status"], json!({"phase": "Active"}));
    assert_eq!(created["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "n"}));
    let deleted = world.delete("namespaces", "n").await.unwrap();
    assert!(!deleted.gone);
    let mut tree = deleted.object.tree();
    assert_eq!(tree["status"]["phase"], "Terminating");
    let kind = world.kind("namespaces");
    assert_eq!(world.registry.field(&kind, "", "n", "status.phase").as_deref(), Some("Terminating"));
    tree["spec"]["finalizers"] = json!([]);
    let kept = world.update("namespaces", tree.clone()).await.unwrap();
    assert_eq!(kept["spec"]["finalizers"], json!(["kubernetes"]));
    tree["metadata"]["resourceVersion"] = kept["metadata"]["resourceVersion"].clone();
    world.update_part("namespaces", Part::Finalize, tree).await.unwrap();
    assert_eq!(world.get("namespaces", "n").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let world = World::new().await;
    for index in 0..40 {
        let mut object = config_map(&format!("c{index}"), "1");
        object["metadata"]["labels"] = json!({"parity": if index % 2 == 0 { "even" } else { "odd" }});
        world.create("configmaps", object).await.unwrap();
    }
    let even = ListOptions { label_selector: "parity=even".into(), ..ListOptions::default() };
    let kind = world.kind("configmaps");
    let options = DeleteOptions::default();
    let gone = world.registry.delete_collection(&cx(), &kind, "default", &even, &options).await.unwrap();
    assert_eq!(gone.len(), 20);
    let left = world.list("configmaps", ListOptions::default()).await.unwrap();
    assert_eq!(left.len(), 20);
    assert!(left.objects().all(|object| object.tree()["metadata"]["labels"]["parity"] == "odd"));
}

#[tokio::test]
async fn a_dry_run_deletes_nothing() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let dry = registry::RequestContext { dry_run: true, ..cx() };
    let options = DeleteOptions::default();
    let deleted =
        world.registry.delete(&dry, &world.kind("configmaps"), "default", "a", &options).await.unwrap();
    assert!(deleted.gone);
    world.get("configmaps", "a").await.unwrap();
}
