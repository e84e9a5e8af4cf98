//! Who manages which fields, through every way of writing.

use apimachinery::status::Status;
use registry::{Configuration, Part, Patch, RequestContext};
use serde_json::{Value, json};

use crate::world::{World, config_map, cx};

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";

fn by(manager: &str) -> RequestContext {
    RequestContext { field_manager: manager.to_owned(), ..cx() }
}

/// `by manager` an hour later.
fn later(manager: &str) -> RequestContext {
    let cx = by(manager);
    RequestContext { now: cx.now.saturating_add(jiff::SignedDuration::from_hours(1)).unwrap(), ..cx }
}

async fn apply(
    world: &World,
    cx: &RequestContext,
    resource: &str,
    part: Part,
    config: Value,
    force: bool,
) -> Result<(Value, bool), Status> {
    let kind = world.kind(resource);
    let namespace = if kind.namespaced { "default" } else { "" };
    let name = config["metadata"]["name"].as_str().unwrap().to_owned();
    let configuration = Configuration { config, force };
    let done = world.registry.apply(cx, &kind, namespace, &name, part, &configuration).await?;
    Ok((done.object.tree(), done.created))
}

/// `manager operation subresource`, each with its fields.
fn managers(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("manager"), text("operation"), text("subresource")).trim().to_owned()
    };
    entries.iter().map(|entry| (name(entry), entry["fieldsV1"].clone())).collect()
}

