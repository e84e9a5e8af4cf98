//! What expressions are, mean and cost. Written from the language definition and from upstream's documented limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod bounds;
mod check;
mod conformance;
mod costs;
mod doubling;
mod kubernetes;
mod schemas;

use cel::{Activation, Budget, DeclType, Env, Value};
use serde_json::{Value as Json, json};

/// The variables of most tests: any JSON, by the name `x`, and declared ones.
fn env() -> Env {
    Env::new().with_variable("x", DeclType::dynamic())
}

/// What an expression evaluates to where `x` is that JSON: shown by `debug`, or the error.
fn run(source: &str, x: &Json) -> String {
    let program = match env().compile(source) {
        Ok(program) => program,
        Err(errors) => return format!("compile: {}", errors.errors()[0].message),
    };
    let mut activation = Activation::new();
    activation.bind("x", Value::dynamic(x).unwrap());
    match program.evaluate(&activation, &mut Budget::new(cel::OBJECT_BUDGET)) {
        Ok(value) => show(&value),
        Err(error) => format!("error: {error}"),
    }
}

/// A value as one would write it.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("{value:?}"),
        Value::String(text) => format!("'{}'", &**text),
        Value::Bytes(bytes) => format!("b{bytes:?}"),
        Value::Duration(nanos) => format!("{nanos}ns"),
        Value::Timestamp(at) => at.to_string(),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|item| show(&item.unwrap())).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(_) => "{…}".to_owned(),
        Value::Type(name) => format!("type({name})"),
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(inner)) => format!("some({})", show(inner)),
        Value::Library(_) => "library".to_owned(),
    }
}

fn check(source: &str, expected: &str) {
    assert_eq!(run(source, &json!(null)), expected, "{source}");
}
