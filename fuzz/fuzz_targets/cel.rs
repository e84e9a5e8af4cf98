//! Any expression over any object is refused or evaluated, within its budget and within the time that the budget stands for.

#![no_main]

use std::time::{Duration, Instant};

use apimachinery::field::Path;
use apimachinery::schema::Schema;
use cel::{Activation, Budget, DeclType, Env, EvalError, OBJECT_BUDGET, PER_CALL_LIMIT, Program};
use serde_json::Value;

/// A tenth of a second is what one evaluation may take; instruments make everything slower.
const PATIENCE: Duration = Duration::from_secs(2);

/// The object where the input has none.
const OBJECT: &str = r#"{"a": 3, "s": "abc", "t": "2020-01-02T03:04:05Z", "l": ["x", "y"], "m": {"k": 1.5}, "i": "5%",
    "o": [{"k": "a", "v": 1}]}"#;

/// What objects are declared to be where the input's schema says nothing.
const SCHEMA: &str = r#"{"type": "object", "properties": {
    "a": {"type": "integer"}, "s": {"type": "string", "maxLength": 20}, "t": {"type": "string", "format": "date-time"},
    "l": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    "m": {"type": "object", "additionalProperties": {"type": "number"}},
    "i": {"x-kubernetes-int-or-string": true},
    "o": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
        {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}}"#;

fn run(program: &Program, activation: &Activation<'_>) {
    let mut budget = Budget::new(OBJECT_BUDGET);
    let begun = Instant::now();
    let result = program.evaluate(activation, &mut budget);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let cost = OBJECT_BUDGET - budget.remaining();
    // The step that exceeds the limit is the last.
    assert!(cost <= PER_CALL_LIMIT || matches!(result, Err(EvalError::CallLimit)), "{cost}");
}

// An object on the first line, the expression behind it.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let (object, source) = text.split_once('\n').unwrap_or(("", text));
    let object = serde_json::from_str::<Value>(object).unwrap_or_else(|_| serde_json::from_str(OBJECT).unwrap());
    let begun = Instant::now();
    let dynamic = DeclType::dynamic();
    let untyped = Env::new().with_variable("self", dynamic.clone()).compile(source);
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = Schema::from_crd(&schema, None, &Path::empty()).unwrap();
    let decl = DeclType::from_schema(&schema, "self", false).unwrap();
    let typed = Env::new().with_variable("self", decl.clone()).compile(source);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    for (program, decl) in [(untyped, &dynamic), (typed, &decl)] {
        match program {
            Ok(program) => {
                let mut activation = Activation::new();
                activation.bind_json("self", &object, decl);
                run(&program, &activation);
            }
            Err(errors) => assert!(!errors.to_string().is_empty()),
        }
    }
});
