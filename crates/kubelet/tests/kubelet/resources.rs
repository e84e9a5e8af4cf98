//! What pods get of the node, and what becomes of that while they run.

use client::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::plane::{Plane, condition, told};

fn pod(memory: &str) -> Value {
    let resources = json!({"requests": {"cpu": "100m", "memory": memory}, "limits": {"memory": memory}});
    json!({"containers": [{"name": "a", "image": "image", "imagePullPolicy": "Never", "resources": resources}]})
}

async fn resize(plane: &Plane, memory: &str, generation: i64) {
    let mut spec = pod(memory);
    spec["nodeName"] = json!("node");
    // As the API server does: a new generation with a new spec.
    let change = json!({"metadata": {"generation": generation}, "spec": spec});
    plane.pods().patch("p", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

fn limit(pod: &Value) -> &str {
    told(pod)["resources"]["limits"]["memory"].as_str().unwrap_or_default()
}

fn reason(pod: &Value, name: &str) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array()?;
    Some(conditions.iter().find(|one| one["type"] == name)?["reason"].as_str()?.to_owned())
}

#[tokio::test]
async fn groups_lie_by_class_and_weigh_what_is_asked_for() {
    let plane = Plane::start().await;
    plane.create("p", pod("64Mi")).await;
    plane.until_ready("p").await;
    let uid = plane.pod("p")["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(plane.runtime.sandbox().cgroup_parent, format!("monoplane/burstable/pod{uid}"));
    // Set by a task of its own, which hears of the pod at the same time.
    let shares = |group: &str| plane.groups.0.lock().unwrap().get(group).and_then(|set| set.cpu_shares);
    while shares("monoplane/burstable") != Some(102) {
        tokio::task::yield_now().await;
    }
    assert_eq!((shares("monoplane/besteffort"), shares("monoplane")), (Some(2), Some(2048)));
    let whole = plane.groups.0.lock().unwrap()["monoplane"].memory_limit;
    assert_eq!(whole, Some(1 << 30));
}

#[tokio::test]
async fn a_running_container_is_given_more_and_what_is_too_much_is_said() {
    let plane = Plane::start().await;
    plane.create("p", pod("64Mi")).await;
    let ready = plane.until_ready("p").await;
    assert_eq!((limit(&ready), &told(&ready)["allocatedResources"]["memory"]), ("64Mi", &json!("64Mi")));
    resize(&plane, "128Mi", 2).await;
    let resized = plane.until("p", |pod| limit(pod) == "128Mi").await;
    assert_eq!(told(&resized)["restartCount"], 0);
    assert_eq!(
        plane.runtime.calls(&format!("update sandbox {}", 128 << 20)),
        2,
        "around the run, and after it"
    );
    plane.until_event("ResizeStarted").await;

    // The machine has 1Gi.
    resize(&plane, "2Gi", 3).await;
    let refused = plane.until("p", |pod| condition(pod, "PodResizePending") == "True").await;
    assert_eq!(reason(&refused, "PodResizePending").as_deref(), Some("Infeasible"));
    assert_eq!(
        (limit(&refused), &told(&refused)["allocatedResources"]["memory"]),
        ("128Mi", &json!("128Mi"))
    );
    // A new kubelet remembers what was given, and not what was asked for.
    let plane = plane.restart().await;
    resize(&plane, "1Mi", 4).await;
    plane.until("p", |pod| limit(pod) == "1Mi" && condition(pod, "PodResizePending").is_empty()).await;

    plane.runtime.fail_updates(true);
    resize(&plane, "2Mi", 5).await;
    let failed = plane.until("p", |pod| reason(pod, "PodResizeInProgress").is_some()).await;
    assert_eq!(reason(&failed, "PodResizeInProgress").as_deref(), Some("Error"));
    assert_eq!((limit(&failed), &told(&failed)["allocatedResources"]["memory"]), ("1Mi", &json!("2Mi")));
}

#[tokio::test]
async fn what_others_have_is_waited_for() {
    let plane = Plane::start().await;
    plane.create("other", pod("700Mi")).await;
    plane.until_ready("other").await;
    plane.create("p", pod("64Mi")).await;
    plane.until_ready("p").await;
    resize(&plane, "500Mi", 2).await;
    let waits = plane.until("p", |pod| condition(pod, "PodResizePending") == "True").await;
    assert_eq!(reason(&waits, "PodResizePending").as_deref(), Some("Deferred"));
    plane.runtime.end("a", 0);
    plane
        .pods()
        .patch_status(
            "other",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"phase": "Succeeded"}})),
        )
        .await
        .unwrap();
    plane.until("p", |pod| limit(pod) == "500Mi").await;
}

#[tokio::test]
async fn a_container_is_added_to_look_at_another() {
    let plane = Plane::start().await;
    plane.create("p", pod("64Mi")).await;
    plane.until_ready("p").await;
    let target = plane.runtime.container("a").unwrap().1.id;
    let added =
        json!([{"name": "debug", "image": "image", "imagePullPolicy": "Never", "targetContainerName": "a"}]);
    let change = json!({"spec": {"ephemeralContainers": added}});
    plane.pods().patch("p", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let running =
        |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object();
    plane.until("p", running).await;
    assert_eq!(plane.runtime.container("debug").unwrap().0.pid_target, Some(target));
    plane.runtime.end("debug", 3);
    let ended =
        |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3;
    let pod = plane.until("p", ended).await;
    assert_eq!((condition(&pod, "Ready").as_str(), plane.runtime.calls("create debug")), ("True", 1));
}
