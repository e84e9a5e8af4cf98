use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::gvk::GroupVersionKind;
use crate::patch::tests::tree;
use crate::schema::table::Table;

const TEXT: &str = "package t.v1
:Pod /v1/Pod
spec @Spec
labels {s
:Spec
containers [@Container map=name merge key=name
finalizers [s set merge
args [s atomic
strategy @Strategy retain
selector {s replace
:Container
name s !
image s
env [@Env merge key=name
:Env
name s
value s
:Strategy
type s
rolling @Container
";

fn schema() -> &'static Schema {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(TEXT).unwrap());
    TABLE.kind(&GroupVersionKind::of("", "v1", "Pod")).unwrap()
}

fn check(target: Value, patch: Value, expected: Value) {
    let mut found = target.clone();
    apply(&mut found, patch.clone(), schema()).unwrap_or_else(|error| panic!("{target} + {patch}: {error}"));
    assert_eq!(found, expected, "{target} + {patch}");
}

fn refuse(target: Value, patch: Value, message: &str) {
    let mut found = target;
    assert_eq!(apply(&mut found, patch, schema()).unwrap_err().to_string(), message);
}

fn containers(list: Value) -> Value {
    json!({"spec": {"containers": list}})
}

#[test]
fn maps_merge_and_null_removes() {
    check(
        json!({"labels": {"a": "1", "b": "2"}}),
        json!({"labels": {"a": null, "c": "3"}}),
        json!({"labels": {"b": "2", "c": "3"}}),
    );
    check(json!({}), json!({"labels": {"a": null, "b": "2"}}), json!({"labels": {"b": "2"}}));
    check(
        json!({"spec": {"selector": {"a": "1"}}}),
        json!({"spec": {"selector": {"b": "2"}}}),
        json!({"spec": {"selector": {"b": "2"}}}),
    );
    check(
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"$patch": "replace", "b": "2"}}),
        json!({"labels": {"b": "2"}}),
    );
    check(json!({"labels": {"a": "1"}}), json!({"labels": {"$patch": "delete"}}), json!({"labels": {}}));
}

#[test]
fn lists_of_objects_merge_by_key() {
    let target =
        containers(json!([{"name": "a", "image": "1", "env": [{"name": "x", "value": "1"}]}, {"name": "b"}]));
    let patch = containers(json!([{"name": "a", "image": "2", "env": [{"name": "y", "value": "2"}]}]));
    let merged = containers(json!([
        {"name": "a", "image": "2", "env": [{"name": "y", "value": "2"}, {"name": "x", "value": "1"}]},
        {"name": "b"},
    ]));
    check(target, patch, merged);
    // What is new comes first.
    let two = || containers(json!([{"name": "a"}, {"name": "b"}]));
    check(
        two(),
        containers(json!([{"name": "c"}])),
        containers(json!([{"name": "c"}, {"name": "a"}, {"name": "b"}])),
    );
    check(two(), containers(json!([{"name": "b", "$patch": "delete"}])), containers(json!([{"name": "a"}])));
    check(
        two(),
        containers(json!([{"$patch": "replace"}, {"name": "z"}])),
        containers(json!([{"name": "z"}])),
    );
    refuse(
        two(),
        containers(json!([{"image": "x"}])),
        "map: {\"image\":\"x\"} does not contain declared merge key: name",
    );
    refuse(two(), containers(json!(["x"])), "list element types are not identical");
    refuse(
        two(),
        containers(json!([{"name": "a", "$patch": "what"}])),
        "unknown patch type: what in map: {\"name\":\"a\"}",
    );
}

#[test]
fn lists_take_the_order_that_is_asked_for() {
    let two = containers(json!([{"name": "a"}, {"name": "b"}]));
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}});
    check(two.clone(), patch, containers(json!([{"name": "b"}, {"name": "a"}])));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "1"}, {"name": "b", "$patch": "delete"}],
    }});
    check(two.clone(), patch, containers(json!([{"name": "c", "image": "1"}, {"name": "a"}])));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b", "image": "1"}],
    }});
    let mut found = two;
    assert!(
        apply(&mut found, patch, schema()).unwrap_err().to_string().starts_with("The order in patch list")
    );
}

