//! Watches: from a list, from the past, with selectors, and what becomes of slow ones.

use registry::{Limits, ListOptions, Options, WatchEvent, WatchStream};
use serde_json::{Value, json};

use crate::world::{World, config_map, options};

/// The next event as `TYPE name`.
async fn next(watch: &mut WatchStream) -> String {
    let event =
        tokio::time::timeout(std::time::Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    show(&event)
}

fn show(event: &WatchEvent) -> String {
    let name = event.object().map(|object| object.tree()["metadata"]["name"].as_str().unwrap().to_owned());
    format!("{} {}", event.type_name(), name.unwrap_or_default()).trim().to_owned()
}

fn since(version: u64) -> ListOptions {
    ListOptions { resource_version: version.to_string(), ..ListOptions::default() }
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let list = world.list("configmaps", ListOptions::default()).await.unwrap();
    world.create("configmaps", config_map("b", "1")).await.unwrap();
    let mut watch = world.watch("configmaps", since(list.resource_version())).await.unwrap();
    world.merge("configmaps", "a", json!({"data": {"value": "2"}})).await.unwrap();
    world.delete("configmaps", "a").await.unwrap();
    for expected in ["ADDED b", "MODIFIED a", "DELETED a"] {
        assert_eq!(next(&mut watch).await, expected);
    }
    assert!(watch.try_next().is_none());
}

#[tokio::test]
async fn an_event_is_one_line_of_json() {
    let world = World::new().await;
    let mut watch = world.watch("configmaps", ListOptions::default()).await.unwrap();
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    world.delete("configmaps", "a").await.unwrap();
    let created = watch.next().await.unwrap();
    let deleted = watch.next().await.unwrap();
    let versions = [&created, &deleted].map(|event| {
        let mut line = Vec::new();
        event.write_to(&mut line);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let tree: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&tree["type"], &tree["object"]["kind"]),
            (&json!(event.type_name()), &json!("ConfigMap"))
        );
        tree["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
    });
    // A deletion is dated by itself, not by the object's last change.
    assert_eq!(versions[1], versions[0] + 1);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let options = ListOptions { send_initial_events: true, allow_bookmarks: true, ..ListOptions::default() };
    let mut watch = world.watch("configmaps", options).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED a");
    let event = watch.next().await.unwrap();
    let mut line = Vec::new();
    event.write_to(&mut line);
    let tree: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(tree["type"], "BOOKMARK");
    assert_eq!(tree["object"]["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(tree["object"]["metadata"]["resourceVersion"], world.registry.revision().to_string());
    world.create("configmaps", config_map("b", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED b");
}

#[tokio::test]
async fn objects_come_and_go_as_they_match() {
    let world = World::new().await;
    let options = ListOptions { label_selector: "on=yes".into(), ..ListOptions::default() };
    let mut watch = world.watch("configmaps", options).await.unwrap();
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    world.merge("configmaps", "a", json!({"metadata": {"labels": {"on": "yes"}}})).await.unwrap();
    world.merge("configmaps", "a", json!({"data": {"value": "2"}})).await.unwrap();
    let off = world.merge("configmaps", "a", json!({"metadata": {"labels": {"on": "no"}}})).await.unwrap();
    world.delete("configmaps", "a").await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED a");
    assert_eq!(next(&mut watch).await, "MODIFIED a");
    let gone = watch.next().await.unwrap();
    let tree = gone.object().unwrap().tree();
    assert_eq!((gone.type_name(), &tree["metadata"]["labels"]["on"]), ("DELETED", &json!("yes")));
    assert_eq!(tree["metadata"]["resourceVersion"], off["metadata"]["resourceVersion"]);
    assert!(watch.try_next().is_none());
}

#[tokio::test]
async fn a_node_sees_its_pods() {
    let world = World::new().await;
    let options = ListOptions { field_selector: "spec.nodeName=one".into(), ..ListOptions::default() };
    let mut watch = world.watch("pods", options).await.unwrap();
    for (pod, node) in [("a", "two"), ("b", "one")] {
        world.create("pods", crate::world::pod(pod)).await.unwrap();
        let binding = json!({"metadata": {"name": pod}, "target": {"name": node}});
        world.registry.bind(&crate::world::cx(), "default", pod, binding).await.unwrap();
    }
    assert_eq!(next(&mut watch).await, "ADDED b");
    assert!(watch.try_next().is_none());
}

#[tokio::test]
async fn what_the_window_has_lost_is_gone() {
    let limits = Limits { window_events: 2, ..Limits::default() };
    let world = World::with(Options { limits, ..options() }).await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let old = world.registry.revision();
    for value in ["2", "3", "4"] {
        world.merge("configmaps", "a", json!({"data": {"value": value}})).await.unwrap();
    }
    let refused = world.watch("configmaps", since(old)).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.message),
        (410, format!("too old resource version: {old} ({})", old + 1))
    );
    let mut watch = world.watch("configmaps", since(old + 1)).await.unwrap();
    assert_eq!([next(&mut watch).await, next(&mut watch).await], ["MODIFIED a", "MODIFIED a"]);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_nobody_waits_for_it() {
    let limits = Limits { watcher_queue: 4, ..Limits::default() };
    let world = World::with(Options { limits, ..options() }).await;
    let mut slow = world.watch("configmaps", ListOptions::default()).await.unwrap();
    for index in 0..10 {
        world.create("configmaps", config_map(&format!("c{index}"), "1")).await.unwrap();
    }
    let mut seen = 0;
    while slow.next().await.is_some() {
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[tokio::test]
async fn a_watch_from_the_future_waits_for_it() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let mut watch = world.watch("configmaps", since(world.registry.revision() + 1)).await.unwrap();
    world.create("configmaps", config_map("b", "1")).await.unwrap();
    world.create("configmaps", config_map("c", "1")).await.unwrap();
    assert_eq!(next(&mut watch).await, "ADDED c");
}

#[tokio::test]
async fn watches_end_with_the_registry() {
    let world = World::new().await;
    let mut watch = world.watch("configmaps", ListOptions::default()).await.unwrap();
    world.registry.close().await;
    assert!(watch.next().await.is_none());
}
