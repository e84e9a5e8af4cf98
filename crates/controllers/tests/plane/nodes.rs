//! Nodes that speak, and nodes that fall silent.

use crate::plane::{Plane, kind};
use client::{Patch, PatchParams};
use controllers::Settings;
use instruments::Page;
use serde_json::{Value, json};
use std::time::Duration;

const LEASES: &str = "kube-node-lease";
const BEAT: Duration = Duration::from_secs(10);

async fn join(plane: &Plane, name: &str) {
    let ready = json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z" }]);
    let node = json!({ "metadata": { "name": name }, "status": { "conditions": ready } });
    plane.create(&kind("nodes"), node).await;
    let lease =
        json!({ "metadata": { "name": name, "namespace": LEASES }, "spec": { "holderIdentity": name } });
    plane.create(&kind("leases"), lease).await;
}

/// The node says that it is there, by a clock that may be wrong.
async fn renew(plane: &Plane, name: &str, second: u32) {
    let renewed = json!({ "spec": { "renewTime": format!("2020-01-01T00:00:{second:02}.000000Z") } });
    let leases = plane.of(&kind("leases"), LEASES);
    leases.patch(name, &PatchParams::default(), &Patch::Merge(renewed)).await.unwrap();
}

fn ready(plane: &Plane, name: &str) -> Value {
    let nodes = plane.api.objects("nodes");
    let node = nodes.iter().find(|node| node["metadata"]["name"] == name).unwrap();
    node["status"]["conditions"][0]["status"].clone()
}

/// How often the controller has looked at a node.
fn looks(settings: &Settings) -> u64 {
    let mut page = Page::default();
    settings.instruments.write(&mut page);
    let text = page.finish();
    let of_nodes = |line: &&str| line.starts_with("workqueue_adds_total{name=\"node-controller\"}");
    let line = text.lines().find(of_nodes).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_node_that_renews_its_lease_is_looked_at_no_more_often_than_its_silence_could_end() {
    let plane = Plane::start();
    join(&plane, "a").await;
    join(&plane, "b").await;
    plane.pass(BEAT).await;
    let before = looks(&plane.settings);
    for second in 1..=30 {
        renew(&plane, "a", second).await;
        plane.pass(BEAT).await;
    }
    assert_eq!((ready(&plane, "a"), ready(&plane, "b")), (json!("True"), json!("Unknown")));
    let looks = looks(&plane.settings) - before;
    assert!(looks < 20, "{looks} looks at two nodes, one of which renewed its lease thirty times");

    plane.pass(Duration::from_secs(60)).await;
    assert_eq!(ready(&plane, "a"), "Unknown", "it has fallen silent after all");
    renew(&plane, "b", 1).await;
    plane.pass(BEAT).await;
    assert_eq!(ready(&plane, "b"), "Unknown", "the node itself says what it is");
    plane.stop().await;
}
