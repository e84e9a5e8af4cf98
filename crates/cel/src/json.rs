//! JSON as values of declared types, one level at a time (upstream: `common/valuesunstructured.go`).

use apimachinery::time;
use serde_json::{Number, Value as Json};

use crate::decl::{DYN, DeclType, Shape};
use crate::error::EvalError;
use crate::library::encoding::base64;
use crate::library::time::parse_format_duration;
use crate::value::{Entries, Items, List, Map, MapDecl, Outcome, Value};

fn fail<'a>(why: impl Into<String>) -> Outcome<'a> {
    Err(EvalError::new(why))
}

/// What Go calls the type of JSON once it is decoded.
fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

pub(crate) fn from_json<'a>(json: &'a Json, decl: &'a DeclType) -> Outcome<'a> {
    match (&decl.shape, json) {
        (Shape::Dyn | Shape::Any, json) => Ok(dynamic(json)),
        (Shape::Optional(inner), Json::Null) if !inner.nullable => Ok(Value::Optional(None)),
        (Shape::Optional(inner), json) => Ok(Value::optional(Some(from_json(json, inner)?))),
        (_, Json::Null) if decl.nullable => Ok(Value::Null),
        (_, Json::Null) => fail("invalid data, got null for schema with nullable=false"),
        (Shape::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Shape::Int, Json::Number(number)) => match whole(number) {
            Some(value) => Ok(Value::Int(value)),
            None => fail("invalid data, expected int, got float64"),
        },
        (Shape::Double, Json::Number(number)) => Ok(Value::Double(number.as_f64().unwrap_or(f64::NAN))),
        (Shape::IntOrString, Json::Number(number)) if whole(number).is_some() => {
            Ok(Value::Int(whole(number).unwrap_or_default()))
        }
        (Shape::IntOrString | Shape::String, Json::String(text)) => Ok(Value::from(text.as_str())),
        (Shape::IntOrString, _) => {
            fail("invalid data, expected XIntOrString value to be either a string or integer")
        }
        (Shape::Bytes | Shape::Duration | Shape::Timestamp | Shape::Date, Json::String(text)) => {
            formatted(text, &decl.shape)
        }
        (Shape::List(list), Json::Array(items)) => {
            Ok(Value::List(List(Items::Json { items, decl: Some(list) })))
        }
        (Shape::Map(of), Json::Object(map)) => {
            Ok(Value::Map(Map(Entries::Json { map, decl: MapDecl::Values(&of.values) })))
        }
        (Shape::Object(object), Json::Object(map)) => {
            Ok(Value::Map(Map(Entries::Json { map, decl: MapDecl::Object(object) })))
        }
        (shape, json) => fail(mismatch(shape, json)),
    }
}

fn mismatch(shape: &Shape, json: &Json) -> String {
    let found = go_type(json);
    match shape {
        Shape::List(_) => {
            "invalid data, expected an array for the provided schema with type=array".to_owned()
        }
        Shape::Map(_) | Shape::Object(_) => {
            "invalid data, expected a map for the provided schema with type=object".to_owned()
        }
        Shape::Bool => format!("invalid data, expected bool, got {found}"),
        Shape::Int => format!("invalid data, expected int, got {found}"),
        Shape::Double => format!("invalid data, expected float, got {found}"),
        _ => format!("invalid data, expected string, got {found}"),
    }
}

fn dynamic(json: &Json) -> Value<'_> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::List(List(Items::Json { items, decl: None })),
        Json::Object(map) => Value::Map(Map(Entries::Json { map, decl: MapDecl::Values(&DYN) })),
    }
}

/// The whole number that it is: `1.0` is one too.
#[allow(clippy::cast_possible_truncation, clippy::float_cmp)]
fn whole(number: &Number) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() <= LIMIT).map(|value| value as i64)
    })
}

fn formatted<'a>(text: &str, shape: &Shape) -> Outcome<'a> {
    match shape {
        Shape::Bytes => match base64(text) {
            Some(bytes) => Ok(Value::Bytes(bytes.into())),
            None => fail(format!("Invalid byte formatted string {text}: illegal base64 data")),
        },
        Shape::Duration => match parse_format_duration(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => fail(format!("Invalid duration {text}: unable to parse {text} as duration")),
        },
        Shape::Date => match time::parse(&format!("{text}T00:00:00Z")) {
            Ok(at) => Ok(Value::Timestamp(at)),
            Err(error) => fail(format!("Invalid date formatted string {text}: {error}")),
        },
        _ => match crate::library::time::parse_date_time(text) {
            Some(at) => Ok(Value::Timestamp(at)),
            None => fail(format!("Invalid date-time formatted string {text}: no known layout")),
        },
    }
}
