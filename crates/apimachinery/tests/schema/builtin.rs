use std::sync::LazyLock;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::schema::table::Table;
use apimachinery::schema::{MAX_REPORTED_FIELDS, OpenApi, Schema, strict_error};
use proptest::prelude::*;
use serde_json::{Value, json};

const TEXT: &str = "# a small world
package io.k8s.api.core.v1
:Pod /v1/Pod
apiVersion s
kind s
metadata @io.k8s.meta.v1.ObjectMeta
spec @PodSpec
:PodSpec
containers [@Container ! map=name merge key=name
replicas i
big l
ratio n
flag b
data {y
labels {s atomic
strategy @Strategy retain
raw @io.k8s.meta.v1.Raw
any @io.k8s.meta.v1.JSON
:Container
name s !
cpu @io.k8s.meta.v1.Quantity
limits {@io.k8s.meta.v1.Quantity
port @io.k8s.meta.v1.IntOrString
args [s atomic
:Strategy
type s
package io.k8s.meta.v1
:IntOrString =x
:JSON =j
:MicroTime =u
:ObjectMeta
creationTimestamp @Time
labels {s
name s
renewTime @MicroTime
self @ObjectMeta
:Quantity =q
:Raw =r
:Time =t
";

const POD: GroupVersionKind = GroupVersionKind::of("", "v1", "Pod");

fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(TEXT).unwrap());
    &TABLE
}

fn pod() -> &'static Schema {
    table().kind(&POD).unwrap()
}

fn conform(tree: Value) -> (Value, Vec<String>) {
    let mut found = tree;
    let unknown = pod().conform(&mut found).unwrap().unknown;
    (found, unknown)
}

fn refuse(tree: Value, message: &str) {
    let mut found = tree;
    assert_eq!(pod().conform(&mut found).unwrap_err().to_string(), message);
}

#[test]
fn nulls_vanish_and_scalars_take_their_canonical_form() {
    let (found, unknown) = conform(json!({
        "metadata": {"name": null, "creationTimestamp": "2026-11-22T12:00:00.5+02:00", "renewTime": "2026-11-22T10:00:00Z"},
        "spec": {
            "containers": [{"name": "a", "cpu": "0.5", "limits": {"memory": "1024Ki", "cpu": 2, "none": null}, "port": "http"}],
            "labels": {"a": null}, "data": {"a": "aG\nk="}, "replicas": null, "strategy": null, "any": {"x": null},
        },
    }));
    let expected = json!({
        "metadata": {"creationTimestamp": "2026-11-22T10:00:00Z", "renewTime": "2026-11-22T10:00:00.000000Z"},
        "spec": {
            "containers": [{"name": "a", "cpu": "500m", "limits": {"memory": "1Mi", "cpu": "2", "none": "0"}, "port": "http"}],
            "labels": {"a": ""}, "data": {"a": "aGk="}, "any": {"x": null},
        },
    });
    assert_eq!(found, expected);
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn unknown_fields_go_and_are_named() {
    let (found, unknown) = conform(json!({
        "spec": {"foo": 1, "containers": [{"name": "a"}, {"name": "b", "bar": {}}], "raw": {"any": {"thing": 1}}, "labels": {"x": "y"}},
        "zoo": null,
    }));
    assert_eq!(unknown, ["spec.containers[1].bar", "spec.foo", "zoo"]);
    assert_eq!(
        found,
        json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "raw": {"any": {"thing": 1}}, "labels": {"x": "y"}}})
    );
    let status = strict_error(&POD, &unknown[..2], &["metadata.name".to_owned()]).unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            400,
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[1].bar\", unknown field \"spec.foo\", duplicate field \"metadata.name\""
        )
    );
    assert_eq!(strict_error(&POD, &[], &[]), None);
    let many: serde_json::Map<String, Value> = (0..500).map(|n| (format!("x{n}"), json!(1))).collect();
    let (found, unknown) = conform(Value::Object(many));
    assert_eq!((found, unknown.len()), (json!({}), MAX_REPORTED_FIELDS));
}