fn of(object: &Value, manager: &str) -> Value {
    let all = managers(object);
    let found = all.iter().find(|(name, _)| name == manager);
    found.unwrap_or_else(|| panic!("no {manager} in {all:?}")).1.clone()
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn web(image: &str) -> Value {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
    deployment(json!({"selector": {"matchLabels": {"a": "b"}}, "template": template}))
}

#[tokio::test]
async fn writes_give_their_manager_what_they_change() {
    let world = World::new().await;
    let created = world.create_in(&by("ada"), "configmaps", "default", config_map("a", "1")).await.unwrap();
    let expected = json!([{"apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "ada", "operation": "Update",
        "time": "2026-11-22T10:00:00Z", "fieldsV1": {"f:data": {".": {}, "f:value": {}}}}]);
    assert_eq!(created["metadata"]["managedFields"], expected);
    assert_eq!(world.get("configmaps", "a").await.unwrap(), created);

    let kind = world.kind("configmaps");
    let patch = |cx: RequestContext, patch: Patch| {
        let (registry, kind) = (world.registry.clone(), kind.clone());
        async move { registry.patch(&cx, &kind, "default", "a", Part::Whole, &patch).await.unwrap().object.tree() }
    };
    let patched = patch(later("bob"), Patch::Merge(json!({"data": {"value": "2", "x": "y"}}))).await;
    assert_eq!(
        managers(&patched),
        [
            ("ada Update".to_owned(), json!({"f:data": {}})),
            ("bob Update".to_owned(), json!({"f:data": {"f:value": {}, "f:x": {}}}))
        ]
    );
    // What changes nothing is no change, whoever says it.
    let same = patch(later("cyd"), Patch::Merge(json!({"data": {"value": "2"}}))).await;
    assert_eq!(same, patched);

    // A client that does not know of managers does not take them away; one that wants to can.
    let mut body = config_map("a", "3");
    body["data"]["x"] = "y".into();
    let put =
        world.registry.update(&later("cyd"), &kind, "default", "a", Part::Whole, body.clone()).await.unwrap();
    let put = put.object.tree();
    assert_eq!(of(&put, "cyd Update"), json!({"f:data": {"f:value": {}}}));
    assert_eq!(of(&put, "bob Update"), json!({"f:data": {"f:x": {}}}));
    // Who writes managers down by hand is believed, if they can be; those of versions that are not served go.
    let entry = |manager: &str, version: &str| {
        json!({"manager": manager, "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {"f:x": {}}}})
    };
    let given = json!([entry("dan", "v1"), entry("eve", "v9")]);
    let given = Patch::Json(json!([{"op": "replace", "path": "/metadata/managedFields", "value": given}]));
    let named = patch(by("ada"), given).await;
    assert_eq!(managers(&named).len(), 2);
    let named = patch(by("fay"), Patch::Merge(json!({"data": {"value": "5"}}))).await;
    let names: Vec<String> = managers(&named).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dan Update", "fay Update"]);
    let long = json!([entry(&"m".repeat(129), "v1")]);
    let long = Patch::Json(json!([{"op": "replace", "path": "/metadata/managedFields", "value": long}]));
    let refused =
        world.registry.patch(&by("ada"), &kind, "default", "a", Part::Whole, &long).await.unwrap_err();
    assert!(refused.message.contains("metadata.managedFields[0].manager: Too long"), "{refused}");
    let reset = patch(
        by("ada"),
        Patch::Json(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])),
    )
    .await;
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let untracked = patch(by("ada"), Patch::Merge(json!({"data": {"value": "4"}}))).await;
    assert_eq!(untracked["metadata"].get("managedFields"), None, "nobody is tracked before somebody applies");
}

#[tokio::test]
async fn each_part_is_managed_by_itself() {
    let world = World::new().await;
    world.create_in(&by("ada"), "deployments.apps", "default", web("1")).await.unwrap();
    let kind = world.kind("deployments.apps");
    let status = Patch::Merge(json!({"status": {"replicas": 1}, "spec": {"replicas": 7}}));
    let patched =
        world.registry.patch(&by("ctl"), &kind, "default", "web", Part::Status, &status).await.unwrap();
    let patched = patched.object.tree();
    assert_eq!(of(&patched, "ctl Update status"), json!({"f:status": {"f:replicas": {}}}));
    assert_eq!(patched["spec"]["replicas"], 1);
    assert!(of(&patched, "ada Update")["f:spec"].get("f:replicas").is_some());

    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    world.registry.patch(&by("bob"), &kind, "default", "web", Part::Scale, &scale).await.unwrap();
    let scaled = world.get("deployments.apps", "web").await.unwrap();
    assert_eq!(of(&scaled, "bob Update scale"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(of(&scaled, "ada Update")["f:spec"].get("f:replicas").is_none());

    let config = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}});
    let refused =
        apply(&world, &by("hpa"), "deployments.apps", Part::Scale, config.clone(), false).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"bob\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let (scale, _) = apply(&world, &by("hpa"), "deployments.apps", Part::Scale, config, true).await.unwrap();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(4)));
    assert_eq!(managers(&scale), [("hpa Apply scale".to_owned(), json!({"f:spec": {"f:replicas": {}}}))]);
    assert_eq!(scale["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v1");
    let scaled = world.get("deployments.apps", "web").await.unwrap();
    assert_eq!(of(&scaled, "hpa Apply scale"), json!({"f:spec": {"f:replicas": {}}}));

    // Binding says nothing of who manages the pod's fields.
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = world.create_in(&by("ada"), "pods", "default", pod).await.unwrap();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    world.registry.bind(&by("sched"), "default", "p", binding).await.unwrap();
    let bound = world.get("pods", "p").await.unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(managers(&bound), managers(&pod));
}

#[tokio::test]
async fn applies_create_merge_and_remove() {
    let world = World::new().await;
    let deployments = "deployments.apps";
    let (made, created) = apply(&world, &by("ada"), deployments, Part::Whole, web("1"), false).await.unwrap();
    assert!(created && made["spec"]["replicas"] == 1, "defaults are filled in: {made}");
    let owned = of(&made, "ada Apply");
    assert!(owned["f:spec"].get("f:replicas").is_none(), "but are nobody's: {owned}");
    assert_eq!(made["metadata"]["managedFields"].as_array().unwrap().len(), 1);

    // The same again changes nothing, not even the time.
    let (same, created) =
        apply(&world, &later("ada"), deployments, Part::Whole, web("1"), false).await.unwrap();
    assert!(!created);
    assert_eq!(same, made);

    let more = deployment(
        json!({"replicas": 2, "template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}),
    );
    let (merged, _) =
        apply(&world, &later("bob"), deployments, Part::Whole, more.clone(), false).await.unwrap();
    let images = |object: &Value| -> Vec<Value> {
        let containers = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        containers.iter().map(|each| each["image"].clone()).collect()
    };
    assert_eq!(images(&merged), ["1", "s"]);
    assert_eq!(merged["metadata"]["generation"], 2);

    let mut conflicting = web("2");
    conflicting["spec"]["replicas"] = json!(5);
    let refused =
        apply(&world, &by("cyd"), deployments, Part::Whole, conflicting.clone(), false).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    let causes = &refused.details.as_ref().unwrap().causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"ada\":\n- .spec.template.spec.containers[name=\"c\"].image\n\
         conflicts with \"bob\":\n- .spec.replicas"
    );
    let (forced, _) = apply(&world, &by("cyd"), deployments, Part::Whole, conflicting, true).await.unwrap();
    assert_eq!((images(&forced), &forced["spec"]["replicas"]), (vec![json!("2"), json!("s")], &json!(5)));

    // What bob applies no more goes, but not what others have.
    let less = deployment(json!({}));
    let (left, _) = apply(&world, &by("bob"), deployments, Part::Whole, less, false).await.unwrap();
    assert_eq!((images(&left), &left["spec"]["replicas"]), (vec![json!("2")], &json!(5)));
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused() {
    let world = World::new().await;
    let ask = async |config: Value| {
        let refused =
            apply(&world, &by("ada"), "deployments.apps", Part::Whole, config, false).await.unwrap_err();
        (refused.code, refused.message)
    };
    let mut other = web("1");
    other["kind"] = "Pod".into();
    assert_eq!(ask(other).await, (400, "invalid object type: apps/v1, Kind=Pod".into()));
    let mut managed = web("1");
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(ask(managed).await, (400, "metadata.managedFields must be nil".into()));
    let mut unknown = web("1");
    unknown["spec"]["nothing"] = 1.into();
    let why = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.nothing: field not declared in schema";
    assert_eq!(ask(unknown).await, (500, why.into()));
    let mut with_uid = web("1");
    with_uid["metadata"]["uid"] = "u".into();
    assert_eq!(ask(with_uid).await.0, 409);
    let (code, message) = ask(deployment(json!({"replicas": 1}))).await;
    assert_eq!(code, 422, "what is made of a configuration must be valid: {message}");
    let missing = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "none"}, "status": {"replicas": 1}});
    let refused =
        apply(&world, &by("ada"), "deployments.apps", Part::Status, missing, false).await.unwrap_err();
    assert_eq!(refused.code, 404, "a part makes no object");

    apply(&world, &by("ada"), "deployments.apps", Part::Whole, web("1"), false).await.unwrap();
    let mut stale = web("2");
    stale["metadata"]["resourceVersion"] = "777".into();
    assert_eq!(ask(stale).await.0, 409);
    let dry = RequestContext { dry_run: true, ..by("ada") };
    let (shown, _) = apply(&world, &dry, "deployments.apps", Part::Whole, web("3"), false).await.unwrap();
    assert_eq!(shown["spec"]["template"]["spec"]["containers"][0]["image"], "3");
    let kept = world.get("deployments.apps", "web").await.unwrap();
    assert_eq!(kept["spec"]["template"]["spec"]["containers"][0]["image"], "1");
}

