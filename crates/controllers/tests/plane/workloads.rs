//! Deployments, ReplicaSets, and what every namespace has.

use crate::plane::{Plane, kind};
use serde_json::{Value, json};
use std::time::Duration;

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            },
        },
    })
}

/// Plays kubelet: every pod that is to run runs, every pod that is to go goes.
async fn run_pods(plane: &Plane) {
    let pods = kind("pods");
    for pod in plane.api.objects("pods") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        if pod["status"]["phase"].is_null() {
            let ready =
                json!([{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z" }]);
            plane.patch_status(&pods, name, json!({ "phase": "Running", "conditions": ready })).await;
        }
    }
    plane.settle().await;
}

fn images(plane: &Plane) -> Vec<String> {
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    plane.api.objects("pods").iter().map(image).collect()
}

#[tokio::test]
async fn a_deployment_gets_its_pods_once_and_rolls_on() {
    let plane = Plane::start();
    plane.create(&kind("deployments"), deployment(40, "v1")).await;
    plane.settle().await;
    assert_eq!(plane.api.objects("pods").len(), 40);
    assert_eq!(plane.api.requests("POST", "pods"), 40, "made exactly once");
    run_pods(&plane).await;
    plane.pass(Duration::from_secs(2)).await;
    let status = plane.api.objects("deployments")[0]["status"].clone();
    assert_eq!(
        (status["availableReplicas"].as_i64(), status["updatedReplicas"].as_i64()),
        (Some(40), Some(40))
    );
    assert_eq!(status["observedGeneration"], 1);

    plane.patch(&kind("deployments"), "web", json!({ "spec": { "replicas": 3 } })).await;
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.api.objects("pods").len(), 3);

    plane.patch(&kind("deployments"), "web", json!({ "spec": deployment(3, "v2")["spec"] })).await;
    for _ in 0..12 {
        plane.pass(Duration::from_secs(1)).await;
        assert!(plane.api.objects("pods").len() <= 4);
        run_pods(&plane).await;
    }
    assert_eq!(images(&plane), ["v2", "v2", "v2"]);
    let deployment = plane.api.objects("deployments").remove(0);
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    let conditions = deployment["status"]["conditions"].as_array().unwrap();
    let progressing = conditions.iter().find(|condition| condition["type"] == "Progressing").unwrap();
    assert_eq!(progressing["reason"], "NewReplicaSetAvailable");

    // At rest nobody writes.
    let before: usize = ["PATCH", "POST", "PUT"].iter().map(|m| plane.api.requests(m, "deployments")).sum();
    plane.pass(Duration::from_secs(60)).await;
    let after: usize = ["PATCH", "POST", "PUT"].iter().map(|m| plane.api.requests(m, "deployments")).sum();
    assert_eq!(before, after);
    plane.stop().await;
}

#[tokio::test]
async fn refused_pods_are_tried_slowly_told_of_and_made_later() {
    let plane = Plane::start();
    plane.api.refuse("POST", "pods", 403, "Forbidden", "exceeded quota");
    plane.create(&kind("deployments"), deployment(50, "v1")).await;
    plane.settle().await;
    let tried = plane.api.requests("POST", "pods");
    assert!(tried < 8, "one is refused, so no other is sent with it: {tried}");
    plane.pass(Duration::from_secs(3)).await;
    assert!(plane.api.requests("POST", "pods") < 20);
    let set = plane.api.objects("replicasets").remove(0);
    let condition = &set["status"]["conditions"][0];
    assert_eq!(
        (condition["type"].as_str(), condition["reason"].as_str()),
        (Some("ReplicaFailure"), Some("FailedCreate"))
    );
    assert_eq!(condition["message"], "exceeded quota");
    let told =
        plane.api.objects("events").into_iter().find(|event| event["reason"] == "FailedCreate").unwrap();
    assert_eq!(told["message"], "Error creating: exceeded quota");
    plane.api.accept();
    plane.pass(Duration::from_secs(60)).await;
    assert_eq!(plane.api.objects("pods").len(), 50);
    assert!(plane.api.objects("replicasets")[0]["status"]["conditions"].is_null());
    plane.stop().await;
}

#[tokio::test]
async fn orphans_are_adopted_and_strays_released() {
    let plane = Plane::start();
    let pod = |name: &str| json!({ "metadata": { "name": name, "labels": { "app": "a" } }, "spec": { "containers": [{ "name": "c" }] } });
    plane.create(&kind("pods"), pod("bare")).await;
    let set = json!({
        "metadata": { "name": "set" },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "a" } },
            "template": { "metadata": { "labels": { "app": "a" } }, "spec": { "containers": [{ "name": "c" }] } },
        },
    });
    let uid = plane.create(&kind("replicasets"), set).await;
    plane.pass(Duration::from_secs(1)).await;
    let pods = plane.api.objects("pods");
    assert_eq!(pods.len(), 2, "the orphan counts");
    assert!(pods.iter().all(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == uid.as_str()));
    plane.patch(&kind("pods"), "bare", json!({ "metadata": { "labels": { "app": "b" } } })).await;
    plane.pass(Duration::from_secs(1)).await;
    let pods = plane.api.objects("pods");
    assert_eq!(pods.len(), 3);
    let bare = pods.iter().find(|pod| pod["metadata"]["name"] == "bare").unwrap();
    assert!(bare["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty));
    plane.stop().await;
}

#[tokio::test]
async fn every_namespace_has_its_account_and_certificates_and_empties_before_it_goes() {
    let plane = Plane::start();
    plane.create(&kind("namespaces"), json!({ "metadata": { "name": "x" } })).await;
    plane.settle().await;
    assert_eq!(plane.names("serviceaccounts"), ["default"]);
    assert_eq!(plane.api.objects("configmaps")[0]["data"]["ca.crt"], "PEM");

    let held = json!({ "metadata": { "name": "held", "finalizers": ["example.com/wait"] } });
    plane.create(&kind("configmaps"), held).await;
    plane.create(&kind("deployments"), deployment(2, "v1")).await;
    plane.settle().await;
    plane.of(&kind("namespaces"), "").delete("x", &Default::default()).await.unwrap();
    plane.pass(Duration::from_secs(8)).await;
    let namespace = plane.api.objects("namespaces").remove(0);
    assert_eq!(plane.names("configmaps"), ["held"]);
    assert!(plane.api.objects("pods").is_empty());
    let conditions = namespace["status"]["conditions"].as_array().unwrap();
    let held =
        conditions.iter().find(|condition| condition["type"] == "NamespaceFinalizersRemaining").unwrap();
    assert_eq!(
        (held["status"].as_str(), held["message"].as_str()),
        (
            Some("True"),
            Some(
                "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances"
            )
        )
    );
    plane.patch(&kind("configmaps"), "held", json!({ "metadata": { "finalizers": null } })).await;
    plane.pass(Duration::from_secs(6)).await;
    assert!(plane.api.objects("namespaces").is_empty());
    assert!(plane.api.objects("serviceaccounts").is_empty());
    plane.stop().await;
}
