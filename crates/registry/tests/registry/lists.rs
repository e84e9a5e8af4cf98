//! Lists: pages of one revision, selectors, tokens.

use registry::{Limits, ListOptions, Options, ResourceVersionMatch};
use serde_json::{Value, json};

use crate::world::{World, config_map, names, options};

async fn filled(world: &World, count: usize) {
    for index in 0..count {
        world.create("configmaps", config_map(&format!("c{index:02}"), "1")).await.unwrap();
    }
}

fn page(limit: u64, token: &str) -> ListOptions {
    ListOptions { limit, continue_token: token.into(), ..ListOptions::default() }
}

#[tokio::test]
async fn the_list_is_json_of_stored_bytes() {
    let world = World::new().await;
    filled(&world, 2).await;
    let list = world.list("configmaps", ListOptions::default()).await.unwrap();
    let bytes = list.to_bytes();
    assert_eq!(bytes.len(), list.byte_len());
    assert_eq!(bytes, list.clone().into_segments().concat());
    let tree: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&tree["kind"], &tree["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(tree["metadata"], json!({"resourceVersion": list.resource_version().to_string()}));
    assert_eq!(tree["items"][0]["metadata"]["name"], "c00");
    assert!(tree["items"][0].get("kind").is_none());
    let empty = world.list("secrets", ListOptions::default()).await.unwrap();
    let tree: Value = serde_json::from_slice(&empty.to_bytes()).unwrap();
    assert_eq!((tree["items"].clone(), empty.byte_len()), (json!([]), empty.to_bytes().len()));
}

#[tokio::test]
async fn pages_show_one_revision() {
    let world = World::new().await;
    filled(&world, 7).await;
    let first = world.list("configmaps", page(3, "")).await.unwrap();
    assert_eq!((first.len(), first.remaining()), (3, Some(4)));
    world.create("configmaps", config_map("c035", "new")).await.unwrap();
    world.delete("configmaps", "c05").await.unwrap();
    let second = world.list("configmaps", page(3, first.continue_token().unwrap())).await.unwrap();
    assert_eq!(names(second.objects()), ["c03", "c04", "c05"]);
    assert_eq!((second.remaining(), second.resource_version()), (Some(1), first.resource_version()));
    let third = world.list("configmaps", page(3, second.continue_token().unwrap())).await.unwrap();
    assert_eq!((names(third.objects()), third.continue_token()), (vec!["c06".to_owned()], None));
}

#[tokio::test]
async fn forgotten_pages_come_from_the_stores_history_or_lead_on() {
    let limits = Limits { snapshots: 0, ..Limits::default() };
    let world = World::with(Options { limits, ..options() }).await;
    filled(&world, 5).await;
    let first = world.list("configmaps", page(2, "")).await.unwrap();
    let token = first.continue_token().unwrap().to_owned();
    // Kept views are let go of as others come; here, none is kept at all.
    for index in 0..3 {
        world.delete("configmaps", &format!("c{:02}", index + 2)).await.unwrap();
    }
    let second = world.list("configmaps", page(2, &token)).await.unwrap();
    assert_eq!(names(second.objects()), ["c02", "c03"]);
    let head = world.store.head().await.unwrap();
    world.store.compact(head).await.unwrap();
    let expired = world.list("configmaps", page(2, &token)).await.unwrap_err();
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    assert!(
        expired
            .message
            .starts_with("The provided continue parameter is too old to display a consistent list")
    );
    let lead: Value = serde_json::from_slice(&expired.to_json()).unwrap();
    let go_on = lead["metadata"]["continue"].as_str().unwrap();
    let rest = world.list("configmaps", page(2, go_on)).await.unwrap();
    assert_eq!(rest.len(), 0);
}

#[tokio::test]
async fn selectors_select() {
    let world = World::new().await;
    for (name, node, app) in [("a", "one", "x"), ("b", "two", "x"), ("c", "one", "y")] {
        let mut pod = crate::world::pod(name);
        pod["metadata"]["labels"] = json!({"app": app});
        pod["spec"]["nodeName"] = json!(node);
        world.create("pods", pod).await.unwrap();
    }
    let check = async |labels: &str, fields: &str, expected: &[&str]| {
        let options = ListOptions {
            label_selector: labels.into(),
            field_selector: fields.into(),
            ..ListOptions::default()
        };
        let list = world.list("pods", options).await.unwrap();
        assert_eq!(names(list.objects()), expected, "{labels} {fields}");
    };
    check("app=x", "", &["a", "b"]).await;
    check("app in (x,y),app!=x", "", &["c"]).await;
    check("!app", "", &[]).await;
    check("", "spec.nodeName=one", &["a", "c"]).await;
    check("", "spec.nodeName!=one", &["b"]).await;
    check("", "metadata.name=b", &["b"]).await;
    check("", "metadata.name=b,spec.nodeName=one", &[]).await;
    check("app=x", "status.phase=Pending", &["a", "b"]).await;
    check("", "spec.hostNetwork=false", &["a", "b", "c"]).await;
    let unknown = ListOptions { field_selector: "spec.image=x".into(), ..ListOptions::default() };
    let refused = world.list("pods", unknown).await.unwrap_err();
    assert_eq!((refused.code, &*refused.message), (400, "field label not supported: spec.image"));
}

#[tokio::test]
async fn past_revisions_can_be_listed() {
    let world = World::new().await;
    filled(&world, 2).await;
    let before = world.list("configmaps", ListOptions::default()).await.unwrap();
    filled(&World::new().await, 1).await;
    world.delete("configmaps", "c00").await.unwrap();
    let exact = ListOptions {
        resource_version: before.resource_version().to_string(),
        resource_version_match: Some(ResourceVersionMatch::Exact),
        ..ListOptions::default()
    };
    let past = world.list("configmaps", exact).await.unwrap();
    assert_eq!(past.to_bytes(), before.to_bytes());
    let at_least =
        ListOptions { resource_version: before.resource_version().to_string(), ..ListOptions::default() };
    assert_eq!(names(world.list("configmaps", at_least).await.unwrap().objects()), ["c01"]);
}

#[tokio::test]
async fn namespaces_are_apart_and_together() {
    let world = World::new().await;
    for namespace in ["a", "a-b", "b"] {
        world.create_in(&crate::world::cx(), "configmaps", namespace, config_map("x", "1")).await.unwrap();
    }
    let kind = world.kind("configmaps");
    for (namespace, count) in [("a", 1), ("a-b", 1), ("b", 1), ("c", 0), ("", 3)] {
        let list = world.registry.list(&kind, namespace, &ListOptions::default()).await.unwrap();
        assert_eq!(list.len(), count, "{namespace}");
    }
    let first = world.registry.list(&kind, "", &page(2, "")).await.unwrap();
    assert_eq!(first.remaining(), Some(1));
    let rest = world.registry.list(&kind, "", &page(2, first.continue_token().unwrap())).await.unwrap();
    assert_eq!(rest.len(), 1);
}
