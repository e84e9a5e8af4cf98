//! Server-side apply on the wire, and whose name stands in managedFields.

use http::Method;
use serde_json::{Value, json};

use crate::ask::{Answer, Asker};
use crate::{directory, start};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const APPLY: [(&str, &str); 1] = [("content-type", "application/apply-patch+yaml")];

async fn apply(asker: &Asker<'_>, query: &str, body: &str) -> Answer {
    asker.send(Method::PATCH, &format!("{CONFIG_MAPS}/a?{query}"), &APPLY, body).await
}

fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{{data}}}\n")
}

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| entry["manager"].as_str()).collect()
}

#[tokio::test]
async fn an_apply_creates_merges_and_conflicts() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let made = apply(&admin, "fieldManager=ada", &config("k: v")).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(managers(&made), ["ada"]);
    let again = apply(&admin, "fieldManager=ada", &config("k: v")).await;
    assert_eq!((again.code, again.ok()), (200, made), "nothing has changed, the resourceVersion neither");

    let refused = apply(&admin, "fieldManager=bob", &config("k: w")).await;
    let message = "Apply failed with 1 conflict: conflict with \"ada\": .data.k";
    assert_eq!(refused.failure(), (409, "Conflict".into(), message.into()));
    let cause =
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"ada\"", "field": ".data.k"});
    assert_eq!(refused.json()["details"], json!({ "causes": [cause] }));
    let forced = apply(&admin, "fieldManager=bob&force=true", &config("k: w")).await.ok();
    assert_eq!((&forced["data"], managers(&forced)), (&json!({"k": "w"}), vec!["bob"]));
    let dry = apply(&admin, "fieldManager=bob&dryRun=All", &config("k: x")).await.ok();
    assert_eq!(dry["data"]["k"], "x");
    assert_eq!(admin.get(&format!("{CONFIG_MAPS}/a")).await.ok(), forced);
    plane.stop().await;
}

#[tokio::test]
async fn options_and_bodies_are_checked() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let admin = Asker::admin(&plane);
    let (code, reason, message) = apply(&admin, "", &config("k: v")).await.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    let expected =
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
    assert_eq!(message, expected);
    let (code, _, message) = apply(&admin, "fieldManager=a%0Ab", &config("k: v")).await.failure();
    assert!(code == 422 && message.contains("invalid character U+000A (at position 1)"), "{message}");
    for body in ["", "[]", "a: b: c", "just text"] {
        assert_eq!(apply(&admin, "fieldManager=ada", body).await.failure().0, 400, "{body:?}");
    }
    let merge = format!("{CONFIG_MAPS}/a?force=true");
    let (code, _, message) = admin.patch(&merge, "merge-patch", &json!({})).await.failure();
    assert!(
        code == 422 && message.contains("force: Forbidden: may not be specified for non-apply patch"),
        "{message}"
    );
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v, k: w}\n";
    assert_eq!(apply(&admin, "fieldManager=ada&fieldValidation=Strict", twice).await.failure().0, 400);
    plane.stop().await;
}

#[tokio::test]
async fn managers_are_named_by_option_or_client() {
    let directory = directory();
    let plane = start(directory.path()).await;
    let tool = Asker::admin(&plane).with("user-agent", "tool/v1.2 (linux)");
    let body = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(managers(&tool.post(CONFIG_MAPS, &body).await.ok()), ["tool"]);
    let path = format!("{CONFIG_MAPS}/a?fieldManager=me");
    let patched = tool.patch(&path, "merge-patch", &json!({"data": {"k": "w", "l": "x"}})).await.ok();
    assert_eq!(managers(&patched), ["me", "tool"]);
    let nameless = Asker::admin(&plane);
    let changed = json!({"metadata": {"name": "a"}, "data": {"k": "z"}});
    let put = nameless.put(&format!("{CONFIG_MAPS}/a"), &changed).await.ok();
    assert_eq!(managers(&put), ["tool", "unknown"]);
    assert_eq!(managers(&listed(&nameless).await), ["tool", "unknown"]);
    plane.stop().await;
}

/// As lists show it.
async fn listed(asker: &Asker<'_>) -> Value {
    let list = asker.get(CONFIG_MAPS).await.ok();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|item| item["metadata"]["name"] == "a").unwrap_or_default()
}
