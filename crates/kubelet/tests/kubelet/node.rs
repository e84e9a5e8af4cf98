//! The Node and its Lease.

use serde_json::json;

use crate::plane::{Plane, condition};

#[tokio::test]
async fn the_node_is_registered_ready_and_leased() {
    let plane = Plane::start().await;
    let node = &plane.api.objects("nodes")[0];
    assert_eq!(condition(node, "Ready"), "True");
    assert_eq!(node["status"]["capacity"]["pods"], "110");
    assert_eq!(node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"], plane.port);
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    plane.api.until(|api| !api.objects("leases").is_empty()).await;
    let lease = &plane.api.objects("leases")[0];
    assert_eq!(lease["metadata"]["namespace"], "kube-node-lease");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], node["metadata"]["uid"]);
}

#[tokio::test]
async fn what_people_put_on_a_node_stays() {
    let plane = Plane::start().await;
    let nodes: client::Api<api::k8s::api::core::v1::Node> = client::Api::all(plane.api.client());
    let patch = json!({"metadata": {"labels": {"mine": "yes"}}, "spec": {"unschedulable": true}});
    nodes.patch("node", &Default::default(), &client::Patch::Merge(patch)).await.unwrap();
    let plane = plane.restart().await;
    let node = &plane.api.objects("nodes")[0];
    assert_eq!(
        (&node["metadata"]["labels"]["mine"], &node["spec"]["unschedulable"]),
        (&json!("yes"), &json!(true))
    );
}
