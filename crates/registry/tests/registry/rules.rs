//! Rules of definitions in CEL: when the definition is written, and when its objects are.

use registry::{Patch, RequestContext};
use serde_json::{Value, json};

use crate::world::{World, cx, findings, until};

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const GADGETS: &str = "gadgets.example.com";

/// A definition whose `spec` has that schema.
fn definition(spec: &Value) -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": spec,
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }});
    json!({
        "metadata": {"name": GADGETS},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                          "subresources": {"status": {}}}],
        },
    })
}

fn rule(rule: &str) -> Value {
    json!({"rule": rule})
}

/// A spec with these rules and properties.
fn spec(rules: Value, properties: Value) -> Value {
    json!({"type": "object", "x-kubernetes-validations": rules, "properties": properties})
}

fn gadget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec})
}

async fn established(world: &World, definition: Value) {
    world.create(DEFINITIONS, definition).await.unwrap();
    until(async || world.registry.kinds().lookup("example.com", "v1", "gadgets").is_some()).await;
}

/// Gives the served definition another schema, and waits until it is in force.
async fn replace_schema(world: &World, spec: &Value) {
    let before = world.registry.kinds().generation();
    let versions = definition(spec)["spec"]["versions"].clone();
    world.merge(DEFINITIONS, GADGETS, json!({"spec": {"versions": versions}})).await.unwrap();
    until(async || world.registry.kinds().generation() > before).await;
}

async fn merge_in(
    context: &RequestContext,
    world: &World,
    name: &str,
    patch: Value,
) -> Result<Value, String> {
    let kind = world.kind(GADGETS);
    let patch = Patch::Merge(patch);
    let part = registry::Part::Whole;
    match world.registry.patch(context, &kind, "default", name, part, &patch).await {
        Ok(_) => Ok(world.get(GADGETS, name).await.unwrap()),
        Err(status) => Err(status.message),
    }
}

const AT: &str = "spec.validation.openAPIV3Schema.properties[spec]";

#[tokio::test]
async fn what_is_wrong_with_rules_is_named() {
    let world = World::new().await;
    let check = async |spec: Value, expected: &str| {
        let refused = world.create(DEFINITIONS, definition(&spec)).await.expect_err(expected);
        let expected = expected.replace("AT", AT);
        assert_eq!(findings(&refused), expected);
    };
    let of = |rule: Value| spec(json!([rule]), json!({"a": {"type": "integer"}}));
    check(
        of(json!({"rule": " "})),
        "AT.x-kubernetes-validations[0].rule: Required value: rule is not specified",
    )
    .await;
    check(
        of(json!({"rule": "true", "message": " "})),
        "AT.x-kubernetes-validations[0].message: Invalid value: \" \": must be non-empty if specified",
    )
    .await;
    check(
        of(json!({"rule": "true ||\nfalse"})),
        "AT.x-kubernetes-validations[0].message: Required value: message must be specified if rule contains line breaks",
    )
    .await;
    check(
        of(json!({"rule": "true", "reason": "Odd"})),
        "AT.x-kubernetes-validations[0].reason: Unsupported value: \"Odd\": supported values: \
         \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
    )
    .await;
    check(
        of(json!({"rule": "true", "fieldPath": ".b"})),
        "AT.x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": must be a valid path",
    )
    .await;
    check(
        of(rule("self.b > 1")),
        "AT.x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.b > 1\",\"Message\":\"\",\
         \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: \
         ERROR: <input>:1:5: undefined field 'b'\n | self.b > 1\n | ....^",
    )
    .await;
    check(
        of(json!({"rule": "self.a", "reason": "FieldValueInvalid"})),
        "AT.x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.a\",\"Message\":\"\",\
         \"MessageExpression\":\"\",\"Reason\":\"FieldValueInvalid\",\"FieldPath\":\"\",\"OptionalOldSelf\":null}: cel \
         expression must evaluate to a bool",
    )
    .await;
    check(
        of(json!({"rule": "self.a > 1", "messageExpression": "self.a"})),
        "AT.x-kubernetes-validations[0].messageExpression: Invalid value: {\"Rule\":\"self.a > 1\",\"Message\":\"\",\
         \"MessageExpression\":\"self.a\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: \
         messageExpression must evaluate to a string",
    )
    .await;
    check(
        of(json!({"rule": "self.a > 1", "optionalOldSelf": true})),
        "AT.x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in \
         rule",
    )
    .await;
}