#[test]
fn large_lists_merge_in_one_pass() {
    // Item by item this would be 2,500,000,000 comparisons.
    let list =
        |from: usize| (from..from + 50_000).map(|n| json!({"name": format!("c{n}")})).collect::<Vec<_>>();
    let mut found = containers(list(0).into());
    apply(&mut found, containers(list(25_000).into()), schema()).unwrap();
    assert_eq!(found["spec"]["containers"].as_array().unwrap().len(), 75_000);
}

#[test]
fn lists_of_scalars_merge_as_sets_or_are_replaced() {
    let spec = |name: &str, list: Value| json!({"spec": {name: list}});
    check(
        spec("finalizers", json!(["a", "b"])),
        spec("finalizers", json!(["b", "c"])),
        spec("finalizers", json!(["a", "b", "c"])),
    );
    check(spec("args", json!(["a", "b"])), spec("args", json!(["c"])), spec("args", json!(["c"])));
    check(
        spec("finalizers", json!(["a", "b"])),
        spec("$deleteFromPrimitiveList/finalizers", json!(["a", "x"])),
        spec("finalizers", json!(["b"])),
    );
    let patch = json!({"spec": {"$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}});
    check(spec("finalizers", json!(["a", "b"])), patch, spec("finalizers", json!(["c", "b"])));
}

#[test]
fn retained_keys_are_all_that_stays() {
    let target = json!({"spec": {"strategy": {"type": "Rolling", "rolling": {"name": "x"}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    check(target.clone(), patch, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rolling": {}}}});
    refuse(target, patch, "invalid patch format of retainKeys");
}

#[test]
fn directives_never_stay_behind() {
    let patch = json!({"spec": {
        "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        "$setElementOrder/containers": [{"name": "a"}],
        "containers": [{"name": "a", "$setElementOrder/env": [{"name": "x"}], "env": [{"name": "x", "value": null}]}],
    }});
    let expected = json!({"spec": {"strategy": {"type": "Recreate"}, "containers": [{"name": "a", "env": [{"name": "x"}]}]}});
    check(json!({}), patch.clone(), expected.clone());
    check(json!({"spec": {}}), patch, expected);
}

fn pod() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[a-c]", "[0-9]", 0..3).prop_map(|env| {
        env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()
    });
    let containers = prop::collection::btree_map("[a-c]", ("[0-9]", env), 0..3).prop_map(|all| {
        all.into_iter()
            .map(|(name, (image, env))| json!({"name": name, "image": image, "env": env}))
            .collect::<Vec<_>>()
    });
    containers.prop_map(|containers| json!({"spec": {"containers": containers}}))
}

proptest! {
    #[test]
    fn an_object_patched_with_itself_stays(object in pod()) {
        let mut found = object.clone();
        apply(&mut found, object.clone(), schema()).unwrap();
        prop_assert_eq!(found, object);
    }

    #[test]
    fn patching_twice_is_patching_once(object in pod(), patch in pod()) {
        let mut once = object;
        apply(&mut once, patch.clone(), schema()).unwrap();
        let mut twice = once.clone();
        apply(&mut twice, patch, schema()).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn any_patch_is_applied_or_refused(object in tree(), patch in tree()) {
        let mut found = json!({"spec": {"containers": object.clone(), "finalizers": object.clone(), "strategy": object}});
        let _ = apply(&mut found, json!({"spec": {
            "containers": patch.clone(), "$setElementOrder/containers": patch.clone(),
            "$deleteFromPrimitiveList/finalizers": patch.clone(), "strategy": {"$retainKeys": patch.clone(), "a": patch},
        }}), schema());
    }
}
