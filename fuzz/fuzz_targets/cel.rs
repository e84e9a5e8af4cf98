//! Any expression over any object is refused or evaluated, within its budget, and within what an input may cost. What an
//! evaluation makes is bounded by itself, however short the expression is.

#![no_main]

use std::sync::LazyLock;

use apimachinery::field::Path;
use apimachinery::schema::Schema;
use cel::{Activation, Budget, DeclType, Env, EvalError, MAX_MADE, OBJECT_BUDGET, PER_CALL_LIMIT, Program};
use serde_json::Value;

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

static UNTYPED: LazyLock<DeclType> = LazyLock::new(DeclType::dynamic);
static TYPED: LazyLock<DeclType> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = Schema::from_crd(&schema, None, &Path::empty()).unwrap();
    DeclType::from_schema(&schema, "self", false).unwrap()
});

/// What the library of regular expressions holds while it compiles one, however short it is.
const TABLES: usize = 1 << 19;

fn compile(source: &str, decl: &DeclType) -> Option<Program> {
    match Env::new().with_variable("self", decl.clone()).compile(source) {
        Ok(program) => Some(program),
        Err(errors) => {
            assert!(!errors.to_string().is_empty());
            None
        }
    }
}

fn run(program: &Program, object: &Value, decl: &DeclType) {
    let mut activation = Activation::new();
    activation.bind_json("self", object, decl);
    let mut budget = Budget::new(OBJECT_BUDGET);
    let result = program.evaluate(&activation, &mut budget);
    let cost = OBJECT_BUDGET - budget.remaining();
    // The step that exceeds the limit is the last.
    assert!(cost <= PER_CALL_LIMIT || matches!(result, Err(EvalError::CallLimit)), "{cost}");
}

// An object on the first line, the expression behind it.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let (object, source) = text.split_once('\n').unwrap_or(("", text));
    let object =
        serde_json::from_str::<Value>(object).unwrap_or_else(|_| serde_json::from_str(OBJECT).unwrap());
    for decl in [&UNTYPED, &TYPED] {
        LazyLock::force(decl);
        fuzz::bounded_beside(text.len(), TABLES, || drop(compile(source, decl)));
        let Some(program) = compile(source, decl) else { continue };
        fuzz::bounded_beside(text.len(), MAX_MADE * 4, || run(&program, &object, decl));
    }
});
