use apimachinery::field::Path;
use apimachinery::schema::{OpenApi, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};

fn spec() -> Value {
    json!({"type": "object", "description": "A thing.", "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            "properties": {
                "a": {"type": "string"},
                "b": {"type": "string"},
                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 10, "exclusiveMaximum": true},
                "mode": {"type": "string", "enum": ["Fast", "Slow"], "default": "Fast"},
                "name": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "note": {"type": "string", "nullable": true},
                "address": {"type": "string", "format": "ipv4"},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "x-kubernetes-list-type": "set"},
                "rules": {
                    "type": "array", "minItems": 1, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "weight": {"type": "number", "default": 1, "multipleOf": 0.5},
                    }},
                },
                "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "known": {"type": "object", "properties": {"x": {"type": "boolean"}}},
                }},
                "map": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
                "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            },
        },
    }})
}

fn schema() -> Schema {
    Schema::from_crd(&spec(), None, &Path::new("schema")).unwrap()
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "x/v1", "kind": "Thing", "spec": spec})
}

fn findings(spec: Value) -> Vec<String> {
    schema().validate(&object(spec), None, &Path::empty()).iter().map(ToString::to_string).collect()
}

#[test]
fn a_sound_object_passes() {
    let sound = json!({
        "a": "x", "size": 1, "mode": "Slow", "name": "abc", "port": "http", "note": null, "address": "10.0.0.1",
        "tags": ["x", "y"], "rules": [{"name": "a", "weight": 1.5}, {"name": "b"}], "extra": {"anything": [1]}, "map": {"a": 1},
        "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "more": 1},
    });
    assert_eq!(findings(sound.clone()), [""; 0]);
    assert_eq!(schema().unknown_fields(&object(sound)), [""; 0]);
}

/// What is found in a sound object after that change.
fn check(change: Value, expected: &[&str]) {
    let mut spec = json!({"a": "x", "size": 1});
    apimachinery::patch::merge::apply(&mut spec, &change);
    assert_eq!(findings(spec), expected, "{change}");
}

