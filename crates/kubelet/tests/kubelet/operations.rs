//! What goes on beside something that takes long, fails, or is given up.

use serde_json::{Value, json};

use crate::fake::FakeRuntime;
use crate::plane::{Plane, told};

fn container(name: &str, extra: Value) -> Value {
    let mut container = json!({"name": name, "image": "image", "imagePullPolicy": "IfNotPresent"});
    container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    container
}

fn failing_probe() -> Value {
    json!({"exec": {"command": ["false"]}, "failureThreshold": 1, "periodSeconds": 1})
}

fn status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = pod["status"]["containerStatuses"].as_array();
    all.and_then(|all| all.iter().find(|told| told["name"] == name)).unwrap_or(&Value::Null)
}

async fn until_gone(plane: &Plane) {
    // Once nothing of it is left here it is deleted for good: the second request for it.
    while plane.api.requests("DELETE", "pods") < 2 {
        tokio::task::yield_now().await;
    }
    assert!(plane.runtime.is_empty());
}

#[tokio::test]
async fn a_long_stop_holds_nobody_up() {
    let plane = Plane::start().await;
    let a = container("a", json!({"livenessProbe": failing_probe()}));
    plane.runtime.hold("stop container");
    plane.create("p", json!({"containers": [a, container("b", json!({}))]})).await;
    plane.runtime.until_called("stop container", 1).await;
    plane.until("p", |pod| status(pod, "b")["ready"] == true).await;
    plane.runtime.end("b", 1);
    plane.until("p", |pod| status(pod, "b")["restartCount"] == 1).await;
    assert!(status(&plane.pod("p"), "a")["state"]["running"].is_object());
    plane.runtime.release();
    plane.until("p", |pod| status(pod, "a")["restartCount"] == 1).await;
}

#[tokio::test]
async fn a_long_hook_after_the_start_holds_up_the_next_start_and_nothing_else() {
    let plane = Plane::start().await;
    plane.runtime.hold("exec hook");
    let hook = json!({"lifecycle": {"postStart": {"exec": {"command": ["hook"]}}}});
    let a = container("a", hook);
    plane.create("p", json!({"containers": [a, container("b", json!({}))]})).await;
    plane.until("p", |pod| status(pod, "a")["ready"] == true).await;
    assert!(plane.runtime.container("b").is_none());
    plane.runtime.release();
    plane.until_ready("p").await;
}

