//! Whatever a webhook answers, a request is admitted or refused, and an object stays one that can be stored.

use admission::webhook::Configured;
use apimachinery::json::{MAX_DEPTH, depth};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::{Write, at, named, widget};

/// Some JSON.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A JSON patch that may fit, or its like.
fn patch() -> impl Strategy<Value = Value> {
    let path = || prop_oneof![Just(String::new()), "(/(metadata|labels|size|kind|-|[a-c0-2])){0,4}"];
    let operation = ("add|remove|replace|move|copy|test|x", path(), path(), tree());
    let operations = prop::collection::vec(operation, 0..5);
    let patch = operations.prop_map(|all| {
        all.into_iter()
            .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
            .collect::<Vec<_>>()
            .into()
    });
    let encoded = prop_oneof![4 => patch, 1 => tree()]
        .prop_map(|patch: Value| STANDARD.encode(patch.to_string()).into());
    prop_oneof![6 => encoded, 1 => tree()]
}

/// What a webhook might say, near to what it should.
fn response() -> impl Strategy<Value = Value> {
    let status = prop_oneof![
        tree(),
        ("[ -~]{0,9}", any::<i32>(), "Forbidden|Odd|").prop_map(
            |(message, code, reason)| json!({"message": message, "code": code, "reason": reason, "details": {"name": 1}})
        ),
    ];
    let fields = (
        prop_oneof![6 => Just(json!(true)), 2 => Just(json!(false)), 1 => tree()],
        prop::option::of(patch()),
        prop::option::of(prop_oneof![6 => Just(json!("JSONPatch")), 1 => tree()]),
        prop::option::of(status),
        prop::option::of(prop_oneof![2 => Just(json!(["w"])), 1 => tree()]),
    );
    fields.prop_map(|(allowed, patch, patch_type, status, warnings)| {
        let mut response = Map::from_iter([("allowed".to_owned(), allowed)]);
        for (name, value) in
            [("patch", patch), ("patchType", patch_type), ("status", status), ("warnings", warnings)]
        {
            response.extend(value.map(|value| (name.to_owned(), value)));
        }
        response.into()
    })
}

proptest! {
    #[test]
    fn any_answer_admits_or_refuses(
        response in response(),
        whole in prop::option::weighted(0.1, tree()),
        version in "v1|v1beta1",
    ) {
        let answer = whole.map_or(response, |whole| json!({"response": whole}));
        let said = named("odd", move |_| Ok(answer.clone()));
        let webhook = at("odd", json!({"admissionReviewVersions": [version], "reinvocationPolicy": "IfNeeded"}));
        let write = Write::with(&[said]).set(Configured::Mutating, "c", &[webhook]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(write.run(widget())) {
            Ok(object) => prop_assert!(object.is_object() && depth(&object) <= MAX_DEPTH),
            Err(refused) => {
                let code: u16 = refused.split(' ').next().unwrap_or_default().parse().unwrap();
                prop_assert!((400..1000).contains(&code), "{refused}");
            }
        }
    }
}
