//! The scheduler against a fake API server, in memory.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests are tests

use client::{Ambient, Api, Client, PostParams};
use clock::{ManualClock, SeededRandom, SystemClock};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use scheduler::{Options, run};
use serde_json::{Value, from_value, json};
use std::sync::Arc;
use std::time::Duration;
use testkit::FakeApi;
use tokio_util::sync::CancellationToken;

struct Plane {
    api: FakeApi,
    client: Client,
    cancel: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), clock::Panicked>>,
}

fn start(ambient: Ambient) -> Plane {
    let api = FakeApi::new(ambient.clone());
    let (client, cancel) = (api.client(), CancellationToken::new());
    let running = tokio::spawn(run(api.client(), ambient, Options::default(), cancel.clone()));
    Plane { api, client, cancel, running }
}

fn simulated() -> (Arc<ManualClock>, Ambient) {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
    (clock.clone(), Ambient { clock, random: Arc::new(SeededRandom::new(1)) })
}

impl Plane {
    async fn node(&self, name: &str, cpu: &str) {
        let node: Node = from_value(json!({
            "metadata": { "name": name }, "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" } },
        }))
        .unwrap();
        Api::<Node>::all(self.client.clone()).create(&PostParams::default(), &node).await.unwrap();
    }

    async fn pod(&self, name: &str, extra: Value) {
        let mut spec =
            json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let pod: Pod = from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        Api::<Pod>::namespaced(self.client.clone(), "x").create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn bound(api: &FakeApi) -> usize {
    api.objects("pods").iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count()
}

async fn settle() {
    for _ in 0..300 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn pods_are_bound_and_told_of_and_others_left_alone() {
    let (_, ambient) = simulated();
    let plane = start(ambient);
    plane.node("a", "4").await;
    plane.pod("mine", json!({})).await;
    plane.pod("gated", json!({ "schedulingGates": [{ "name": "wait" }] })).await;
    plane.pod("theirs", json!({ "schedulerName": "other" })).await;
    plane.api.until(|api| !api.objects("events").is_empty()).await;
    settle().await;
    assert_eq!(bound(&plane.api), 1);
    let events = plane.api.objects("events");
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0]["reason"].as_str(), events[0]["message"].as_str()),
        (Some("Scheduled"), Some("Successfully assigned x/mine to a"))
    );

    // A gate that is taken away lets the pod through.
    let pods: Api<Pod> = Api::namespaced(plane.client.clone(), "x");
    let open = client::Patch::Merge(json!({ "spec": { "schedulingGates": null } }));
    pods.patch("gated", &Default::default(), &open).await.unwrap();
    plane.api.until(|api| bound(api) == 2).await;
    plane.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_place_says_so_and_gets_one_when_something_changes() {
    let (clock, ambient) = simulated();
    let plane = start(ambient);
    plane.node("a", "1").await;
    plane.pod("first", json!({})).await;
    plane.api.until(|api| bound(api) == 1).await;
    plane.pod("second", json!({})).await;
    plane.api.until(|api| api.objects("pods").iter().any(|pod| pod["status"]["conditions"].is_array())).await;
    let waiting =
        plane.api.objects("pods").into_iter().find(|pod| pod["metadata"]["name"] == "second").unwrap();
    let condition = &waiting["status"]["conditions"][0];
    assert_eq!(
        (condition["type"].as_str(), condition["reason"].as_str()),
        (Some("PodScheduled"), Some("Unschedulable"))
    );
    assert_eq!(
        condition["message"],
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );

    let pods: Api<Pod> = Api::namespaced(plane.client.clone(), "x");
    pods.delete("first", &Default::default()).await.unwrap();
    settle().await;
    assert_eq!(bound(&plane.api), 0, "it pauses for a second after a try");
    clock.advance(Duration::from_secs(1));
    plane.api.until(|api| bound(api) == 1).await;
    plane.stop().await;
}

#[tokio::test]
async fn a_failed_binding_gives_the_place_back_and_is_tried_again() {
    let (clock, ambient) = simulated();
    let plane = start(ambient);
    plane.node("a", "1").await;
    plane.pod("first", json!({})).await;
    plane.api.until(|api| bound(api) == 1).await;
    let pods: Api<Pod> = Api::namespaced(plane.client.clone(), "x");
    pods.delete("first", &Default::default()).await.unwrap();
    plane.pod("second", json!({ "schedulingGates": [{ "name": "wait" }] })).await;
    plane.api.refuse("POST", "pods", 500, "InternalError", "not now");
    let open = client::Patch::Merge(json!({ "spec": { "schedulingGates": null } }));
    pods.patch("second", &Default::default(), &open).await.unwrap();
    settle().await;
    assert_eq!((bound(&plane.api), plane.api.requests("POST", "pods")), (0, 4), "it was tried, and refused");
    plane.api.accept();
    clock.advance(Duration::from_secs(1));
    plane.api.until(|api| bound(api) == 1).await;
    plane.stop().await;
}

#[tokio::test]
async fn nothing_is_overcommitted_by_a_rush() {
    let ambient = Ambient { clock: Arc::new(SystemClock::default()), random: Arc::new(SeededRandom::new(7)) };
    let plane = start(ambient);
    for i in 0..10 {
        plane.node(&format!("n{i}"), "4").await;
    }
    for i in 0..60 {
        plane.pod(&format!("p{i}"), json!({})).await;
    }
    plane.api.until(|api| bound(api) >= 40).await;
    settle().await;
    assert_eq!(bound(&plane.api), 40);
    let pods = plane.api.objects("pods");
    for i in 0..10 {
        let name = format!("n{i}");
        assert_eq!(pods.iter().filter(|pod| pod["spec"]["nodeName"] == name.as_str()).count(), 4);
    }
    plane.stop().await;
}

