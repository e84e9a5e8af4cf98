//! Monoplane's own kinds: the committed manifests are what the types say, and say what is meant.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeSet;

use api::monoplane::v1alpha1::{Component, KeyValueStore, KeyValueStoreSpec};
use api::monoplane::{CRD_MANIFESTS, crds};
use apimachinery::field::Path;
use apimachinery::schema::Schema;
use serde_json::{Value, json};

/// Set this to rewrite the manifests instead of comparing them.
const REWRITE: &str = "MONOPLANE_WRITE_CONTRACTS";

#[test]
fn manifests_are_what_the_types_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/crds");
    let definitions = crds();
    assert_eq!(definitions.len(), CRD_MANIFESTS.len());
    for (definition, committed) in definitions.iter().zip(CRD_MANIFESTS) {
        let name = definition.metadata.name.as_deref().unwrap();
        let text = format!(
            "# Made from crates/api/src/monoplane; do not edit.\n{}",
            serde_yaml_ng::to_string(definition).unwrap()
        );
        if std::env::var_os(REWRITE).is_some() {
            std::fs::write(format!("{folder}/{name}.yaml"), text).unwrap();
        } else {
            assert_eq!(
                &text, committed,
                "run this test with {REWRITE}=1 to bring contracts/crds/{name}.yaml up to date"
            );
        }
    }
}

fn schema(kind: &str) -> Schema {
    let manifests = CRD_MANIFESTS.iter().map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap());
    let crd = manifests.into_iter().find(|crd| crd["spec"]["names"]["kind"] == kind).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    Schema::from_crd(schema, api::schemas::builtin().object_meta(), &Path::new("schema")).unwrap()
}

/// An object as the API server would keep it.
fn admit(kind: &str, spec: Value) -> Result<Value, Vec<String>> {
    let schema = schema(kind);
    let metadata = json!({"name": "x", "namespace": "default"});
    let mut tree =
        json!({"apiVersion": "monoplane.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    let unknown = schema.prune(&mut tree);
    schema.prune_nulls(&mut tree);
    schema.apply_defaults(&mut tree);
    let errors = schema.validate(&tree, None, &Path::empty());
    let findings: Vec<String> = unknown.into_iter().chain(errors.iter().map(ToString::to_string)).collect();
    if findings.is_empty() { Ok(tree) } else { Err(findings) }
}

#[test]
fn components_are_defaulted_and_read_back() {
    let tree = admit(
        "Component",
        json!({
            "source": {"inline": "AGFzbQ=="}, "routes": [{}, {"host": "*.example.com", "path": "/a"}],
            "keyValue": [{"store": "links"}], "limits": {"memory": 1_048_576}, "durable": {},
        }),
    );
    let component: Component = serde_json::from_value(tree.unwrap()).unwrap();
    let spec = &component.spec;
    assert_eq!((spec.routes[0].path.as_str(), spec.key_value[0].name.as_str()), ("/", "default"));
    assert_eq!((spec.limits.memory.value(), spec.limits.request_body.value()), (1 << 20, 1 << 20));
    let suspend: std::time::Duration = spec.durable.as_ref().unwrap().suspend_after.into();
    let wall: std::time::Duration = spec.limits.wall_time.into();
    assert_eq!((wall.as_secs(), suspend.as_secs(), spec.limits.concurrency), (30, 1, 1000));
    // What the types write is what the schema takes.
    let written = serde_json::to_value(&component).unwrap();
    assert_eq!(admit("Component", written["spec"].clone()).unwrap()["spec"], written["spec"]);
}

#[test]
fn one_source_and_one_backend_must_be_chosen() {
    for (kind, spec) in [
        ("Component", json!({"source": {}})),
        ("Component", json!({"source": {"inline": "AGFzbQ==", "path": "/x"}})),
        ("KeyValueStore", json!({})),
        ("KeyValueStore", json!({"embedded": {}, "redis": {"address": "redis://x:1/0"}})),
    ] {
        let findings = admit(kind, spec).unwrap_err();
        assert!(findings.iter().any(|text| text.contains("one and only one schema (oneOf)")), "{findings:?}");
    }
    for (kind, spec, field) in [
        ("Component", json!({}), "spec.source: Required value"),
        ("Component", json!({"source": {"inline": "!"}}), "spec.source.inline"),
        ("Component", json!({"source": {"path": "/x"}, "routes": [{"path": "x"}]}), "spec.routes[0].path"),
        ("Component", json!({"source": {"path": "/x"}, "limits": {"memory": "lots"}}), "spec.limits.memory"),
        (
            "Component",
            json!({"source": {"path": "/x"}, "limits": {"wallTime": "soon"}}),
            "spec.limits.wallTime",
        ),
        (
            "Component",
            json!({"source": {"path": "/x"}, "allowedOutboundHosts": ["ftp://x"]}),
            "spec.allowedOutboundHosts[0]",
        ),
        ("KeyValueStore", json!({"redis": {"address": "x"}}), "spec.redis.address"),
        ("KeyValueStore", json!({"redis": {}}), "spec.redis.address: Required value"),
    ] {
        let findings = admit(kind, spec).unwrap_err();
        assert!(findings.iter().any(|text| text.starts_with(field)), "{findings:?} lacks {field}");
    }
}

#[test]
fn stores_name_their_backend() {
    let tree =
        admit("KeyValueStore", json!({"redis": {"address": "redis://127.0.0.1:6379/0", "keyPrefix": "a:"}}));
    let store: KeyValueStore = serde_json::from_value(tree.unwrap()).unwrap();
    assert_eq!(store.spec.backend(), Some("redis"));
    assert_eq!(KeyValueStoreSpec::default().backend(), None);
}

#[test]
fn every_field_is_described() {
    fn walk(schema: &Schema, path: &str, silent: &mut BTreeSet<String>) {
        for property in &schema.properties {
            let (path, node) = (format!("{path}.{}", property.name), property.schema.get());
            let whole = ["apiVersion", "kind", "metadata"].contains(&property.name.as_ref());
            if node.description().is_none() && !whole {
                silent.insert(path.clone());
            }
            if !whole {
                walk(node.items.as_ref().map_or(node, |items| items.get()), &path, silent);
            }
        }
    }
    for kind in ["Component", "KeyValueStore"] {
        let (mut silent, schema) = (BTreeSet::new(), schema(kind));
        walk(&schema, "", &mut silent);
        silent.retain(|path| path != ".spec" && path != ".status");
        assert_eq!(silent, BTreeSet::new(), "{kind}");
        assert!(schema.description().is_some());
    }
}
