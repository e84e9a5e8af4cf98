//! Custom resources: from the definition to the last object.

use std::sync::Arc;
use std::time::Duration;

use clock::{Clock, ManualClock};
use registry::{DeleteOptions, ListOptions, Options, Part, Patch};
use serde_json::{Value, json};

use crate::world::{World, cx, names, now, options, strict, until};

fn definition() -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "colour": {"type": "string", "default": "red", "enum": ["red", "blue"]},
                        "replicas": {"type": "integer"},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"},
                        "conditions": {"type": "array", "items": {"type": "object", "properties": {
                            "type": {"type": "string"}, "status": {"type": "string"},
                        }}},
                    }},
                }}},
                "subresources": {"status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "selectableFields": [{"jsonPath": ".spec.colour"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
            }],
        },
    })
}

async fn established(world: &World) {
    establish(world, definition()).await;
}

async fn establish(world: &World, definition: Value) {
    world.create("customresourcedefinitions.apiextensions.k8s.io", definition).await.unwrap();
    until(async || {
        let crd =
            world.get("customresourcedefinitions.apiextensions.k8s.io", "widgets.example.com").await.unwrap();
        let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
    })
    .await;
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

const WIDGETS: &str = "widgets.example.com";
const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

#[tokio::test]
async fn a_definition_is_served_once_it_is_established() {
    let world = World::new().await;
    let mut changes = world.registry.kinds_changed();
    let before = world.registry.kinds().generation();
    established(&world).await;
    changes.changed().await.unwrap();
    assert!(world.registry.kinds().generation() > before);
    let crd = world.get(DEFINITIONS, WIDGETS).await.unwrap();
    assert_eq!(crd["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    let kind = world.kind(WIDGETS);
    assert_eq!((kind.singular.as_str(), kind.short_names.as_slice()), ("widget", &["wd".to_owned()][..]));
    let made = world.create(WIDGETS, widget("a", json!({"size": 2}))).await.unwrap();
    assert_eq!(made["spec"], json!({"size": 2, "colour": "red"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let again = world.again().await;
    assert_eq!(again.get(WIDGETS, "a").await.unwrap(), made);
}

#[tokio::test]
async fn objects_keep_to_their_schema() {
    let world = World::new().await;
    established(&world).await;
    let refused =
        world.create(WIDGETS, widget("a", json!({"size": 0, "colour": "green"}))).await.unwrap_err();
    assert_eq!(refused.code, 422);
    assert!(refused.message.starts_with("Widget.example.com \"a\" is invalid: ["), "{}", refused.message);
    assert!(refused.message.contains("spec.size: Invalid value: 0"), "{}", refused.message);
    assert!(refused.message.contains("spec.colour: Unsupported value: \"green\""), "{}", refused.message);
    let refused = world.create(WIDGETS, widget("a", json!({}))).await.unwrap_err();
    assert!(refused.message.ends_with("spec.size: Required value"), "{}", refused.message);
    let more = widget("a", json!({"size": 1, "more": {"x": 1}}));
    let refused = world.create_in(&strict(), WIDGETS, "default", more.clone()).await.unwrap_err();
    assert!(refused.message.contains("unknown field \"spec.more\""), "{}", refused.message);
    let pruned = world.create(WIDGETS, more).await.unwrap();
    assert_eq!(pruned["spec"], json!({"size": 1, "colour": "red"}));
    let strategic = Patch::Strategic(json!({"spec": {"size": 2}}));
    assert_eq!(world.patch(WIDGETS, "a", Part::Whole, strategic).await.unwrap_err().code, 415);
}

#[tokio::test]
async fn status_scale_columns_and_selectors_work_as_for_any_kind() {
    let world = World::new().await;
    established(&world).await;
    let mut made = world.create(WIDGETS, widget("a", json!({"size": 2, "replicas": 1}))).await.unwrap();
    made["status"] = json!({"replicas": 1, "conditions": [{"type": "Ready", "status": "True"}]});
    made["spec"]["size"] = json!(9);
    let status = world.update_part(WIDGETS, Part::Status, made).await.unwrap();
    assert_eq!((&status["spec"]["size"], &status["metadata"]["generation"]), (&json!(2), &json!(1)));
    assert_eq!(
        world.row(WIDGETS, "a").await,
        json!({"Name": "a", "Size": 2, "Ready": "True", "Age": "2m30s"})
    );
    let scaled =
        world.patch(WIDGETS, "a", Part::Scale, Patch::Merge(json!({"spec": {"replicas": 3}}))).await.unwrap();
    assert_eq!((&scaled["spec"]["replicas"], &scaled["status"]["replicas"]), (&json!(3), &json!(1)));
    assert_eq!(world.get(WIDGETS, "a").await.unwrap()["metadata"]["generation"], 2);
    world.create(WIDGETS, widget("b", json!({"size": 1, "colour": "blue"}))).await.unwrap();
    let blue = ListOptions { field_selector: "spec.colour=blue".into(), ..ListOptions::default() };
    let list = world.list(WIDGETS, blue).await.unwrap();
    assert_eq!(names(list.objects()), ["b"]);
    let tree: Value = serde_json::from_slice(&list.to_bytes()).unwrap();
    assert_eq!((&tree["kind"], &tree["items"][0]["kind"]), (&json!("WidgetList"), &json!("Widget")));
}

#[tokio::test]
async fn versions_show_the_same_objects() {
    let world = World::new().await;
    established(&world).await;
    world.create(WIDGETS, widget("a", json!({"size": 2}))).await.unwrap();
    let mut next = definition()["spec"]["versions"][0].clone();
    next["name"] = json!("v1beta1");
    next["storage"] = json!(false);
    next["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        .as_object_mut()
        .unwrap()
        .remove("colour");
    next["selectableFields"] = json!([]);
    let versions = json!({"spec": {"versions": [definition()["spec"]["versions"][0], next]}});
    world.merge(DEFINITIONS, WIDGETS, versions).await.unwrap();
    until(async || world.registry.kinds().lookup("example.com", "v1beta1", "widgets").is_some()).await;
    let old = world.get("widgets.example.com@v1beta1", "a").await.unwrap();
    assert_eq!((&old["apiVersion"], &old["spec"]), (&json!("example.com/v1beta1"), &json!({"size": 2})));
    let group: Vec<String> = world
        .registry
        .kinds()
        .groups()
        .iter()
        .find(|group| group.name == "example.com")
        .unwrap()
        .versions
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(group, ["v1", "v1beta1"]);
}

#[tokio::test]
async fn deleting_a_definition_deletes_its_objects_first() {
    let world = World::new().await;
    established(&world).await;
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create(WIDGETS, held).await.unwrap();
    world.create(WIDGETS, widget("free", json!({"size": 1}))).await.unwrap();
    let mut watch = world.watch(WIDGETS, ListOptions::default()).await.unwrap();
    let kind = world.kind(DEFINITIONS);
    let deleted = world.registry.delete(&cx(), &kind, "", WIDGETS, &DeleteOptions::default()).await.unwrap();
    assert!(!deleted.gone);
    until(async || world.get(WIDGETS, "free").await.is_err()).await;
    let refused = world.create(WIDGETS, widget("late", json!({"size": 1}))).await.unwrap_err();
    assert_eq!(refused.code, 405);
    world.merge(WIDGETS, "held", json!({"metadata": {"finalizers": null}})).await.unwrap();
    until(async || world.registry.kinds().lookup("example.com", "v1", "widgets").is_none()).await;
    assert_eq!(world.get(DEFINITIONS, WIDGETS).await.unwrap_err().code, 404);
    while watch.next().await.is_some() {}
    established(&world).await;
    assert!(world.list(WIDGETS, ListOptions::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn names_that_are_taken_are_not_accepted() {
    let world = World::new().await;
    established(&world).await;
    let mut other = definition();
    other["metadata"]["name"] = json!("others.example.com");
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["wd"]});
    world.create(DEFINITIONS, other).await.unwrap();
    let condition = async || {
        let crd = world.get(DEFINITIONS, "others.example.com").await.unwrap();
        crd["status"]["conditions"][0].clone()
    };
    until(async || condition().await["type"] == "NamesAccepted").await;
    let found = condition().await;
    assert_eq!((&found["status"], &found["reason"]), (&json!("False"), &json!("ShortNamesConflict")));
    assert!(world.registry.kinds().lookup("example.com", "v1", "others").is_none());
    world
        .registry
        .delete(&cx(), &world.kind(DEFINITIONS), "", WIDGETS, &DeleteOptions::default())
        .await
        .unwrap();
    until(async || world.registry.kinds().lookup("example.com", "v1", "others").is_some()).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_definition_is_named() {
    let world = World::new().await;
    let check = async |pointer: &str, value: Value, expected: &str| {
        let mut crd = definition();
        *crd.pointer_mut(pointer).unwrap() = value;
        let refused = world.create(DEFINITIONS, crd).await.unwrap_err();
        assert!(refused.message.contains(expected), "{pointer}: {}", refused.message);
    };
    check(
        "/metadata/name",
        json!("x"),
        "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
    )
    .await;
    check("/spec/scope", json!("Odd"), "spec.scope: Unsupported value: \"Odd\"").await;
    check(
        "/spec/versions/0/storage",
        json!(false),
        "must have exactly one version marked as storage version",
    )
    .await;
    check(
        "/spec/versions/0/schema",
        json!({}),
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
    )
    .await;
    let column = json!({"name": "X", "type": "text", "jsonPath": ".spec"});
    check("/spec/versions/0/additionalPrinterColumns/0", column, "additionalPrinterColumns[0].type").await;
    check(
        "/spec/versions/0/subresources/scale/specReplicasPath",
        json!(".status.x"),
        "should be a json path under .spec",
    )
    .await;
    for (path, why) in [
        (".spec.nothing", "is an invalid path: does not refer to a valid field"),
        (".spec", "must point to a field of type string, boolean or integer."),
        ("spec.colour", "is an invalid path"),
    ] {
        let expected = format!("spec.selectableFields[0].jsonPath: Invalid value: \"{path}\": {why}");
        check("/spec/versions/0/selectableFields/0/jsonPath", json!(path), &expected).await;
    }
    let twice = json!([{"jsonPath": ".spec.colour"}, {"jsonPath": ".spec.colour"}]);
    check("/spec/versions/0/selectableFields", twice, "selectableFields[1].jsonPath: Duplicate value").await;
    let column = json!({"name": "X", "type": "string", "jsonPath": "spec.x", "format": "odd"});
    check("/spec/versions/0/additionalPrinterColumns/0", column, "[0].JSONPath: Invalid value: \"spec.x\"")
        .await;
    let root = json!({"type": "object", "minProperties": 1, "properties": {"spec": {"type": "object", "properties": {"colour": {"type": "string"}}}}});
    let why = "fields are allowed at the root of the schema if the status subresource is enabled";
    check("/spec/versions/0/schema/openAPIV3Schema", root, why).await;
    let mut version = definition()["spec"]["versions"][0].clone();
    version["deprecationWarning"] = json!("old");
    check("/spec/versions/0", version, "deprecationWarning: Invalid value: \"old\": can only be set for")
        .await;
}

#[tokio::test]
async fn what_could_not_be_read_back_is_not_stored() {
    let world = World::new().await;
    let mut open = definition();
    let spec = &mut open["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["x-kubernetes-preserve-unknown-fields"] = json!(true);
    establish(&world, open).await;
    // Two levels are around what is nested here.
    let nested = |levels: usize| {
        let inner = (0..levels).fold(json!(0), |inner, _| json!([inner]));
        widget("a", json!({"size": 1, "deep": inner}))
    };
    let most = apimachinery::json::MAX_DEPTH - 2;
    let error = world.create(WIDGETS, nested(most + 1)).await.unwrap_err();
    let expected = "the object is nested deeper than 120 levels";
    assert_eq!((error.code, &*error.message), (400, expected));
    let stored = world.create(WIDGETS, nested(most)).await.unwrap();
    // Who manages what would lie deeper still, or take too much room, and is left out.
    let inner = (0..most).fold(json!(0), |inner, _| json!({ "in": inner }));
    let deep = world.create(WIDGETS, widget("b", json!({"size": 1, "deep": inner}))).await.unwrap();
    assert_eq!(deep["metadata"].get("managedFields"), None);
    assert!(stored["metadata"]["managedFields"].is_array());
    let wide: serde_json::Map<String, Value> = (0..80_000).map(|at| (format!("k{at}"), json!(0))).collect();
    let wide = world.create(WIDGETS, widget("c", json!({"size": 1, "deep": wide}))).await.unwrap();
    assert_eq!(wide["metadata"].get("managedFields"), None);
    let again = world.again().await;
    assert_eq!(again.get(WIDGETS, "a").await.unwrap(), stored);
    let deeper = Patch::Merge(json!({"spec": {"deep": nested(most + 1)["spec"]["deep"]}}));
    let error = again.patch(WIDGETS, "a", Part::Whole, deeper).await.unwrap_err();
    assert_eq!((error.code, &*error.message), (400, expected));
}

#[tokio::test]
async fn without_a_status_of_its_own_every_change_is_a_new_generation() {
    let world = World::new().await;
    let mut plain = definition();
    plain["spec"]["versions"][0]["subresources"] = json!({});
    world.create(DEFINITIONS, plain).await.unwrap();
    until(async || world.registry.kinds().lookup("example.com", "v1", "widgets").is_some()).await;
    world.create(WIDGETS, widget("a", json!({"size": 1}))).await.unwrap();
    let changed = world.merge(WIDGETS, "a", json!({"status": {"replicas": 1}})).await.unwrap();
    assert_eq!((&changed["status"]["replicas"], &changed["metadata"]["generation"]), (&json!(1), &json!(2)));
    let labelled = world.merge(WIDGETS, "a", json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    assert_eq!(labelled["metadata"]["generation"], 2);
}

async fn delete_definition(world: &World, name: &str) {
    let kind = world.kind(DEFINITIONS);
    world.registry.delete(&cx(), &kind, "", name, &DeleteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_definition_that_serves_no_version_goes_with_its_objects() {
    let world = World::new().await;
    established(&world).await;
    world.create(WIDGETS, widget("a", json!({"size": 1}))).await.unwrap();
    let mut versions = definition()["spec"]["versions"].clone();
    versions[0]["served"] = json!(false);
    world.merge(DEFINITIONS, WIDGETS, json!({"spec": {"versions": versions}})).await.unwrap();
    until(async || world.registry.kinds().lookup("example.com", "v1", "widgets").is_none()).await;
    delete_definition(&world, WIDGETS).await;
    until(async || world.get(DEFINITIONS, WIDGETS).await.is_err()).await;
    established(&world).await;
    assert!(world.list(WIDGETS, ListOptions::default()).await.unwrap().is_empty());
}

/// Nothing is going to happen soon on this clock: the next is the feed's own tick.
fn is_at_rest(clock: &ManualClock) -> bool {
    clock.next_deadline().is_some_and(|next| next - clock.monotonic() > Duration::from_secs(10))
}

#[tokio::test]
async fn what_waits_for_others_waits_without_looking() {
    let clock = Arc::new(ManualClock::new(now()));
    let world = World::with(Options { clock: clock.clone(), ..options() }).await;
    established(&world).await;
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.create(WIDGETS, held).await.unwrap();
    let mut other = definition();
    other["metadata"]["name"] = json!("others.example.com");
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["wd"]});
    let mut third = other.clone();
    third["metadata"]["name"] = json!("thirds.example.com");
    third["spec"]["names"] = json!({"plural": "thirds", "kind": "Third", "shortNames": ["wd"]});
    for refused in [other, third] {
        let made = world.create(DEFINITIONS, refused).await.unwrap();
        let name = made["metadata"]["name"].as_str().unwrap();
        until(async || world.get(DEFINITIONS, name).await.unwrap()["status"]["conditions"].is_array()).await;
    }
    assert!(is_at_rest(&clock));
    // One that was refused can go.
    delete_definition(&world, "thirds.example.com").await;
    until(async || world.get(DEFINITIONS, "thirds.example.com").await.is_err()).await;
    delete_definition(&world, WIDGETS).await;
    until(async || {
        let held = world.get(WIDGETS, "held").await.unwrap();
        held["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    assert!(is_at_rest(&clock));
    world.merge(WIDGETS, "held", json!({"metadata": {"finalizers": null}})).await.unwrap();
    until(async || world.get(DEFINITIONS, WIDGETS).await.is_err()).await;
    until(async || world.registry.kinds().lookup("example.com", "v1", "others").is_some()).await;
    assert!(is_at_rest(&clock));
}
