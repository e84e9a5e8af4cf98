//! What becomes of what webhooks answer.

use admission::Operation;
use admission::webhook::Configured;
use serde_json::{Value, json};

use crate::world::{Write, allow, at, deny, fixed, grow, label, named, patch, widget};

#[tokio::test]
async fn those_that_change_follow_one_another_and_may_see_more() {
    let first = |policy: &str| at("label", json!({"name": "l.example.com", "reinvocationPolicy": policy}));
    let second = || at("grow", json!({"name": "g.example.com"}));
    let write = Write::with(&[label(), grow()]);
    let write = write.set(Configured::Mutating, "b", &[second()]).set(
        Configured::Mutating,
        "a",
        &[first("IfNeeded")],
    );
    let changed = write.run(widget()).await.unwrap();
    assert_eq!(
        write.asked(),
        ["label", "grow", "label"],
        "by the names of the configurations, and once more"
    );
    assert_eq!((&changed["size"], &changed["metadata"]["labels"]["seen"]), (&json!(2), &json!("yes")));
    assert_eq!(changed["metadata"]["annotations"]["times"], 2, "plugins see what webhooks changed");

    let write = Write::with(&[label(), grow()]);
    let write =
        write.set(Configured::Mutating, "b", &[second()]).set(Configured::Mutating, "a", &[first("Never")]);
    write.run(widget()).await.unwrap();
    assert_eq!(write.asked(), ["label", "grow"]);

    // What the server's own plugins do the second time is a change, too.
    let write = Write::with(&[label()]).set(Configured::Mutating, "a", &[first("IfNeeded")]);
    write.run(widget()).await.unwrap();
    assert_eq!(write.asked(), ["label", "label"]);
}

#[tokio::test]
async fn what_a_patch_makes_is_brought_into_form() {
    let patched = async |operations: Value, more: Value| {
        let write = Write::with(&[fixed("fixed", patch(&operations))]);
        write.set(Configured::Mutating, "c", &[at("fixed", more)]).run(widget()).await
    };
    let added = json!([{"op": "add", "path": "/unknown", "value": 1}, {"op": "add", "path": "/metadata/x", "value": 1}]);
    let changed = patched(added, json!({})).await.unwrap();
    assert!(changed.get("unknown").is_none());
    for (operations, message) in [
        (json!([{"op": "replace", "path": "/size", "value": "big"}]), "size is of the wrong type"),
        (
            json!([{"op": "replace", "path": "/a/b", "value": 1}]),
            "replace operation does not apply: doc is missing path: /a/b: missing value",
        ),
        (
            json!([{"op": "replace", "path": "", "value": 1}]),
            "couldn't get version/kind: the patched object is no object",
        ),
    ] {
        // Whatever its failure policy: the webhook was heard, and said something wrong.
        let refused = patched(operations, json!({"failurePolicy": "Ignore"})).await.unwrap_err();
        assert_eq!(refused, format!("500 InternalError Internal error occurred: {message}"));
    }
    let refused = patched(json!({"op": "add"}), json!({})).await.unwrap_err();
    assert!(
        refused.contains("failed calling webhook \"w.example.com\": received undecodable patch"),
        "{refused}"
    );
}

#[tokio::test]
async fn who_manages_what_stays_readable() {
    let managers = json!([{"manager": "kubectl", "operation": "Update", "apiVersion": "example.com/v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:size": {}}}]);
    let mut object = widget();
    object["metadata"]["managedFields"] = managers.clone();
    let patched = async |value: Value| {
        let operations = json!([{"op": "replace", "path": "/metadata/managedFields", "value": value}]);
        let write = Write::with(&[fixed("fixed", patch(&operations))]);
        let write = write.set(Configured::Mutating, "c", &[at("fixed", json!({}))]);
        let changed = write.run(object.clone()).await.unwrap();
        (changed["metadata"]["managedFields"].clone(), write.warnings.take())
    };
    let (kept, warnings) = patched(json!([{"operation": "Nonsense"}])).await;
    assert_eq!(kept, managers);
    assert!(
        warnings[0].starts_with(".metadata.managedFields was in an invalid state after admission;"),
        "{warnings:?}"
    );
    let (cleared, warnings) = patched(json!([])).await;
    assert_eq!((cleared, warnings.len()), (json!([]), 0));
}

#[tokio::test]
async fn deletions_may_be_refused_by_both_and_changed_by_none() {
    let delete = |write: Write| Write { operation: Operation::Delete, old: Some(widget()), ..write };
    let write = Write::with(&[deny(), allow()]).set(Configured::Mutating, "c", &[json!({})]).set(
        Configured::Validating,
        "c",
        &[at("deny", json!({}))],
    );
    let write = delete(write);
    let refused = write.run(Value::Null).await.unwrap_err();
    assert_eq!(refused, "403  admission webhook \"w.example.com\" denied the request: too big");
    for (_, review, _) in write.servers.heard.lock().unwrap().iter() {
        assert_eq!(
            (&review["request"]["object"], &review["request"]["oldObject"]),
            (&Value::Null, &widget())
        );
    }
    assert_eq!(write.asked(), ["allow", "deny"]);
    let operations = json!([{"op": "add", "path": "/x", "value": 1}]);
    let write = Write::with(&[fixed("fixed", patch(&operations))]);
    let write = delete(write.set(Configured::Mutating, "c", &[at("fixed", json!({}))]));
    assert_eq!(
        write.run(Value::Null).await.unwrap_err(),
        "500 InternalError Internal error occurred: admission webhook \"w.example.com\" attempted to modify the object, \
         which is not supported for this operation"
    );
}

