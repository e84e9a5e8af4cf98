//! Events: one storage under two groups.

use registry::ListOptions;
use serde_json::json;

use crate::world::{World, names};

#[tokio::test]
async fn an_event_reads_the_same_under_both_groups() {
    let world = World::new().await;
    let new = json!({
        "metadata": {"name": "e"}, "eventTime": "2026-11-22T10:00:00.000000Z", "reason": "Started", "action": "Start",
        "type": "Normal", "note": "it runs", "reportingController": "kubelet", "reportingInstance": "n",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    let made = world.create("events.events.k8s.io", new).await.unwrap();
    assert_eq!((&made["note"], &made["apiVersion"]), (&json!("it runs"), &json!("events.k8s.io/v1")));
    let legacy = world.get("events", "e").await.unwrap();
    assert_eq!((&legacy["message"], &legacy["apiVersion"]), (&json!("it runs"), &json!("v1")));
    assert_eq!(legacy["involvedObject"]["name"], "p");
    assert!(legacy.get("note").is_none());
    assert_eq!(world.get("events.events.k8s.io", "e").await.unwrap(), made);
    let about = ListOptions { field_selector: "involvedObject.name=p".into(), ..ListOptions::default() };
    assert_eq!(names(world.list("events", about).await.unwrap().objects()), ["e"]);
    let about = ListOptions { field_selector: "regarding.name=q".into(), ..ListOptions::default() };
    assert!(world.list("events.events.k8s.io", about).await.unwrap().is_empty());
    let row = world.row("events.events.k8s.io", "e").await;
    assert_eq!(row, world.row("events", "e").await);
    assert_eq!(
        (&row["Object"], &row["Source"], &row["Count"]),
        (&json!("pod/p"), &json!("kubelet, n"), &json!(1))
    );
    assert_eq!(row["Last Seen"], "2m30s");
}

#[tokio::test]
async fn events_are_checked_in_their_own_words() {
    let world = World::new().await;
    let elsewhere =
        json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "other"}});
    let refused = world.create("events", elsewhere).await.unwrap_err();
    let expected = "Event \"e\" is invalid: involvedObject.namespace: Invalid value: \"other\": does not match \
                    event.namespace";
    assert_eq!(refused.message, expected);
    let bare = json!({"metadata": {"name": "e"}, "type": "Normal"});
    let refused = world.create("events.events.k8s.io", bare).await.unwrap_err();
    assert!(refused.message.contains("reportingController: Required value"), "{}", refused.message);
}

#[tokio::test]
async fn a_watch_of_either_group_sees_both() {
    let world = World::new().await;
    let mut watch = world.watch("events.events.k8s.io", ListOptions::default()).await.unwrap();
    let legacy = json!({"metadata": {"name": "e"}, "message": "hello",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}});
    world.create("events", legacy).await.unwrap();
    let seen = watch.next().await.unwrap().object().unwrap().tree();
    assert_eq!((&seen["note"], &seen["apiVersion"]), (&json!("hello"), &json!("events.k8s.io/v1")));
}
