//! Create, update, patch: what any kind has in common.

use registry::{Part, Patch};
use serde_json::{Value, json};

use crate::world::{World, config_map, cx, strict};

fn without(mut object: Value, fields: &[&str]) -> Value {
    for field in fields {
        object["metadata"].as_object_mut().unwrap().remove(*field);
    }
    object
}

#[tokio::test]
async fn what_is_created_can_be_read_at_once_and_after_a_restart() {
    let world = World::new().await;
    let created = world.create("configmaps", config_map("a", "1")).await.unwrap();
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"value": "1"},
        "metadata": {"name": "a", "namespace": "default", "creationTimestamp": "2026-11-22T10:00:00Z"},
    });
    assert_eq!(without(created.clone(), &["uid", "resourceVersion", "managedFields"]), expected);
    assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(world.get("configmaps", "a").await.unwrap(), created);
    let again = world.again().await;
    assert_eq!(again.get("configmaps", "a").await.unwrap(), created);
}

#[tokio::test]
async fn refusals_are_in_upstreams_words() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let twice = world.create("configmaps", config_map("a", "2")).await.unwrap_err();
    assert_eq!((twice.code, &*twice.message), (409, "configmaps \"a\" already exists"));
    let absent = world.get("configmaps", "b").await.unwrap_err();
    assert_eq!((absent.code, &*absent.message), (404, "configmaps \"b\" not found"));
    let stale = json!({"metadata": {"name": "a", "resourceVersion": "1"}, "data": {}});
    world.merge("configmaps", "a", json!({"data": {"value": "2"}})).await.unwrap();
    let stale = world.update("configmaps", stale).await.unwrap_err();
    let expected = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                    changes to the latest version and try again";
    assert_eq!((stale.code, &*stale.message), (409, expected));
    let unnamed = world.create("configmaps", json!({"data": {}})).await.unwrap_err();
    let expected =
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    assert_eq!((unnamed.code, &*unnamed.message), (422, expected));
    let key = json!({"metadata": {"name": "c"}, "data": {"a/b": ""}});
    let key = world.create("configmaps", key).await.unwrap_err();
    assert!(
        key.message
            .starts_with("ConfigMap \"c\" is invalid: data[a/b]: Invalid value: \"a/b\": a valid config key")
    );
    let elsewhere = json!({"metadata": {"name": "c", "namespace": "other"}});
    let elsewhere = world.create("configmaps", elsewhere).await.unwrap_err();
    let expected = "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!((elsewhere.code, &*elsewhere.message), (400, expected));
}

#[tokio::test]
async fn unknown_fields_are_dropped_warned_about_or_refused() {
    let world = World::new().await;
    let body = || json!({"metadata": {"name": "a"}, "dta": {"x": "y"}});
    let context = cx();
    let created = world.create_in(&context, "configmaps", "default", body()).await.unwrap();
    assert!(created.get("dta").is_none());
    assert_eq!(context.warnings.take(), ["unknown field \"dta\""]);
    let refused = world.create_in(&strict(), "configmaps", "default", body()).await.unwrap_err();
    let expected = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \
                    \"dta\"";
    assert_eq!((refused.code, &*refused.message), (400, expected));
    let wrong = json!({"metadata": {"name": "b"}, "spec": {"replicas": "three"}});
    let wrong = world.create("deployments.apps", wrong).await.unwrap_err();
    let expected = "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into \
                    Go struct field DeploymentSpec.spec.replicas of type int32";
    assert_eq!((wrong.code, &*wrong.message), (400, expected));
}