#[test]
fn wrong_types_are_named_in_upstreams_words() {
    refuse(
        json!({"spec": {"replicas": "x"}}),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.replicas of type int32",
    );
    refuse(
        json!({"spec": {"replicas": 3_000_000_000u64}}),
        "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.replicas of type int32",
    );
    refuse(
        json!({"spec": {"big": 1.5}}),
        "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.big of type int64",
    );
    refuse(
        json!({"metadata": {"labels": {"a": 1}}}),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    refuse(
        json!({"spec": {"containers": [{"args": [true]}]}}),
        "json: cannot unmarshal bool into Go struct field Container.spec.containers.args of type string",
    );
    refuse(
        json!({"spec": {"containers": {}}}),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    refuse(
        json!({"spec": []}),
        "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
    );
    refuse(json!([]), "json: cannot unmarshal array into Go value of type v1.Pod");
    refuse(json!({"spec": {"data": {"a": "x"}}}), "illegal base64 data at input byte 1");
    refuse(
        json!({"spec": {"containers": [{"port": {}}]}}),
        "json: cannot unmarshal object into Go value of type int32",
    );
    refuse(
        json!({"spec": {"containers": [{"cpu": "lots"}]}}),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    refuse(
        json!({"metadata": {"creationTimestamp": "now"}}),
        "parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"now\" as \"2006\"",
    );
}

#[test]
fn definitions_render_as_openapi() {
    let spec = table().definition("io.k8s.api.core.v1.PodSpec").unwrap();
    let document = spec.get().to_openapi(OpenApi::V2);
    assert_eq!(
        document["properties"]["containers"],
        json!({
            "type": "array", "items": {"$ref": "#/definitions/io.k8s.api.core.v1.Container"},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
        })
    );
    assert_eq!(document["required"], json!(["containers"]));
    assert_eq!(document["properties"]["labels"]["x-kubernetes-map-type"], "atomic");
    assert_eq!(
        spec.references(),
        [
            "io.k8s.meta.v1.JSON",
            "io.k8s.api.core.v1.Container",
            "io.k8s.meta.v1.Raw",
            "io.k8s.api.core.v1.Strategy",
        ]
    );
    let rendered = |name: &str, dialect| table().definition(name).unwrap().get().to_openapi(dialect);
    assert_eq!(
        rendered("io.k8s.meta.v1.IntOrString", OpenApi::V2),
        json!({"type": "string", "format": "int-or-string"})
    );
    assert_eq!(
        rendered("io.k8s.meta.v1.Quantity", OpenApi::V3),
        json!({"oneOf": [{"type": "string"}, {"type": "number"}]})
    );
    assert_eq!(
        rendered("io.k8s.meta.v1.MicroTime", OpenApi::V3),
        json!({"type": "string", "format": "date-time"})
    );
    assert_eq!(rendered("io.k8s.meta.v1.JSON", OpenApi::V2), json!({}));
}

#[test]
fn broken_tables_are_refused() {
    for (text, message) in [
        (":X\n", "schema table, line 1: a definition outside a package"),
        ("package p\n:X\n:X\n", "schema table, line 3: p.X is defined twice"),
    ] {
        assert_eq!(Table::new(text).err().unwrap().to_string(), message);
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(|n| json!(n)),
        "[a-z0-9=Z:-]{0,5}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("containers"),
        Just("name"),
        Just("cpu"),
        Just("labels"),
        Just("data"),
        Just("port"),
        Just("args"),
        Just("x"),
        Just("raw"),
        Just("limits"),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_conforms_once_conforms_for_ever(tree in tree()) {
        let mut once = tree.clone();
        if let Ok(done) = pod().conform(&mut once) {
            let mut twice = once.clone();
            prop_assert_eq!(pod().conform(&mut twice).unwrap().unknown, Vec::<String>::new());
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(pod().unknown_fields(&once), Vec::<String>::new());
            prop_assert_eq!(pod().unknown_fields(&tree).len(), done.unknown.len());
        }
    }
}