#[tokio::test]
async fn defaults_keep_to_rules() {
    let world = World::new().await;
    let check = async |rule: Value, expected: &str| {
        let text = json!({"type": "string", "maxLength": 9, "x-kubernetes-validations": [rule]});
        let inner = json!({"type": "object", "properties": {"a": text}, "default": {"a": "x"}});
        let refused = world.create(DEFINITIONS, definition(&spec(json!([]), json!({"o": inner})))).await;
        assert_eq!(findings(&refused.unwrap_err()), format!("{AT}.properties[o].default.a: {expected}"));
    };
    check(rule("self == 'y'"), "Invalid value: \"x\": failed rule: self == 'y'").await;
    check(
        json!({"rule": "oldSelf.hasValue()", "optionalOldSelf": true}),
        "Invalid value: \"x\": failed rule: oldSelf.hasValue()",
    )
    .await;
}

#[tokio::test]
async fn rules_that_may_cost_too_much_are_refused() {
    let world = World::new().await;
    let texts = |limits: Value| {
        let mut list = json!({"type": "array", "items": {"type": "string"},
                              "x-kubernetes-validations": [{"rule": "self.all(x, self.exists(y, x == y))"}]});
        for (name, limit) in limits.as_object().unwrap() {
            list[name] = limit.clone();
        }
        spec(json!([]), json!({"texts": list}))
    };
    let refused = world.create(DEFINITIONS, definition(&texts(json!({})))).await.unwrap_err();
    let at = format!("{AT}.properties[texts].x-kubernetes-validations[0].rule");
    let hint = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
                strings are declared)";
    let total = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
    let expected = format!(
        "[{at}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {hint}, {at}: Forbidden: \
         contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema, \
         spec.validation.openAPIV3Schema: Forbidden: {total} exceeds budget by factor of more than 100x {hint}]"
    );
    assert_eq!(findings(&refused), expected);
    let refused = world.create(DEFINITIONS, definition(&texts(json!({"maxItems": 10})))).await.unwrap_err();
    let expected = format!("{at}: Forbidden: estimated rule cost exceeds budget by factor of 3.1x {hint}");
    assert_eq!(findings(&refused), expected);
    let mut limited = texts(json!({"maxItems": 10}));
    limited["properties"]["texts"]["items"]["maxLength"] = json!(100);
    world.create(DEFINITIONS, definition(&limited)).await.unwrap();
}

