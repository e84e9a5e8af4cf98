//! Admission webhooks over real HTTPS, as users of kubectl meet them. No node: objects only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use harness::{Plane, Webhook, eventually};
use serde_json::{Value, json};

use crate::start;

fn objects_only() -> Plane {
    start(&["--disable", "node,edge", "--webhook-allow", "127.0.0.1"])
}

/// What the webhook of these tests says, by the path at which it is asked.
fn answer(target: &str, review: &Value) -> Option<Value> {
    let request = &review["request"];
    let mut response = json!({"uid": request["uid"], "allowed": true});
    match target.split('?').next().unwrap_or_default() {
        "/label" if request["object"].is_object() => {
            let labels = &request["object"]["metadata"]["labels"];
            let mut patch = vec![];
            if labels.is_null() {
                patch.push(json!({"op": "add", "path": "/metadata/labels", "value": {}}));
            }
            patch.push(json!({"op": "add", "path": "/metadata/labels/by", "value": "webhook"}));
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(Value::from(patch).to_string()).into();
        }
        "/deny" => {
            response["allowed"] = false.into();
            response["status"] = json!({"message": "not today", "code": 403, "reason": "Forbidden"});
            response["warnings"] = json!(["think again"]);
        }
        "/nothing" => return None,
        _ => {}
    }
    Some(json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}))
}

/// A configuration with one webhook for ConfigMaps of namespaces with that label.
fn configuration(kind: &str, hook: &Webhook, path: &str, more: &Value) -> Value {
    let mut webhook = json!({
        "name": "hook.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": hook.url(path), "caBundle": hook.ca_bundle},
        "rules": [{"operations": ["CREATE", "UPDATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["configmaps"]}],
        "namespaceSelector": {"matchLabels": {"hooked": "yes"}},
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        webhook[name] = value.clone();
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "hook"},
        "webhooks": [webhook],
    })
}

const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

fn create(plane: &Plane, name: &str, more: &[&str]) -> harness::Said {
    plane.kubectl(&[&["create", "configmap", name, "-n", "hooked", "--from-literal=a=b"], more].concat())
}

/// A plane with a namespace that the configurations above are about.
fn hooked() -> Plane {
    let plane = objects_only();
    plane.kubectl_ok(&["create", "namespace", "hooked"]);
    plane.kubectl_ok(&["label", "namespace", "hooked", "hooked=yes"]);
    plane
}

#[test]
fn a_webhook_changes_objects_and_another_refuses_them() {
    let (plane, hook) = (hooked(), Webhook::start(&[], answer));
    plane.apply(&configuration(MUTATING, &hook, "/label", &json!({})).to_string());
    // It is in force once it is seen.
    let labelled = eventually("a labelled object", || {
        let made = create(&plane, "one", &["--dry-run=server", "-o", "json"]);
        let made: Value = serde_json::from_str(&made.out).ok()?;
        made["metadata"]["labels"]["by"].as_str().map(str::to_owned)
    });
    assert_eq!(labelled, "webhook");
    assert!(hook.heard().iter().all(|heard| heard.body["request"]["dryRun"] == true));
    assert!(create(&plane, "one", &[]).ok);
    let object = plane.get(&["configmap", "one", "-n", "hooked", "--show-managed-fields"]);
    assert_eq!(object["metadata"]["labels"]["by"], "webhook");
    let managed = object["metadata"]["managedFields"].to_string();
    assert!(
        managed.contains("f:data") && !managed.contains("f:by"),
        "what admission adds is nobody's: {managed}"
    );
    let heard = hook.heard();
    let last = heard.last().expect("a request");
    assert_eq!(last.target, "/label?timeout=10s");
    let request = &last.body["request"];
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("CREATE"), &json!(false)));
    assert_eq!(request["options"]["fieldManager"], "kubectl-create");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert_eq!(request["userInfo"]["username"], "kubernetes-admin");
    assert!(heard.len() > 1 && heard.iter().all(|each| each.connection == 0), "one connection for all");
    // Other namespaces and kinds are not its business.
    let count = hook.heard().len();
    plane.kubectl_ok(&["create", "configmap", "free", "--from-literal=a=b"]);
    plane.kubectl_ok(&["create", "secret", "generic", "s", "-n", "hooked"]);
    assert_eq!(hook.heard().len(), count);

    plane.apply(&configuration(VALIDATING, &hook, "/deny", &json!({})).to_string());
    let refused = eventually("a refusal", || {
        let said = create(&plane, "two", &["--dry-run=server"]);
        (!said.ok).then_some(said.err)
    });
    let words = "error: failed to create configmap: admission webhook \"hook.example.com\" denied the request: not today";
    assert!(refused.contains("Warning: think again") && refused.contains(words), "{refused}");
    // Deletions are asked about, too, with what there was.
    let said = plane.kubectl(&["delete", "configmap", "one", "-n", "hooked"]);
    assert!(
        !said.ok && said.err.contains("Error from server (Forbidden): admission webhook"),
        "{}",
        said.err
    );
    let heard = hook.heard();
    let request = &heard.last().expect("a request").body["request"];
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(request["oldObject"]["data"]["a"], "b");
    assert_eq!(request["options"]["propagationPolicy"], "Background");
    // Nobody can lock himself out: the configurations are nobody's business.
    plane.kubectl_ok(&["delete", "validatingwebhookconfiguration", "hook"]);
    eventually("the webhook is forgotten", || {
        plane.kubectl(&["delete", "configmap", "one", "-n", "hooked"]).ok.then_some(())
    });
}