#[tokio::test]
async fn refusals_are_told_as_upstream_tells_them() {
    for (status, expected) in [
        (json!(null), "400  admission webhook \"w.example.com\" denied the request without explanation"),
        (
            json!({"code": 200, "status": "Success"}),
            "400  admission webhook \"w.example.com\" denied the request without explanation",
        ),
        (
            json!({"reason": "Forbidden", "code": 403}),
            "403 Forbidden admission webhook \"w.example.com\" denied the request: Forbidden",
        ),
        (
            json!({"reason": "Odd", "message": "no"}),
            "400  admission webhook \"w.example.com\" denied the request: no",
        ),
    ] {
        let answer =
            json!({"allowed": false, "status": status, "warnings": ["mind"], "auditAnnotations": {"k": "v"}});
        let write = Write::with(&[fixed("fixed", answer)]);
        let write =
            write.set(Configured::Validating, "c", &[at("fixed", json!({"failurePolicy": "Ignore"}))]);
        assert_eq!(write.run(widget()).await.unwrap_err(), expected);
        assert_eq!(write.warnings.take(), ["mind"]);
    }
}

#[tokio::test]
async fn of_those_that_judge_all_are_asked_and_the_first_refusal_counts() {
    let write = Write::with(&[deny(), allow()]).set(
        Configured::Validating,
        "c",
        &[at("allow", json!({})), at("down", json!({"name": "d.example.com"})), at("deny", json!({}))],
    );
    let refused = write.run(widget()).await.unwrap_err();
    assert_eq!(
        refused,
        "500 InternalError Internal error occurred: failed calling webhook \"d.example.com\": failed to call webhook: \
         Post \"down\": connection refused"
    );
    assert_eq!(write.asked(), ["allow", "down", "deny"]);
}

#[tokio::test]
async fn what_is_not_heard_follows_the_policy() {
    let whole = |response: Value| json!({"response": response});
    let v1 = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    for (answer, why) in [
        (
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": null}),
            "received invalid webhook response: webhook response was absent",
        ),
        (
            v1(json!({"uid": "other", "allowed": true})),
            "received invalid webhook response: expected response.uid=\"",
        ),
        (
            whole(json!({"uid": "UID", "allowed": true})),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
        ),
        (
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": {}}),
            "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion",
        ),
        (v1(json!({"uid": "UID", "allowed": "yes"})), "failed to call webhook: allowed is of the wrong type"),
        (
            v1(json!({"uid": "UID", "allowed": true, "patch": "%"})),
            "failed to call webhook: patch is of the wrong type",
        ),
        (
            v1(json!({"uid": "UID", "allowed": true, "patch": "W10="})),
            "received invalid webhook response: webhook returned response.patch but not response.patchType",
        ),
        (
            v1(json!({"uid": "UID", "allowed": true, "patchType": "JSONPatch"})),
            "received invalid webhook response: webhook returned response.patchType but not response.patch",
        ),
        (
            v1(json!({"uid": "UID", "allowed": true, "patchType": "Merge", "patch": "W3t9XQ=="})),
            "unsupported patch type \"Merge\"",
        ),
    ] {
        let said = named("odd", move |request| {
            let mut answer = answer.clone();
            if answer["response"]["uid"] == "UID" {
                answer["response"]["uid"] = request["uid"].clone();
            }
            Ok(answer)
        });
        let run = async |policy: &str| {
            let write = Write::with(std::slice::from_ref(&said));
            let odd = at("odd", json!({"failurePolicy": policy}));
            write.set(Configured::Mutating, "c", &[odd]).run(widget()).await
        };
        run("Ignore").await.unwrap();
        let refused = run("Fail").await.unwrap_err();
        let expected = format!(
            "500 InternalError Internal error occurred: failed calling webhook \"w.example.com\": {why}"
        );
        assert!(refused.starts_with(&expected), "{refused}\n{expected}");
    }
}

#[tokio::test]
async fn who_judges_may_not_change_and_the_older_version_is_forgiving() {
    let answer =
        || fixed("fixed", patch(&json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}])));
    let run = async |configured, versions: &[&str]| {
        let write = Write::with(&[answer()]);
        let webhook = at("fixed", json!({"admissionReviewVersions": versions}));
        write.set(configured, "c", &[webhook]).run(widget()).await
    };
    let refused = run(Configured::Validating, &["v1"]).await.unwrap_err();
    assert!(refused.ends_with("validating webhook may not return response.patch"), "{refused}");
    run(Configured::Validating, &["v0", "v1beta1", "v1"]).await.unwrap();
    assert_eq!(run(Configured::Mutating, &["v1beta1"]).await.unwrap()["metadata"]["labels"]["x"], "y");
    let refused = run(Configured::Mutating, &["v0"]).await.unwrap_err();
    assert!(
        refused.contains("webhook does not accept known AdmissionReview versions (v1, v1beta1)"),
        "{refused}"
    );
}