#[tokio::test]
async fn older_values_must_be_told_apart() {
    let world = World::new().await;
    let list = |kind: &str| {
        json!({"type": "array", "maxItems": 10, "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"],
               "items": {"type": "object", "required": ["k"], "x-kubernetes-map-type": "atomic",
                         "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}],
                         "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}})
    };
    let mut atomic = list("atomic");
    atomic.as_object_mut().unwrap().remove("x-kubernetes-list-map-keys");
    let refused =
        world.create(DEFINITIONS, definition(&spec(json!([]), json!({"l": atomic})))).await.unwrap_err();
    let expected = format!(
        "{AT}.properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self.v >= oldSelf.v\": oldSelf \
         cannot be used on the uncorrelatable portion of the schema within {AT}.properties[l]"
    );
    assert_eq!(findings(&refused), expected);
    established(&world, definition(&spec(json!([]), json!({"l": list("map")})))).await;
    world.create(GADGETS, gadget("a", json!({"l": [{"k": "x", "v": 5}, {"k": "y", "v": 1}]}))).await.unwrap();
    let moved = json!({"spec": {"l": [{"k": "y", "v": 0}, {"k": "z", "v": 0}, {"k": "x", "v": 6}]}});
    let refused = world.merge(GADGETS, "a", moved).await.unwrap_err();
    assert_eq!(findings(&refused), "spec.l[0]: Invalid value: failed rule: self.v >= oldSelf.v");
    let moved = json!({"spec": {"l": [{"k": "y", "v": 1}, {"k": "z", "v": 0}, {"k": "x", "v": 6}]}});
    world.merge(GADGETS, "a", moved).await.unwrap();
}

#[tokio::test]
async fn objects_keep_to_their_rules() {
    let world = World::new().await;
    let rules = json!([
        {"rule": "self.min <= self.max", "message": "min is above max"},
        {"rule": "self.name != 'bad'", "messageExpression": "self.name + ' is no name'", "fieldPath": ".name"},
        {"rule": "!has(self.secret)", "reason": "FieldValueForbidden", "fieldPath": ".secret", "message": "keep it"},
        {"rule": "self.divisor == 0 || self.max / self.divisor > 0"},
        {"rule": "self.?x.orValue(5) / self.divisor > 0"},
    ]);
    let number = || json!({"type": "integer"});
    let text = || json!({"type": "string", "maxLength": 20});
    let properties = json!({
        "min": number(), "max": number(), "divisor": {"type": "integer", "default": 1}, "x": number(),
        "name": {"type": "string", "maxLength": 20, "default": "good"}, "secret": text(),
        "tags": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 9,
            "x-kubernetes-validations": [{"rule": "self.startsWith('t')"}]}},
        "map": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "integer",
            "x-kubernetes-validations": [{"rule": "self > 0"}]}},
        "a-b": {"type": "integer", "x-kubernetes-validations": [{"rule": "self % 2 == 0"}]},
        "any": {"x-kubernetes-int-or-string": true, "x-kubernetes-validations": [{"rule": "self > 3"}]},
    });
    established(&world, definition(&spec(rules, properties))).await;
    let check = async |spec: Value, expected: &str| {
        let refused = world.create(GADGETS, gadget("a", spec)).await.expect_err(expected);
        assert_eq!((refused.code, findings(&refused)), (422, expected));
    };
    check(json!({"min": 3, "max": 2}), "spec: Invalid value: min is above max").await;
    check(json!({"min": 1, "max": 2, "name": "bad"}), "spec.name: Invalid value: bad is no name").await;
    check(json!({"min": 1, "max": 2, "secret": "s"}), "spec.secret: Forbidden: keep it").await;
    check(
        json!({"min": 1, "max": 2, "divisor": 5}),
        "[spec: Invalid value: failed rule: self.divisor == 0 || self.max / self.divisor > 0]"
            .trim_matches(['[', ']']),
    )
    .await;
    check(
        json!({"min": 1, "max": 2, "divisor": 0}),
        "spec: Invalid value: \"object\": division by zero evaluating rule: self.?x.orValue(5) / self.divisor > 0",
    )
    .await;
    check(
        json!({"max": 2}),
        "spec: Invalid value: \"object\": no such key: min evaluating rule: min is above max",
    )
    .await;
    check(
        json!({"min": 1, "max": 2, "tags": ["t1", "u"]}),
        "spec.tags[1]: Invalid value: \"u\": failed rule: self.startsWith('t')",
    )
    .await;
    check(
        json!({"min": 1, "max": 2, "map": {"k": 0}}),
        "spec.map[k]: Invalid value: 0: failed rule: self > 0",
    )
    .await;
    check(json!({"min": 1, "max": 2, "a-b": 3}), "spec.a-b: Invalid value: 3: failed rule: self % 2 == 0")
        .await;
    check(
        json!({"min": 1, "max": 2, "any": "x"}),
        "spec.any: Invalid value: \"\": 'no such overload': call arguments did not match a supported operator, function \
         or macro signature for rule: self > 3",
    )
    .await;
    check(
        json!({"min": 1, "max": "x"}),
        "[spec.max: Invalid value: \"string\": spec.max in body must be of type integer: \"string\", <nil>: Invalid \
         value: \"null\": some validation rules were not checked because the object was invalid; correct the existing \
         errors to complete validation]",
    )
    .await;
    world.create(GADGETS, gadget("a", json!({"min": 1, "max": 2, "any": 4, "tags": ["t"]}))).await.unwrap();
}

