//! What is owned goes with its owners.

use crate::plane::{Plane, kind};
use client::DeleteParams;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::Kind;

fn owned(name: &str, owner: (&Kind, &str, &str), block: bool) -> Value {
    let (kind, owner, uid) = owner;
    let api_version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    json!({ "metadata": { "name": name, "ownerReferences": [
        { "apiVersion": api_version, "kind": kind.kind, "name": owner, "uid": uid, "blockOwnerDeletion": block },
    ] } })
}

fn plain(name: &str) -> Value {
    json!({ "metadata": { "name": name } })
}

/// An owner, something that it owns, and something that this owns in turn.
async fn family(plane: &Plane) {
    let maps = kind("configmaps");
    let uid = plane.create(&maps, plain("grandparent")).await;
    let uid = plane.create(&maps, owned("parent", (&maps, "grandparent", &uid), true)).await;
    plane.create(&maps, owned("child", (&maps, "parent", &uid), true)).await;
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.api.objects("configmaps").len(), 3);
}

#[tokio::test]
async fn in_the_background_all_go() {
    let plane = Plane::start();
    family(&plane).await;
    plane.of(&kind("configmaps"), "x").delete("grandparent", &DeleteParams::background()).await.unwrap();
    plane.pass(Duration::from_secs(1)).await;
    assert!(plane.api.objects("configmaps").is_empty());
    plane.stop().await;
}

#[tokio::test]
async fn in_the_foreground_the_last_goes_first() {
    let plane = Plane::start();
    family(&plane).await;
    let maps = kind("configmaps");
    plane.patch(&maps, "child", json!({ "metadata": { "finalizers": ["example.com/wait"] } })).await;
    plane.of(&maps, "x").delete("grandparent", &DeleteParams::foreground()).await.unwrap();
    plane.pass(Duration::from_secs(2)).await;
    let left = plane.api.objects("configmaps");
    assert_eq!(left.len(), 3, "all wait for the child");
    assert!(left.iter().all(|object| !object["metadata"]["deletionTimestamp"].is_null()));
    plane.patch(&maps, "child", json!({ "metadata": { "finalizers": null } })).await;
    plane.pass(Duration::from_secs(2)).await;
    assert!(plane.api.objects("configmaps").is_empty());
    plane.stop().await;
}

#[tokio::test]
async fn orphans_stay_and_are_let_go_of() {
    let plane = Plane::start();
    family(&plane).await;
    plane.of(&kind("configmaps"), "x").delete("grandparent", &DeleteParams::orphan()).await.unwrap();
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.names("configmaps"), ["child", "parent"]);
    let parent = &plane.api.objects("configmaps")[1];
    assert!(parent["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
    plane.stop().await;
}

#[tokio::test]
async fn one_solid_owner_keeps_what_another_leaves() {
    let plane = Plane::start();
    let maps = kind("configmaps");
    let (a, b) = (plane.create(&maps, plain("a")).await, plane.create(&maps, plain("b")).await);
    let mut both = owned("shared", (&maps, "a", &a), false);
    let second = owned("", (&maps, "b", &b), false)["metadata"]["ownerReferences"][0].clone();
    both["metadata"]["ownerReferences"].as_array_mut().unwrap().push(second);
    plane.create(&maps, both).await;
    plane.of(&maps, "x").delete("a", &DeleteParams::background()).await.unwrap();
    plane.pass(Duration::from_secs(1)).await;
    let shared =
        plane.api.objects("configmaps").into_iter().find(|o| o["metadata"]["name"] == "shared").unwrap();
    let owners = shared["metadata"]["ownerReferences"].as_array().unwrap();
    assert_eq!((owners.len(), owners[0]["name"].as_str()), (1, Some("b")));
    plane.stop().await;
}

#[tokio::test]
async fn kinds_that_come_and_go_are_followed_and_what_nobody_can_know_is_kept() {
    let plane = Plane::start();
    let (maps, widgets) = (kind("configmaps"), Kind::new("example.com/v1", "Widget", "widgets", true));
    plane.settle().await;
    plane.api.serve(widgets.clone());
    plane.create(&kind("customresourcedefinitions"), plain("widgets.example.com")).await;
    plane.pass(Duration::from_secs(2)).await;
    let uid = plane.create(&widgets, plain("w")).await;
    plane.create(&maps, owned("of-widget", (&widgets, "w", &uid), false)).await;
    let map = plane.create(&maps, plain("m")).await;
    plane.create(&widgets, owned("of-map", (&maps, "m", &map), false)).await;
    plane.of(&maps, "x").delete("m", &DeleteParams::background()).await.unwrap();
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.names("widgets"), ["w"], "a custom object goes with its owner");

    // The kind is gone, and nobody was told of its objects: a reference to it says nothing about whether it will be back.
    plane.api.withdraw("widgets");
    plane
        .of(&kind("customresourcedefinitions"), "")
        .delete("widgets.example.com", &Default::default())
        .await
        .unwrap();
    plane.pass(Duration::from_secs(2)).await;
    let other = Kind::new("example.org/v1", "Gadget", "gadgets", true);
    plane.create(&maps, owned("of-gadget", (&other, "g", "some-uid"), false)).await;
    plane.pass(Duration::from_secs(40)).await;
    assert_eq!(plane.names("configmaps"), ["of-gadget", "of-widget"]);

    // It is back, and one of its objects is not.
    plane.api.serve(widgets.clone());
    plane.create(&kind("customresourcedefinitions"), plain("widgets.example.com")).await;
    plane.pass(Duration::from_secs(40)).await;
    assert_eq!(plane.names("configmaps"), ["of-gadget"]);
    plane.stop().await;
}