#[tokio::test]
async fn names_are_generated() {
    let world = World::new().await;
    let body = json!({"metadata": {"generateName": "job-"}});
    let first = world.create("configmaps", body.clone()).await.unwrap();
    let second = world.create("configmaps", body).await.unwrap();
    for object in [&first, &second] {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("job-") && name.len() == 9, "{name}");
    }
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
    let namespace = world.create("namespaces", json!({"metadata": {"generateName": "team-"}})).await.unwrap();
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], namespace["metadata"]["name"]);
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_none() {
    let world = World::new().await;
    let created = world.create("configmaps", config_map("a", "1")).await.unwrap();
    let same = world.update("configmaps", created.clone()).await.unwrap();
    assert_eq!(same, created);
    let changed = world.merge("configmaps", "a", json!({"data": {"value": "2"}})).await.unwrap();
    assert_ne!(changed["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(changed["metadata"]["uid"], created["metadata"]["uid"]);
}

#[tokio::test]
async fn each_kind_of_patch_does_its_own_thing() {
    let world = World::new().await;
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let operations = json!([{"op": "add", "path": "/data/more", "value": "x"}]);
    let patched = world.patch("configmaps", "a", Part::Whole, Patch::Json(operations)).await.unwrap();
    assert_eq!(patched["data"], json!({"value": "1", "more": "x"}));
    let patched = world.merge("configmaps", "a", json!({"data": {"more": null}})).await.unwrap();
    assert_eq!(patched["data"], json!({"value": "1"}));
    world.create("pods", crate::world::pod("p")).await.unwrap();
    let image = json!({"spec": {"containers": [{"name": "main", "image": "registry.example/app:2"}]}});
    let patched = world.patch("pods", "p", Part::Whole, Patch::Strategic(image)).await.unwrap();
    assert_eq!(patched["spec"]["containers"][0]["image"], "registry.example/app:2");
    assert_eq!(patched["spec"]["containers"][0]["terminationMessagePath"], "/dev/termination-log");
    let named = json!({"metadata": {"resourceVersion": "1"}});
    assert_eq!(world.merge("configmaps", "a", named).await.unwrap_err().code, 409);
}

#[tokio::test]
async fn concurrent_patches_all_count() {
    let world = std::sync::Arc::new(World::new().await);
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    // More than the times that any of them tries: those who lose wait in line.
    let patches = (0..200).map(|index| {
        let world = world.clone();
        tokio::spawn(async move {
            let key = format!("k{index}");
            world.merge("configmaps", "a", json!({"data": {key: "x"}})).await.unwrap();
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        patch.await.unwrap();
    }
    let data = world.get("configmaps", "a").await.unwrap()["data"].as_object().unwrap().len();
    assert_eq!(data, 201);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_behind() {
    let world = World::new().await;
    let dry = registry::RequestContext { dry_run: true, ..cx() };
    let created = world.create_in(&dry, "configmaps", "default", config_map("a", "1")).await.unwrap();
    assert_eq!(created["data"], json!({"value": "1"}));
    assert_eq!(world.get("configmaps", "a").await.unwrap_err().code, 404);
    world.create("configmaps", config_map("a", "1")).await.unwrap();
    let twice = world.create_in(&dry, "configmaps", "default", config_map("a", "1")).await.unwrap_err();
    assert_eq!(twice.code, 409);
}

#[tokio::test]
async fn immutable_things_stay() {
    let world = World::new().await;
    let mut fixed = config_map("a", "1");
    fixed["immutable"] = json!(true);
    world.create("configmaps", fixed).await.unwrap();
    let refused = world.merge("configmaps", "a", json!({"data": {"value": "2"}})).await.unwrap_err();
    let expected = "ConfigMap \"a\" is invalid: data: Forbidden: field is immutable when `immutable` is set";
    assert_eq!(refused.message, expected);
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let created = world.create("secrets", secret).await.unwrap();
    assert_eq!((&created["data"]["k"], &created["type"]), (&json!("dg=="), &json!("Opaque")));
    assert!(created.get("stringData").is_none());
    let refused = world.merge("secrets", "s", json!({"type": "other"})).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Secret \"s\" is invalid: type: Invalid value: \"other\": field is immutable"
    );
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}]});
    let created = world.create("rolebindings.rbac.authorization.k8s.io", binding).await.unwrap();
    assert_eq!(created["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    let change = json!({"roleRef": {"name": "other"}});
    let refused = world.merge("rolebindings.rbac.authorization.k8s.io", "b", change).await.unwrap_err();
    assert!(refused.message.ends_with("cannot change roleRef"), "{}", refused.message);
}

#[tokio::test]
async fn a_lease_needs_a_version_and_is_made_by_put() {
    let world = World::new().await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    let made = world.update("leases.coordination.k8s.io", lease.clone()).await.unwrap();
    let refused = world.update("leases.coordination.k8s.io", lease).await.unwrap_err();
    let expected = "Lease.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
                    specified for an update";
    assert_eq!((refused.code, &*refused.message), (422, expected));
    let mut next = made;
    next["spec"]["holderIdentity"] = json!("b");
    let next = world.update("leases.coordination.k8s.io", next).await.unwrap();
    assert_eq!(next["spec"]["holderIdentity"], "b");
}

#[tokio::test]
async fn fields_behind_a_gate_that_is_shut_are_not_kept() {
    let world = World::new().await;
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "strategy": "OldestEmulationVersion"}});
    let made = world.create("leases.coordination.k8s.io", lease).await.unwrap();
    assert_eq!(made["spec"], json!({"holderIdentity": "a"}));
    let patch = Patch::Merge(json!({"spec": {"preferredHolder": "b", "leaseDurationSeconds": 9}}));
    let changed = world.patch("leases.coordination.k8s.io", "l", Part::Whole, patch).await.unwrap();
    assert_eq!(changed["spec"], json!({"holderIdentity": "a", "leaseDurationSeconds": 9}));
}