#[tokio::test]
async fn changes_keep_to_rules_about_them() {
    let world = World::new().await;
    let rules = json!([
        {"rule": "self.size >= oldSelf.size", "message": "may only grow"},
        {"rule": "oldSelf.hasValue() || self.size < 5", "optionalOldSelf": true, "message": "begins small"},
    ]);
    let fixed = json!({"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf",
                       "message": "Value is immutable"}]});
    let spec = spec(rules, json!({"size": {"type": "integer"}, "fixed": fixed}));
    let mut whole = definition(&spec);
    whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = json!([
        {"rule": "!has(self.status) || !has(self.status.phase) || self.status.phase != 'Done' || self.spec.size > 2"},
        {"rule": "self.metadata.name.startsWith('g')"},
    ]);
    established(&world, whole).await;
    let refused = world.create(GADGETS, gadget("x", json!({"size": 6}))).await.unwrap_err();
    let expected = "[<nil>: Invalid value: failed rule: self.metadata.name.startsWith('g'), spec: Invalid value: begins \
                    small]";
    assert_eq!(findings(&refused), expected);
    world.create(GADGETS, gadget("g", json!({"size": 1, "fixed": "a"}))).await.unwrap();
    let refused = world.merge(GADGETS, "g", json!({"spec": {"size": 0, "fixed": "b"}})).await.unwrap_err();
    let expected =
        "[spec: Invalid value: may only grow, spec.fixed: Invalid value: \"b\": Value is immutable]";
    assert_eq!(findings(&refused), expected);
    world.merge(GADGETS, "g", json!({"spec": {"size": 2}})).await.unwrap();
    let status = json!({"status": {"phase": "Done"}});
    let patch = Patch::Merge(status.clone());
    let refused = world.patch(GADGETS, "g", registry::Part::Status, patch).await.unwrap_err();
    assert!(
        findings(&refused).starts_with("<nil>: Invalid value: failed rule: !has(self.status)"),
        "{refused:?}"
    );
    world.merge(GADGETS, "g", json!({"spec": {"size": 9}})).await.unwrap();
    world.patch(GADGETS, "g", registry::Part::Status, Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn what_did_not_change_is_not_held_against_an_update() {
    let world = World::new().await;
    let open =
        |value: Value| spec(json!([]), json!({"a": value.clone(), "b": {"type": "string", "maxLength": 9}}));
    established(&world, definition(&open(json!({"type": "string", "maxLength": 9})))).await;
    world.create(GADGETS, gadget("g", json!({"a": "old", "b": "x"}))).await.unwrap();
    // A stricter schema, with a rule: what is stored already breaks both.
    let strict =
        json!({"type": "string", "maxLength": 2, "x-kubernetes-validations": [{"rule": "self == 'ok'"}]});
    replace_schema(&world, &open(strict.clone())).await;
    merge_in(&cx(), &world, "g", json!({"spec": {"b": "y"}})).await.unwrap();
    let refused = merge_in(&cx(), &world, "g", json!({"spec": {"a": "new"}})).await.unwrap_err();
    assert!(refused.contains("spec.a: Too long: may not be more than 2 bytes"), "{refused}");
    let refused = merge_in(&cx(), &world, "g", json!({"spec": {"a": "no"}})).await.unwrap_err();
    assert!(refused.ends_with("spec.a: Invalid value: \"no\": failed rule: self == 'ok'"), "{refused}");
    // With the rule alone, the unchanged value is warned of.
    let mut lenient = strict;
    lenient["maxLength"] = json!(9);
    replace_schema(&world, &open(lenient)).await;
    let context = cx();
    merge_in(&context, &world, "g", json!({"spec": {"b": "z"}})).await.unwrap();
    assert_eq!(context.warnings.take(), ["spec.a: Invalid value: \"old\": failed rule: self == 'ok'"]);
    let refused = world.create(GADGETS, gadget("h", json!({"a": "old"}))).await.unwrap_err();
    assert_eq!(findings(&refused), "spec.a: Invalid value: \"old\": failed rule: self == 'ok'");
}

#[tokio::test]
async fn items_of_atomic_lists_are_held_to_account_together() {
    let world = World::new().await;
    let list = |least: u64| {
        spec(json!([]), json!({"l": {"type": "array", "items": {"type": "string", "minLength": least}}}))
    };
    established(&world, definition(&list(1))).await;
    world.create(GADGETS, gadget("g", json!({"l": ["a", "bb"]}))).await.unwrap();
    replace_schema(&world, &list(2)).await;
    world.merge(GADGETS, "g", json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
    let refused = world.merge(GADGETS, "g", json!({"spec": {"l": ["a", "bb", "cc"]}})).await.unwrap_err();
    assert_eq!(
        findings(&refused),
        "spec.l[0]: Invalid value: \"a\": spec.l[0] in body should be at least 2 chars long"
    );
}

#[tokio::test]
async fn one_object_has_one_budget() {
    let world = World::new().await;
    // Each rule may be run on forty texts, for sixteen thousand units each.
    let sought = "b".repeat(400);
    let rules: Vec<Value> = (0..20)
        .map(|n| json!({"rule": format!("!self.v.contains('{sought}')"), "message": format!("rule {n}")}))
        .collect();
    let item = json!({"type": "object", "properties": {"v": {"type": "string", "maxLength": 4000}},
                      "x-kubernetes-validations": rules});
    let list = json!({"type": "array", "maxItems": 40, "items": item});
    established(&world, definition(&spec(json!([]), json!({"l": list})))).await;
    let items: Vec<Value> = (0..40).map(|_| json!({"v": "a".repeat(4000)})).collect();
    world.create(GADGETS, gadget("some", json!({"l": items[..20]}))).await.unwrap();
    let refused = world.create(GADGETS, gadget("all", json!({"l": items}))).await.unwrap_err();
    let found = findings(&refused);
    // Ten million units: thirty-one items with twenty rules each.
    let expected = "spec.l[31]: Invalid value: \"object\": validation failed due to running out of cost budget, no further \
                    validation rules will be run";
    assert_eq!(found, expected);
}
