//! Known cases, as kube-apiserver answers them.

use std::sync::LazyLock;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::managed::{Applied, ApplyError, Entry, Place, Reset, Set, Writer};
use apimachinery::schema::Schema;
use apimachinery::schema::table::Table;
use serde_json::{Value, json};

const TEXT: &str = include_str!("../../../api/schema/v1.36.txt");

fn schema(group: &'static str, kind: &'static str) -> &'static Schema {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(TEXT).unwrap());
    TABLE.kind(&GroupVersionKind::of(group, "v1", kind)).unwrap()
}

fn writer(group: &'static str, kind: &'static str, manager: &'static str) -> Writer<'static> {
    Writer {
        place: Place::root(Some(schema(group, kind)), false),
        manager,
        api_version: if group.is_empty() { "v1" } else { "apps/v1" },
        subresource: "",
        reset: Reset::Fields(&["status"]),
        now: "2026-01-01T00:00:00Z",
    }
}

fn deployment(manager: &'static str) -> Writer<'static> {
    writer("apps", "Deployment", manager)
}

fn apply(writer: Writer<'_>, before: &Applied, config: &Value) -> Result<Applied, ApplyError> {
    writer.apply(&before.object, before.entries.clone(), config, false)
}

fn nothing() -> Applied {
    Applied { object: json!({"apiVersion": "apps/v1", "kind": "Deployment"}), entries: Vec::new() }
}

fn web(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn containers(containers: Value) -> Value {
    web(json!({"template": {"spec": {"containers": containers}}}))
}

fn names(applied: &Applied) -> Vec<&str> {
    let list = applied.object.pointer("/spec/template/spec/containers").and_then(Value::as_array).unwrap();
    list.iter().filter_map(|item| item["name"].as_str()).collect()
}

fn of<'a>(entries: &'a [Entry], manager: &str) -> &'a Entry {
    entries.iter().find(|entry| entry.manager == manager).unwrap()
}

fn set(value: Value) -> Set {
    Set::read(&value).unwrap()
}

#[test]
fn a_creator_owns_what_upstream_says_it_owns() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"securityContext": {}, "containers": [
                {"name": "a", "image": "x", "resources": {}, "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
        "status": {"replicas": 1}});
    let entries = deployment("kubectl-create").update(None, &object, Vec::new).unwrap();
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {"f:replicas": {}, "f:selector": {},
            "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:securityContext": {},
                "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                    "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                        {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}},
    });
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].fields.clone().into_value(), expected);
    assert_eq!((entries[0].manager.as_str(), entries[0].api_version.as_str()), ("kubectl-create", "apps/v1"));

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
        "selector": {"a": "b"}, "type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}});
    let entries = writer("", "Service", "").update(None, &service, Vec::new).unwrap();
    let expected = json!({"f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}":
        {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}, "f:selector": {}, "f:type": {}}});
    assert_eq!(entries[0].fields.clone().into_value(), expected);
    assert_eq!(entries[0].manager, "unknown");
}

#[test]
fn lists_take_the_order_of_the_configuration() {
    let list =
        |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name, "image": "i"})).collect() };
    let first = apply(deployment("a"), &nothing(), &containers(list(&["x", "y", "z"]))).unwrap();
    for (config, expected) in [
        (vec!["y"], vec!["x", "y", "z"]),
        (vec!["z", "x"], vec!["y", "z", "x"]),
        (vec!["new", "x"], vec!["new", "x", "y", "z"]),
        (vec!["y", "new"], vec!["x", "y", "z", "new"]),
        (vec!["z", "new", "y", "x"], vec!["z", "new", "y", "x"]),
    ] {
        let done = apply(deployment("b"), &first, &containers(list(&config))).unwrap();
        assert_eq!(names(&done), expected, "{config:?}");
    }
}