#[test]
fn findings_about_scalars_are_in_upstreams_words() {
    check(
        json!({"size": "big"}),
        &["spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""],
    );
    check(json!({"size": null}), &["spec.size: Required value"]);
    check(
        json!({"size": 0}),
        &["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"],
    );
    check(json!({"size": 10}), &["spec.size: Invalid value: 10: spec.size in body should be less than 10"]);
    check(
        json!({"mode": "x"}),
        &["spec.mode: Unsupported value: \"x\": supported values: \"Fast\", \"Slow\""],
    );
    check(
        json!({"name": "a"}),
        &["spec.name: Invalid value: \"a\": spec.name in body should be at least 2 chars long"],
    );
    check(json!({"name": "abcde"}), &["spec.name: Too long: may not be more than 4 bytes"]);
    check(
        json!({"name": "AB"}),
        &["spec.name: Invalid value: \"AB\": spec.name in body should match '^[a-z]+$'"],
    );
    check(
        json!({"port": true}),
        &[
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ],
    );
    check(
        json!({"address": "x"}),
        &["spec.address: Invalid value: \"x\": spec.address in body must be of type ipv4: \"x\""],
    );
}

#[test]
fn findings_about_lists_and_objects_are_in_upstreams_words() {
    check(json!({"tags": ["a", "b", "a"]}), &["spec.tags[2]: Duplicate value: \"a\""]);
    check(json!({"tags": ["a", "b", "c", "d"]}), &["spec.tags: Too many: 4: must have at most 3 items"]);
    check(
        json!({"rules": []}),
        &["spec.rules: Invalid value: 0: spec.rules in body should have at least 1 items"],
    );
    check(
        json!({"rules": [{"name": "a"}, {"name": "a"}]}),
        &["spec.rules[1]: Duplicate value: {\"name\":\"a\"}"],
    );
    check(
        json!({"rules": [{"name": "a", "weight": 0.3}]}),
        &[
            "spec.rules[0].weight: Invalid value: 0.3: spec.rules[0].weight in body should be a multiple of 0.5",
        ],
    );
    check(json!({"map": {"a": 1, "b": 2, "c": 3}}), &["spec.map: Too many: 3: must have at most 2 items"]);
    check(
        json!({"map": {"a": "x"}}),
        &["spec.map.a: Invalid value: \"string\": spec.map.a in body must be of type integer: \"string\""],
    );
    check(
        json!({"b": "y"}),
        &[
            "spec: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    check(
        json!({"a": null}),
        &[
            "spec: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found none valid",
            "spec.a: Required value",
        ],
    );
}

#[test]
fn what_did_not_change_is_not_held_against_an_update() {
    let schema = schema();
    let old = object(json!({"a": "x", "size": 99, "rules": [{"name": "a", "weight": 0.3}]}));
    let mut new = old.clone();
    new["spec"]["mode"] = json!("Slow");
    new["spec"]["rules"].as_array_mut().unwrap().insert(0, json!({"name": "b"}));
    assert_eq!(schema.validate(&new, Some(&old), &Path::empty()), []);
    new["spec"]["size"] = json!(98);
    assert_eq!(schema.validate(&new, Some(&old), &Path::empty()).len(), 1);
}

#[test]
fn alternatives_within_alternatives_do_not_multiply() {
    // Were each tried twice, this would take for ever.
    let mut nested = json!({"required": ["x"]});
    for _ in 0..50 {
        nested = json!({"oneOf": [nested]});
    }
    let mut schema = json!({"type": "object", "properties": {"x": {"type": "string"}}});
    schema["oneOf"] = json!([nested]);
    let schema = Schema::from_crd(&schema, None, &Path::new("schema")).unwrap();
    assert!(!schema.validate(&json!({}), None, &Path::empty()).is_empty());
    assert!(schema.validate(&json!({"x": "y"}), None, &Path::empty()).is_empty());
}

#[test]
fn unknown_fields_are_pruned_but_for_what_is_preserved() {
    let mut tree = object(json!({
        "a": "x", "size": 1, "foo": 1, "rules": [{"name": "a", "bar": 1}], "map": {"any": 1},
        "extra": {"anything": 1, "known": {"x": true, "y": 1}}, "template": {"kind": "x", "z": 1},
    }));
    tree["status"] = json!({});
    let unknown = schema().prune(&mut tree);
    assert_eq!(unknown, ["spec.extra.known.y", "spec.foo", "spec.rules[0].bar", "status"]);
    assert_eq!(
        tree,
        object(json!({
            "a": "x", "size": 1, "rules": [{"name": "a"}], "map": {"any": 1},
            "extra": {"anything": 1, "known": {"x": true}}, "template": {"kind": "x", "z": 1},
        }))
    );
}

#[test]
fn defaults_fill_what_is_absent_or_wrongly_null() {
    let mut tree = object(
        json!({"size": null, "mode": null, "note": null, "rules": [{"name": "a"}, {"name": "b", "weight": 2}]}),
    );
    let schema = schema();
    schema.prune_nulls(&mut tree);
    schema.apply_defaults(&mut tree);
    assert_eq!(
        tree,
        object(
            json!({"mode": "Fast", "note": null, "rules": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]})
        )
    );
}

#[test]
fn the_document_says_what_the_crd_said() {
    let document = schema().to_openapi(OpenApi::V3);
    let mut expected = spec();
    expected["properties"]["apiVersion"] = json!({"type": "string"});
    expected["properties"]["kind"] = json!({"type": "string"});
    assert_eq!(document, expected);
    let old = schema().to_openapi(OpenApi::V2);
    assert!(old["properties"]["spec"].get("oneOf").is_none());
    assert!(old["properties"]["spec"]["properties"]["note"].get("nullable").is_none());
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("spec|a|b|size|mode|name|tags|rules|extra|map|known|x", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn pruned_objects_hold_nothing_unknown_and_defaults_are_stable(tree in tree()) {
        let schema = schema();
        let mut found = tree.clone();
        schema.prune(&mut found);
        prop_assert_eq!(schema.unknown_fields(&found), Vec::<String>::new());
        schema.prune_nulls(&mut found);
        schema.apply_defaults(&mut found);
        let mut again = found.clone();
        schema.prune_nulls(&mut again);
        schema.apply_defaults(&mut again);
        prop_assert_eq!(&again, &found);
        let _ = schema.validate(&tree, Some(&found), &Path::empty());
        prop_assert_eq!(schema.validate(&found, Some(&found), &Path::empty()), []);
    }

    #[test]
    fn any_tree_is_a_schema_or_is_refused(tree in crd()) {
        if let Ok(schema) = Schema::from_crd(&tree, None, &Path::new("schema")) {
            // What was accepted renders as what it was read from.
            let document = schema.to_openapi(OpenApi::V3);
            let again = Schema::from_crd(&document, None, &Path::new("schema")).unwrap();
            prop_assert_eq!(again.to_openapi(OpenApi::V3), document);
        }
    }
}

fn crd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "integer", "minimum": 1})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        Just(json!(1)),
        Just(json!({"type": "x"})),
        Just(json!({"type": "string", "pattern": "("})),
        Just(json!({"required": ["a"]})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let map = prop::collection::btree_map("[a-b]", inner.clone(), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()));
        prop_oneof![
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"})),
            inner.clone().prop_map(|value| json!({"type": "object", "additionalProperties": value})),
            (map.clone(), inner.clone())
                .prop_map(|(map, not)| json!({"type": "object", "properties": map, "not": not})),
            (map, prop::collection::vec(inner, 0..2)).prop_map(
                |(map, any)| json!({"type": "object", "properties": map, "anyOf": any, "default": {}})
            ),
        ]
    })
}