#[test]
fn a_webhook_that_says_nothing_or_is_down_follows_its_policy() {
    let (plane, hook) = (hooked(), Webhook::start(&[], answer));
    let slow = json!({"timeoutSeconds": 1});
    plane.apply(&configuration(VALIDATING, &hook, "/nothing", &slow).to_string());
    let refused = eventually("a refusal", || {
        let said = create(&plane, "one", &["--dry-run=server"]);
        (!said.ok).then_some(said.err)
    });
    let url = hook.url("/nothing?timeout=1s");
    let words = format!(
        "error: failed to create configmap: Internal error occurred: failed calling webhook \"hook.example.com\": failed to \
         call webhook: Post \"{url}\": context deadline exceeded"
    );
    assert!(refused.contains(&words), "{refused}");

    let ignored = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    plane.apply(&configuration(VALIDATING, &hook, "/nothing", &ignored).to_string());
    eventually("an object in spite of it", || create(&plane, "one", &[]).ok.then_some(()));

    let url = hook.url("/deny?timeout=10s");
    let port = hook.port;
    plane.apply(
        &configuration(VALIDATING, &hook, "/deny", &json!({"timeoutSeconds": 10, "failurePolicy": "Fail"}))
            .to_string(),
    );
    eventually("a refusal", || (!create(&plane, "two", &["--dry-run=server"]).ok).then_some(()));
    drop(hook);
    let words = format!("Post \"{url}\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    let refused = eventually("nobody there", || {
        let said = create(&plane, "two", &["--dry-run=server"]);
        said.err.contains("connection refused").then_some(said.err)
    });
    assert!(refused.contains(&words), "{refused}");

    // A certificate of somebody else.
    let hook = Webhook::start(&[], answer);
    let mut other = configuration(VALIDATING, &hook, "/allow", &json!({}));
    other["webhooks"][0]["clientConfig"]["caBundle"] = Webhook::start(&[], answer).ca_bundle.clone().into();
    plane.apply(&other.to_string());
    let refused = eventually("a stranger's certificate", || {
        let said = create(&plane, "two", &["--dry-run=server"]);
        said.err.contains("x509").then_some(said.err)
    });
    assert!(refused.contains("x509: certificate signed by unknown authority"), "{refused}");
}