async fn create<K>(api: Api<K>, object: Value)
where
    K: Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    api.create(&PostParams::default(), &from_value(object).unwrap()).await.unwrap();
}

impl Plane {
    /// A class whose volumes are chosen with the first pod's node, and a claim of it.
    async fn claim(&self, provisioner: &str) {
        let class = json!({ "metadata": { "name": "late" }, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer" });
        create(Api::<StorageClass>::all(self.client.clone()), class).await;
        let claim = json!({ "metadata": { "name": "data" }, "spec": { "storageClassName": "late",
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "5Gi" } } } });
        create(Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), "x"), claim).await;
    }

    fn stored(&self, plural: &str, name: &str) -> Value {
        let all = self.api.objects(plural);
        all.into_iter().find(|object| object["metadata"]["name"] == name).unwrap()
    }

    /// What a binder of volumes does in the end.
    async fn bind_claim(&self, volume: &str) {
        let bound = json!({ "metadata": { "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
            "spec": { "volumeName": volume } });
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), "x");
        claims.patch("data", &Default::default(), &client::Patch::Merge(bound)).await.unwrap();
    }
}

fn with_claim() -> Value {
    json!({ "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "data" } }] })
}

#[tokio::test]
async fn a_claim_gets_the_smallest_volume_that_does_on_a_node_that_reaches_it() {
    let (_, ambient) = simulated();
    let plane = start(ambient);
    plane.node("a", "4").await;
    plane.node("b", "4").await;
    plane.claim("kubernetes.io/no-provisioner").await;
    for (name, size, node) in [("large", "50Gi", "b"), ("right", "10Gi", "b"), ("small", "1Gi", "a")] {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": [node] });
        let volume = json!({ "metadata": { "name": name }, "spec": { "storageClassName": "late", "capacity": { "storage": size },
            "accessModes": ["ReadWriteOnce"], "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchFields": [field] }] } } } });
        create(Api::<PersistentVolume>::all(plane.client.clone()), volume).await;
    }
    settle().await;
    plane.pod("p", with_claim()).await;
    plane
        .api
        .until(|api| api.objects("persistentvolumes").iter().any(|pv| pv["spec"]["claimRef"].is_object()))
        .await;
    let claimed = &plane.stored("persistentvolumes", "right")["spec"]["claimRef"];
    assert_eq!((claimed["namespace"].as_str(), claimed["name"].as_str()), (Some("x"), Some("data")));
    settle().await;
    assert_eq!(bound(&plane.api), 0, "not before the claim has it");
    plane.bind_claim("right").await;
    plane.api.until(|api| bound(api) == 1).await;
    assert_eq!(plane.stored("pods", "p")["spec"]["nodeName"], "b");
    plane.stop().await;
}

#[tokio::test]
async fn a_volume_is_made_where_its_pod_will_be_or_somewhere_else_is_tried() {
    let (clock, ambient) = simulated();
    let plane = start(ambient);
    plane.node("a", "4").await;
    settle().await;
    plane.pod("p", with_claim()).await;
    let said = |plane: &Plane, part: &str| plane.stored("pods", "p")["status"].to_string().contains(part);
    plane.api.until(|_| said(&plane, "persistentvolumeclaim \\\"data\\\" not found")).await;
    plane.claim("example.com/disks").await;
    settle().await;
    clock.advance(Duration::from_secs(1));
    let chosen = "volume.kubernetes.io/selected-node";
    let noted = |plane: &Plane| {
        plane.stored("persistentvolumeclaims", "data")["metadata"]["annotations"][chosen].clone()
    };
    plane.api.until(|_| noted(&plane) == "a").await;
    settle().await;
    assert_eq!(bound(&plane.api), 0);

    // None could be made there.
    let none = json!({ "metadata": { "annotations": { chosen: null } } });
    let claims = Api::<PersistentVolumeClaim>::namespaced(plane.client.clone(), "x");
    claims.patch("data", &Default::default(), &client::Patch::Merge(none)).await.unwrap();
    settle().await;
    plane.node("b", "4").await;
    let cordon = json!({ "spec": { "unschedulable": true } });
    let nodes = Api::<Node>::all(plane.client.clone());
    nodes.patch("a", &Default::default(), &client::Patch::Merge(cordon)).await.unwrap();
    settle().await;
    clock.advance(Duration::from_secs(10));
    plane.api.until(|_| noted(&plane) == "b").await;
    plane.bind_claim("made").await;
    plane.api.until(|api| bound(api) == 1).await;
    assert_eq!(plane.stored("pods", "p")["spec"]["nodeName"], "b");
    plane.stop().await;
}

#[tokio::test]
async fn an_important_pod_is_bound_when_its_victim_has_gone() {
    let (clock, ambient) = simulated();
    let plane = start(ambient);
    plane.node("a", "1").await;
    plane.pod("low", json!({ "priority": 1 })).await;
    plane.api.until(|api| bound(api) == 1).await;
    plane.pod("high", json!({ "priority": 9 })).await;
    plane.api.until(|api| api.objects("pods").len() == 1).await;
    settle().await;
    let high = plane.stored("pods", "high");
    assert_eq!(high["status"]["nominatedNodeName"], "a");
    clock.advance(Duration::from_secs(1));
    plane.api.until(|api| bound(api) == 1).await;
    let events = plane.api.objects("events");
    assert!(
        events.iter().any(|event| event["reason"] == "Preempted"
            && event["message"].as_str().unwrap().ends_with(" on node a")),
        "{events:?}"
    );
    plane.stop().await;
}