#[test]
fn an_item_without_its_key_is_the_same_when_it_is_applied_again() {
    let live = containers(json!([{"image": "app:1"}]));
    // The image is nobody's.
    let entries = apply(deployment("bob"), &nothing(), &web(json!({"replicas": 2}))).unwrap().entries;
    let before = Applied { object: live, entries };
    let config = containers(json!([{"name": "main", "image": "app:2"}, {}]));
    let once = apply(deployment("ada"), &before, &config).unwrap();
    assert_eq!(apply(deployment("ada"), &once, &config).unwrap().object, once.object);
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_have_it() {
    let both = json!([{"name": "x", "image": "1"}, {"name": "y", "image": "1"}]);
    let first = apply(deployment("a"), &nothing(), &containers(both)).unwrap();
    let y = json!([{"name": "y", "image": "1"}]);
    let second = apply(deployment("b"), &first, &containers(y.clone())).unwrap();
    // Owning together what is equal is no conflict, and changes nothing: there is no time to write down.
    assert_eq!((second.object.clone(), of(&second.entries, "b").time.clone()), (first.object, None));
    let third = apply(deployment("a"), &second, &web(json!({"replicas": 2}))).unwrap();
    assert_eq!(names(&third), ["y"]);
    let bare = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    let fourth = apply(deployment("b"), &third, &bare).unwrap();
    assert_eq!(fourth.object["spec"], json!({"replicas": 2}));
    assert!(fourth.entries.iter().all(|entry| entry.manager != "b"));
}

#[test]
fn conflicts_are_told_in_upstreams_words() {
    let one = containers(json!([{"name": "x", "image": "1"}]));
    let first = apply(deployment("a"), &nothing(), &one).unwrap();
    let mut other = one.clone();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("2");
    let ApplyError::Conflicts(conflicts) = apply(deployment("b"), &first, &other).unwrap_err() else {
        panic!()
    };
    let expected =
        "Apply failed with 1 conflict: conflict with \"a\": .spec.template.spec.containers[name=\"x\"].image";
    assert_eq!(ApplyError::describe(&conflicts), expected);
    let mut changed = first.object.clone();
    changed["spec"]["replicas"] = json!(3);
    changed["spec"]["paused"] = json!(true);
    let entries = deployment("c").update(Some(&first.object), &changed, || first.entries.clone()).unwrap();
    let second = Applied { object: changed, entries };
    other["spec"]["replicas"] = json!(1);
    other["spec"]["paused"] = json!(false);
    let ApplyError::Conflicts(conflicts) = apply(deployment("b"), &second, &other).unwrap_err() else {
        panic!()
    };
    let expected = "Apply failed with 3 conflicts: conflicts with \"a\":\n\
        - .spec.template.spec.containers[name=\"x\"].image\nconflicts with \"c\" using apps/v1:\n- .spec.paused\n- .spec.replicas";
    assert_eq!(ApplyError::describe(&conflicts), expected);
    let forced = deployment("b").apply(&second.object, second.entries, &other, true).unwrap();
    assert_eq!(forced.object["spec"]["replicas"], 1);
    assert!(forced.entries.iter().all(|entry| entry.manager != "c"), "it owns nothing any more");
    let left = of(&forced.entries, "a").fields.paths();
    assert!(!left.contains(&".spec.template.spec.containers[name=\"x\"].image".to_owned()), "{left:?}");
}

#[test]
fn what_does_not_fit_is_named() {
    for (config, why) in [
        (web(json!({"nothing": 1})), ".spec.nothing: field not declared in schema"),
        (web(json!({"replicas": "1"})), ".spec.replicas: expected numeric (int or float), got string"),
        (web(json!([])), ".spec: expected map, got &{[]}"),
        (
            containers(json!([{"name": "x"}, {"name": "x"}])),
            ".spec.template.spec.containers: duplicate entries for key [name=\"x\"]",
        ),
        (
            containers(json!([{"name": "x", "env": [{"name": "E", "value": 1}]}])),
            ".spec.template.spec.containers[name=\"x\"].env[name=\"E\"].value: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            containers(json!([7])),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
    ] {
        assert_eq!(apply(deployment("a"), &nothing(), &config), Err(ApplyError::Unfit(why.to_owned())));
    }
}

#[test]
fn objects_without_managers_get_one_at_the_first_apply() {
    let object = web(json!({"replicas": 1, "paused": true}));
    let known = Applied { object, entries: Vec::new() };
    let ApplyError::Conflicts(conflicts) =
        apply(deployment("a"), &known, &web(json!({"replicas": 2}))).unwrap_err()
    else {
        panic!()
    };
    let expected =
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas";
    assert_eq!(ApplyError::describe(&conflicts), expected);
    let done = apply(deployment("a"), &known, &web(json!({"replicas": 1}))).unwrap();
    assert_eq!(of(&done.entries, "before-first-apply").fields.paths(), [".spec.paused", ".spec.replicas"]);
}

#[test]
fn kubectl_takes_over_from_its_client_side_applies() {
    let config = web(json!({"replicas": 1, "paused": true}));
    let mut object = config.clone();
    let last = config.to_string();
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let entries = deployment("kubectl-client-side-apply").update(None, &object, Vec::new).unwrap();
    let known = Applied { object, entries };
    let new = web(json!({"replicas": 2, "paused": true}));
    assert!(matches!(apply(deployment("other"), &known, &new), Err(ApplyError::Conflicts(_))));
    let done = apply(deployment("kubectl"), &known, &new).unwrap();
    assert_eq!(done.object["spec"]["replicas"], 2);
    let text = &done.object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert_eq!(serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap(), new);
    // What somebody has changed since it was applied from the client is a conflict.
    let mut changed = known.object.clone();
    changed["spec"]["replicas"] = json!(5);
    let entries = deployment("hand").update(Some(&known.object), &changed, || known.entries.clone()).unwrap();
    let ApplyError::Conflicts(conflicts) =
        apply(deployment("kubectl"), &Applied { object: changed, entries }, &new).unwrap_err()
    else {
        panic!()
    };
    assert_eq!(conflicts.len(), 1);
}

#[test]
fn a_change_gives_and_takes_fields() {
    let old = web(json!({"replicas": 1, "paused": true}));
    let entries = deployment("a").update(None, &old, Vec::new).unwrap();
    assert_eq!(deployment("b").update(Some(&old), &old, || panic!("nothing has changed")), None);
    let new = web(json!({"replicas": 2}));
    let later = Writer { now: "2026-02-02T00:00:00Z", ..deployment("b") };
    let entries = later.update(Some(&old), &new, || entries).unwrap();
    assert_eq!(entries.len(), 1, "nothing is left for a: {entries:?}");
    assert_eq!(entries[0].fields, set(json!({"f:spec": {"f:replicas": {}}})));
    assert_eq!(entries[0].time.as_deref(), Some("2026-02-02T00:00:00Z"));
    let mut status = new.clone();
    status["status"] = json!({"replicas": 1});
    let again = Writer { manager: "c", ..later };
    assert_eq!(again.update(Some(&new), &status, || panic!("status is not theirs")), None);
    let of_status = Writer { subresource: "status", reset: Reset::AllBut(&[&["status"]]), ..again };
    let entries = of_status.update(Some(&new), &status, || entries).unwrap();
    assert_eq!(of(&entries, "c").fields, set(json!({"f:status": {"f:replicas": {}}})));
    assert_eq!(of(&entries, "c").subresource, "status");
}

#[test]
fn what_became_a_whole_is_owned_as_one() {
    let crd = |list_type: &str| {
        let mut list = json!({"type": "array", "items": {"type": "object", "required": ["name"],
            "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}}, "x-kubernetes-list-type": list_type});
        if list_type == "map" {
            list["x-kubernetes-list-map-keys"] = json!(["name"]);
        }
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"list": list}}}});
        Schema::from_crd(&schema, None, &apimachinery::field::Path::empty()).unwrap()
    };
    let (granular, atomic) = (crd("map"), crd("atomic"));
    let of_schema = |schema| Writer {
        place: Place::root(Some(schema), true),
        manager: "a",
        api_version: "x/v1",
        subresource: "",
        reset: Reset::Nothing,
        now: "2026-01-01T00:00:00Z",
    };
    let config = json!({"spec": {"list": [{"name": "x", "n": 1}]}});
    let first = of_schema(&granular).apply(&json!({}), Vec::new(), &config, false).unwrap();
    assert_eq!(
        first.entries[0].fields.paths(),
        [".spec.list[name=\"x\"]", ".spec.list[name=\"x\"].n", ".spec.list[name=\"x\"].name"]
    );
    let other = Writer { manager: "b", ..of_schema(&atomic) };
    let changed = json!({"spec": {"list": [{"name": "x", "n": 2}]}});
    let ApplyError::Conflicts(conflicts) =
        other.apply(&first.object, first.entries, &changed, false).unwrap_err()
    else {
        panic!()
    };
    assert_eq!((conflicts.len(), conflicts[0].path.as_str()), (1, ".spec.list"));
}

#[test]
fn an_item_of_which_nobody_owns_the_key_stays_what_it_is() {
    let live = containers(json!([{"name": "main", "image": "app:1", "tty": true}]));
    let config = containers(json!([{"image": "app:2"}]));
    let image = json!([{"manager": "bob", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers":
            {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}}}}}}}}]);
    let entries = apimachinery::managed::decode(image, false).unwrap();
    let once = apply(deployment("ada"), &Applied { object: live, entries }, &config).unwrap();
    assert_eq!(apply(deployment("ada"), &once, &config).unwrap().object, once.object);
}
