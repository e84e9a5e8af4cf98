//! Events: one storage under two groups.

use std::sync::Arc;
use std::time::Duration;

use clock::ManualClock;
use registry::{ListOptions, Options};
use serde_json::json;

use crate::world::{World, names, now, options};

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
    assert!(refused.message.contains("eventTime: Required value"), "{}", refused.message);
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

#[tokio::test]
async fn an_event_is_gone_an_hour_after_it_happened_last() {
    let clock = Arc::new(ManualClock::new(now()));
    let world = World::with(Options { clock: clock.clone(), ..options() }).await;
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let mut again = event("again");
    again["lastTimestamp"] = json!("2026-11-22T10:50:00Z");
    let mut lies = event("lies");
    lies["lastTimestamp"] = json!("2999-01-01T00:00:00Z");
    for event in [event("once"), lies, again] {
        world.create("events", event).await.unwrap();
    }
    let mut watch = world.watch("events", ListOptions::default()).await.unwrap();
    while watch.try_next().is_some() {}
    // The feed's own tick, and what sweeps.
    clock.until_sleepers(2).await;
    clock.advance(Duration::from_secs(59 * 60));
    clock.until_sleepers(2).await;
    assert!(watch.try_next().is_none());
    clock.advance(Duration::from_secs(10 * 60));
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let event = watch.next().await.unwrap();
        assert_eq!(event.type_name(), "DELETED");
        gone.push(event.object().unwrap().names().1);
    }
    gone.sort_unstable();
    assert_eq!(gone, ["lies", "once"]);
    assert!(world.get("events", "again").await.is_ok());
}