#[tokio::test]
async fn custom_objects_are_managed_by_their_definition() {
    let world = World::new().await;
    let rule = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "to": {"type": "string"}}});
    let spec = json!({"type": "object", "properties": {
        "rules": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": rule},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "plain": {"type": "array", "items": {"type": "string"}}}});
    let crd = json!({"metadata": {"name": "routes.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "routes", "kind": "Route"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]}});
    world.create(CRDS, crd).await.unwrap();
    crate::world::until(async || world.registry.kinds().lookup("example.com", "v1", "routes").is_some())
        .await;
    crate::world::until(async || {
        let stored = world.get(CRDS, "routes.example.com").await.unwrap();
        managers(&stored).iter().any(|(name, _)| name == "kube-apiserver Update status")
    })
    .await;

    let route = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Route", "metadata": {"name": "r"}, "spec": spec});
    let routes = "routes.example.com";
    let first = route(json!({"rules": [{"name": "a", "to": "x"}], "free": {"p": {"q": 1}}, "plain": ["1"]}));
    let (made, _) = apply(&world, &by("ada"), routes, Part::Whole, first, false).await.unwrap();
    let expected = json!({"f:spec": {"f:free": {"f:p": {".": {}, "f:q": {}}}, "f:plain": {},
        "f:rules": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:to": {}}}}});
    assert_eq!(of(&made, "ada Apply"), expected);
    let second = route(json!({"rules": [{"name": "b", "to": "y"}], "free": {"p": {"r": 2}}}));
    let (merged, _) = apply(&world, &by("bob"), routes, Part::Whole, second, false).await.unwrap();
    assert_eq!(merged["spec"]["rules"], json!([{"name": "a", "to": "x"}, {"name": "b", "to": "y"}]));
    assert_eq!(merged["spec"]["free"], json!({"p": {"q": 1, "r": 2}}));
    let third = route(json!({"plain": ["1"]}));
    let (left, _) = apply(&world, &by("ada"), routes, Part::Whole, third, false).await.unwrap();
    assert_eq!(
        left["spec"],
        json!({"rules": [{"name": "b", "to": "y"}], "free": {"p": {"r": 2}}, "plain": ["1"]})
    );
    let conflict = route(json!({"plain": ["2"]}));
    let refused = apply(&world, &by("bob"), routes, Part::Whole, conflict, false).await.unwrap_err();
    assert_eq!(refused.message, "Apply failed with 1 conflict: conflict with \"ada\": .spec.plain");

    // Custom kinds have nothing before they are written, so who creates one owns its whole.
    let spec = json!({"metadata": {"name": "s"}, "spec": {"plain": []}});
    let made = world.create_in(&by("cyd"), routes, "default", spec).await.unwrap();
    assert_eq!(of(&made, "cyd Update"), json!({"f:spec": {".": {}, "f:plain": {}}}));
}