#[tokio::test]
async fn another_version_of_a_kind_costs_nobody_anything() {
    let plane = Plane::start();
    let (maps, crds) = (kind("configmaps"), kind("customresourcedefinitions"));
    let widgets = |version: &str| Kind::new(&format!("example.com/{version}"), "Widget", "widgets", true);
    plane.settle().await;
    plane.api.serve(widgets("v1"));
    plane.create(&crds, plain("widgets.example.com")).await;
    plane.pass(Duration::from_secs(2)).await;
    let uid = plane.create(&widgets("v1"), plain("w")).await;
    plane.create(&maps, owned("of-widget", (&widgets("v1"), "w", &uid), false)).await;
    plane.pass(Duration::from_secs(1)).await;

    plane.api.serve(widgets("v2"));
    plane.create(&crds, plain("touches.example.com")).await;
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.api.requests("DELETE", "configmaps"), 0);
    assert_eq!(plane.api.requests("LIST", "widgets"), 2, "it is watched in its new version");
    plane.of(&widgets("v2"), "x").delete("w", &DeleteParams::background()).await.unwrap();
    plane.pass(Duration::from_secs(1)).await;
    assert!(plane.names("configmaps").is_empty());
    plane.stop().await;
}

#[tokio::test]
async fn what_has_no_namespace_is_not_collected_for_an_owner_in_one() {
    let plane = Plane::start();
    let (maps, nodes) = (kind("configmaps"), kind("nodes"));
    let uid = plane.create(&maps, plain("m")).await;
    plane.create(&nodes, owned("n", (&maps, "m", &uid), true)).await;
    plane.of(&maps, "x").delete("m", &DeleteParams::background()).await.unwrap();
    plane.create(&nodes, owned("o", (&maps, "nobody", "no-such-uid"), true)).await;
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.names("nodes"), ["n", "o"]);
    let told = plane.api.objects("events");
    assert!(told.iter().any(|event| event["reason"] == "OwnerRefInvalidNamespace"), "{told:?}");
    plane.stop().await;
}

#[tokio::test]
async fn a_wrong_reference_does_not_discredit_a_right_one() {
    let plane = Plane::start();
    let maps = kind("configmaps");
    let uid = plane.create(&maps, plain("owner")).await;
    // In another namespace, under another name, and of another kind there is none of that UID.
    let mut elsewhere = owned("elsewhere", (&maps, "owner", &uid), false);
    elsewhere["metadata"]["namespace"] = json!("y");
    plane.create(&maps, elsewhere).await;
    plane.create(&maps, owned("misnamed", (&maps, "other", &uid), false)).await;
    plane.create(&maps, owned("mistyped", (&kind("pods"), "owner", &uid), false)).await;
    plane.pass(Duration::from_secs(1)).await;
    plane.create(&maps, owned("right", (&maps, "owner", &uid), false)).await;
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.names("configmaps"), ["owner", "right"]);
    plane.stop().await;
}

#[tokio::test]
async fn an_owner_that_never_was_does_not_keep_its_own() {
    let plane = Plane::start();
    let maps = kind("configmaps");
    plane.create(&maps, owned("stray", (&maps, "nobody", "no-such-uid"), false)).await;
    plane.pass(Duration::from_secs(1)).await;
    assert!(plane.api.objects("configmaps").is_empty());
    plane.stop().await;
}
