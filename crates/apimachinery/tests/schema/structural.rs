use apimachinery::field::Path;
use apimachinery::schema::Schema;
use serde_json::{Value, json};

fn refuse(schema: Value, expected: &[&str]) {
    let path = Path::new("s");
    let found: Vec<String> = match Schema::from_crd(&schema, None, &path) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "{schema}");
}

fn field(node: Value) -> Value {
    json!({"type": "object", "properties": {"x": node}})
}

#[test]
fn every_node_says_its_type() {
    refuse(json!({}), &["s.type: Required value: must not be empty at the root"]);
    refuse(json!({"type": "string"}), &["s.type: Invalid value: \"string\": must be object at the root"]);
    refuse(
        field(json!({})),
        &["s.properties[x].type: Required value: must not be empty for specified object fields"],
    );
    refuse(
        field(json!({"type": "array", "items": {}})),
        &["s.properties[x].items.type: Required value: must not be empty for specified array items"],
    );
    refuse(field(json!({"type": "array"})), &["s.properties[x].items: Required value: must be specified"]);
    refuse(
        field(json!({"type": "text"})),
        &[
            "s.properties[x].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ],
    );
    refuse(field(json!({"x-kubernetes-int-or-string": true})), &[]);
    refuse(field(json!({"x-kubernetes-preserve-unknown-fields": true})), &[]);
}

#[test]
fn what_is_no_part_of_a_structural_schema_is_refused() {
    refuse(
        field(json!({"type": "string", "$ref": "#/x"})),
        &["s.properties[x].$ref: Forbidden: $ref is not supported"],
    );
    refuse(
        field(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
        &[
            "s.properties[x].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
    refuse(
        field(json!({"type": "object", "additionalProperties": false})),
        &["s.properties[x].additionalProperties: Forbidden: additionalProperties cannot be set to false"],
    );
    refuse(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        &["s.additionalProperties: Forbidden: must not be used at the root"],
    );
    refuse(
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        &[
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
    refuse(
        field(json!({"type": "string", "pattern": "("})),
        &[
            "s.properties[x].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: regex parse error:\n    (\n    ^\nerror: unclosed group",
        ],
    );
}

#[test]
fn value_rules_only_restrict() {
    refuse(
        field(json!({"type": "string", "anyOf": [{"type": "string", "description": "d"}]})),
        &[
            "s.properties[x].anyOf[0].description: Forbidden: must be empty to be structural",
            "s.properties[x].anyOf[0].type: Forbidden: must be empty to be structural",
        ],
    );
    refuse(
        field(json!({"type": "object", "oneOf": [{"properties": {"a": {"minimum": 1}}}]})),
        &[
            "s.properties[x].properties[a]: Required value: because it is defined in s.properties[x].oneOf[0].properties[a]",
        ],
    );
    refuse(
        field(
            json!({"type": "object", "properties": {"a": {"type": "integer"}}, "oneOf": [{"properties": {"a": {"minimum": 1}}}]}),
        ),
        &[],
    );
    refuse(field(json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]})), &[]);
    let both = json!([{"type": "integer"}, {"type": "string"}]);
    refuse(field(json!({"x-kubernetes-int-or-string": true, "anyOf": both})), &[]);
    refuse(
        field(json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": both}, {"pattern": "x"}]})),
        &[],
    );
}

#[test]
fn lists_know_their_keys() {
    let list = |extra: Value| {
        let mut node = json!({"type": "array", "x-kubernetes-list-type": "map", "items": {
            "type": "object", "properties": {"k": {"type": "string"}, "o": {"type": "object"}},
        }});
        apimachinery::patch::merge::apply(&mut node, &extra);
        field(node)
    };
    refuse(
        list(json!({})),
        &[
            "s.properties[x].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ],
    );
    refuse(
        list(json!({"x-kubernetes-list-map-keys": ["z"]})),
        &[
            "s.properties[x].x-kubernetes-list-map-keys[0]: Invalid value: \"z\": entries must all be names of item properties",
        ],
    );
    refuse(
        list(json!({"x-kubernetes-list-map-keys": ["k"]})),
        &[
            "s.properties[x].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
    refuse(list(json!({"x-kubernetes-list-map-keys": ["k"], "items": {"required": ["k"]}})), &[]);
    refuse(
        field(json!({"type": "string", "x-kubernetes-list-type": "set"})),
        &[
            "s.properties[x].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is \"set\"",
        ],
    );
}

#[test]
fn defaults_keep_to_their_schema() {
    refuse(
        field(json!({"type": "integer", "default": "x"})),
        &[
            "s.properties[x].default: Invalid value: \"string\": s.properties[x].default in body must be of type integer: \"string\"",
        ],
    );
    refuse(
        field(json!({"type": "object", "default": {"a": 1}})),
        &["s.properties[x].default: Invalid value: {\"a\":1}: must not have unknown fields: a"],
    );
}
