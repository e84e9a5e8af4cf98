//! Admission webhooks over HTTPS: what they are told of requests on subresources, streams and collections, and what becomes of
//! what they answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::{Heard, Webhook};
use serde_json::{Value, json};

use crate::ask::Asker;
use crate::plane::Plane;
use crate::{directory, start};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const NAMESPACE: &str = "/api/v1/namespaces/default";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Allows everything but what is to be denied: `/deny` in the path. A Scale is made one larger.
fn answer(target: &str, review: &Value) -> Option<Value> {
    let request = &review["request"];
    let mut response = json!({"uid": request["uid"], "allowed": !target.starts_with("/deny")});
    if request["kind"]["kind"] == "Scale" && target.starts_with("/change") {
        let more = request["object"]["spec"]["replicas"].as_i64().unwrap_or_default() + 1;
        let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": more}]);
        response["patch"] = STANDARD.encode(patch.to_string()).into();
        response["patchType"] = "JSONPatch".into();
    }
    Some(json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}))
}

/// Puts one webhook for these resources in force, and waits until it is.
async fn configure(plane: &Plane, hook: &Webhook, kind: &str, path: &str, resources: &[&str]) {
    let plural = format!("{}s", kind.to_lowercase());
    let configuration = json!({"metadata": {"name": "hook"}, "webhooks": [{
        "name": "hook.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": hook.url(path), "caBundle": hook.ca_bundle},
        "rules": [
            {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["v1"], "resources": resources},
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"]},
        ],
    }]});
    let admin = Asker::admin(plane);
    admin.post(&format!("{CONFIGURATIONS}/{plural}"), &configuration).await.ok();
    let before = hook.heard().len();
    let marker = json!({"metadata": {"name": "marker"}});
    while hook.heard().len() == before {
        admin.post("/api/v1/namespaces?dryRun=All", &marker).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// What the webhook heard of a resource's part, without the markers.
fn heard(hook: &Webhook, resource: &str, part: &str) -> Vec<Value> {
    let all = hook.heard().into_iter().map(|Heard { mut body, .. }| body["request"].take());
    all.filter(|request| {
        request["resource"]["resource"] == resource
            && request["subResource"].as_str().unwrap_or_default() == part
    })
    .collect()
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn subresources_are_told_as_what_is_sent_to_them() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let hook = Webhook::start(&[], answer);
    let admin = Asker::admin(&plane);
    let deployment = json!({"metadata": {"name": "web"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    admin.post(DEPLOYMENTS, &deployment).await.ok();
    admin.post(&format!("{NAMESPACE}/pods"), &pod("p")).await.ok();
    configure(&plane, &hook, "MutatingWebhookConfiguration", "/change", &["*/*"]).await;

    let scaled = admin
        .patch(&format!("{DEPLOYMENTS}/web/scale"), "merge-patch", &json!({"spec": {"replicas": 3}}))
        .await
        .ok();
    assert_eq!(scaled["spec"]["replicas"], 4, "as the webhook has it");
    let told = heard(&hook, "deployments", "scale");
    let kind = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    assert_eq!((&told[0]["kind"], &told[0]["requestKind"]), (&kind, &kind));
    assert_eq!(
        (&told[0]["object"]["spec"], &told[0]["oldObject"]["spec"]),
        (&json!({"replicas": 3}), &json!({"replicas": 1}))
    );
    assert_eq!(told[0]["options"]["kind"], "UpdateOptions");

    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    admin.post(&format!("{NAMESPACE}/pods/p/binding"), &binding).await.ok();
    let told = heard(&hook, "pods", "binding");
    assert_eq!((&told[0]["kind"]["kind"], &told[0]["operation"]), (&json!("Binding"), &json!("CREATE")));
    assert_eq!((&told[0]["object"]["target"]["name"], &told[0]["name"]), (&json!("n"), &json!("p")));

    let token = json!({"spec": {"audiences": ["x"]}});
    admin.post(&format!("{NAMESPACE}/serviceaccounts/default/token"), &token).await.ok();
    let told = heard(&hook, "serviceaccounts", "token");
    assert_eq!(
        told[0]["kind"],
        json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"})
    );

    let status = json!({"status": {"phase": "Running"}});
    admin.patch(&format!("{NAMESPACE}/pods/p/status"), "merge-patch", &status).await.ok();
    assert_eq!(heard(&hook, "pods", "status")[0]["kind"]["kind"], "Pod");
    let eviction = json!({"metadata": {"name": "p"}, "apiVersion": "policy/v1", "kind": "Eviction"});
    admin.post(&format!("{NAMESPACE}/pods/p/eviction?dryRun=All"), &eviction).await.ok();
    let told = heard(&hook, "pods", "eviction");
    assert_eq!(told[0]["kind"], json!({"group": "policy", "version": "v1", "kind": "Eviction"}));
    assert_eq!((&told[0]["dryRun"], &told[0]["options"]["dryRun"]), (&json!(true), &json!(["All"])));
    plane.stop().await;
}

#[tokio::test]
async fn streams_are_judged_by_their_options() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let hook = Webhook::start(&[], answer);
    let admin = Asker::admin(&plane);
    admin.post(&format!("{NAMESPACE}/pods"), &pod("p")).await.ok();
    configure(&plane, &hook, "ValidatingWebhookConfiguration", "/deny", &["pods/exec", "pods/portforward"])
        .await;
    let path = format!("{NAMESPACE}/pods/p/exec?command=ls&command=-l&container=c&stdin=true&stdout=false");
    let refused = admin.post(&path, &json!({})).await.failure();
    let denied = "admission webhook \"hook.example.com\" denied the request without explanation";
    assert_eq!((refused.0, refused.2.as_str()), (400, denied));
    let told = heard(&hook, "pods", "exec");
    assert_eq!((&told[0]["operation"], &told[0]["options"]), (&json!("CONNECT"), &Value::Null));
    assert_eq!(
        told[0]["object"],
        json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdin": true, "stderr": true, "container": "c",
            "command": ["ls", "-l"]})
    );
    let refused = admin.post(&format!("{NAMESPACE}/pods/p/portforward?ports=80"), &json!({})).await.failure();
    assert_eq!(refused.2, denied);
    let told = heard(&hook, "pods", "portforward");
    let kind = json!({"apiVersion": "v1", "kind": "PodPortForwardOptions", "ports": [80]});
    assert_eq!(told[0]["object"], kind);
    // What nobody objects to goes on: here to a pod without a node.
    let refused = admin.post(&format!("{NAMESPACE}/pods/p/attach"), &json!({})).await.failure();
    assert!(refused.2.contains("does not have a host assigned"), "{refused:?}");
    let refused = admin.post(&format!("{NAMESPACE}/pods/p/exec?dryRun=All"), &json!({})).await.failure();
    assert_eq!((refused.0, refused.2.as_str()), (400, "dryRun is not supported"));
    plane.stop().await;
}

#[tokio::test]
async fn patches_applies_and_collections_are_told_as_what_they_come_to() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let hook = Webhook::start(&[], answer);
    let admin = Asker::admin(&plane);
    configure(&plane, &hook, "ValidatingWebhookConfiguration", "/allow", &["configmaps"]).await;
    let apply = async |name: &str, value: &str| {
        let path = format!("{NAMESPACE}/configmaps/{name}?fieldManager=me");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}});
        let kind = [("content-type", "application/apply-patch+yaml")];
        admin.send(http::Method::PATCH, &path, &kind, &body.to_string()).await.ok()
    };
    apply("a", "1").await;
    apply("a", "2").await;
    let told = heard(&hook, "configmaps", "");
    let shown: Vec<_> = told
        .iter()
        .map(|request| {
            let of = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            (
                of("/operation"),
                of("/options/kind"),
                of("/options/fieldManager"),
                of("/object/data/a"),
                of("/oldObject/data/a"),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("CREATE", "CreateOptions", "me", "1", ""), ("UPDATE", "UpdateOptions", "me", "2", "1")]
    );
    admin.delete(&format!("{NAMESPACE}/configmaps?labelSelector=none%3Dnone")).await.ok();
    assert_eq!(heard(&hook, "configmaps", "").len(), 2, "nothing was chosen");
    admin.delete(&format!("{NAMESPACE}/configmaps?gracePeriodSeconds=0")).await.ok();
    let told = heard(&hook, "configmaps", "");
    let last = told.last().unwrap();
    assert_eq!((&last["operation"], &last["options"]["gracePeriodSeconds"]), (&json!("DELETE"), &json!(0)));
    plane.stop().await;
}