#[tokio::test]
async fn a_failed_hook_after_the_start_ends_its_run() {
    let plane = Plane::start().await;
    let hook = json!({"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}});
    plane.create("p", json!({"containers": [container("a", hook)]})).await;
    plane.until_event("FailedPostStartHook").await;
    plane.until("p", |pod| told(pod)["restartCount"] == 1).await;
}

#[tokio::test]
async fn leaving_hastens_an_end_and_does_not_begin_it_again() {
    let plane = Plane::start().await;
    plane.runtime.hold("exec hook");
    let hook = json!({"preStop": {"exec": {"command": ["hook"]}}});
    let a = container("a", json!({"livenessProbe": failing_probe(), "lifecycle": hook}));
    plane.create("p", json!({"containers": [a], "terminationGracePeriodSeconds": 300})).await;
    plane.runtime.until_called("exec hook", 1).await;
    let params = client::DeleteParams { grace_period_seconds: Some(1), ..Default::default() };
    plane.pods().delete("p", &params).await.unwrap();
    until_gone(&plane).await;
    assert_eq!(plane.runtime.calls("exec hook"), 1);
    assert_eq!(plane.reasons().iter().filter(|reason| *reason == "Killing").count(), 1);
}

#[tokio::test]
async fn a_stop_that_failed_is_tried_again_without_its_hook() {
    let plane = Plane::start().await;
    let hook = json!({"preStop": {"exec": {"command": ["hook"]}}});
    plane.create("p", json!({"containers": [container("a", json!({"lifecycle": hook}))]})).await;
    plane.until_ready("p").await;
    plane.runtime.fail_stop();
    plane.pods().delete("p", &Default::default()).await.unwrap();
    until_gone(&plane).await;
    assert_eq!((plane.runtime.calls("stop container"), plane.runtime.calls("exec hook")), (2, 1));
}

#[tokio::test]
async fn a_sandbox_that_comes_up_late_leaves_with_its_pod() {
    let plane = Plane::start().await;
    plane.runtime.hold("run sandbox");
    plane.create("p", json!({"containers": [container("a", json!({}))]})).await;
    plane.runtime.until_called("run sandbox", 1).await;
    plane.pods().delete("p", &Default::default()).await.unwrap();
    plane.runtime.release();
    until_gone(&plane).await;
    assert_eq!(plane.runtime.calls("remove sandbox"), 1);
}

#[tokio::test]
async fn a_command_that_is_not_there_is_a_run_that_failed() {
    let plane = Plane::start().await;
    plane.runtime.break_command("a");
    let spec = json!({"containers": [container("a", json!({}))], "restartPolicy": "Never"});
    plane.create("p", spec).await;
    let pod = plane.until("p", |pod| pod["status"]["phase"] == "Failed").await;
    let ended = &told(&pod)["state"]["terminated"];
    assert_eq!((ended["reason"].as_str(), ended["exitCode"].as_i64()), (Some("StartError"), Some(128)));
    assert_eq!(ended["message"], "exec: no such command");

    let spec = json!({"containers": [container("a", json!({})), container("b", json!({}))]});
    plane.create("q", spec).await;
    let waiting = |pod: &Value| status(pod, "a")["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let pod = plane.until("q", waiting).await;
    assert_eq!(status(&pod, "a")["lastState"]["terminated"]["reason"], "StartError");
    let before = status(&pod, "a")["restartCount"].as_i64().unwrap();
    let plane = plane.restart().await;
    // A new process knows of the runs before, and tries the next one.
    plane.until("q", |pod| status(pod, "a")["restartCount"].as_i64() == Some(before + 1)).await;
}

#[tokio::test]
async fn what_has_run_runs_again_while_the_api_is_away() {
    let plane = Plane::start().await;
    let maps: client::Api<api::k8s::api::core::v1::ConfigMap> =
        client::Api::namespaced(plane.api.client(), "default");
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"key": "value"}})).unwrap();
    maps.create(&Default::default(), &map).await.unwrap();
    let a = json!({
        "env": [{"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "key"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let volumes = json!([{"name": "v", "configMap": {"name": "m"}}]);
    plane.create("p", json!({"containers": [container("a", a)], "volumes": volumes})).await;
    plane.until_ready("p").await;
    plane.api.refuse("GET", "configmaps", 503, "ServiceUnavailable", "away");
    plane.runtime.end("a", 1);
    plane.until("p", |pod| told(pod)["restartCount"] == 1 && told(pod)["ready"] == true).await;
    let (config, _) = plane.runtime.container("a").unwrap();
    assert_eq!(config.envs[0], ("KEY".to_owned(), "value".to_owned()));
}

#[tokio::test]
async fn volumes_follow_what_they_are_made_from() {
    let plane = Plane::start().await;
    let maps: client::Api<api::k8s::api::core::v1::ConfigMap> =
        client::Api::namespaced(plane.api.client(), "default");
    let map = serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"key": "one"}})).unwrap();
    maps.create(&Default::default(), &map).await.unwrap();
    let a = container("a", json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    let volumes = json!([{"name": "v", "configMap": {"name": "m"}}]);
    plane.create("p", json!({"containers": [a], "volumes": volumes})).await;
    plane.until_ready("p").await;
    let (config, _) = plane.runtime.container("a").unwrap();
    let file = config.mounts[0].host_path.join("key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    let change = client::Patch::Merge(json!({"data": {"key": "two"}}));
    maps.patch("m", &Default::default(), &change).await.unwrap();
    // A new process looks at once, and not after a minute.
    let _plane = plane.restart().await;
    while std::fs::read_to_string(&file).unwrap() != "two" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_pod_that_never_began_leaves() {
    let runtime = FakeRuntime::new(&[]);
    let api = testkit::FakeApi::new(client::Ambient::system());
    let plane = Plane::with(api, runtime, tempfile::tempdir().unwrap()).await;
    plane.create("p", json!({"containers": [container("a", json!({"image": "other"}))]})).await;
    plane.until_event("Failed").await;
    plane.pods().delete("p", &Default::default()).await.unwrap();
    until_gone(&plane).await;
}
