//! Values that may not be there.

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl("optional.of", Cost::One, of, &[("optional_of", "(V) -> optional(V)")]),
    decl(
        "optional.ofNonZeroValue",
        Cost::One,
        of_non_zero,
        &[("optional_ofNonZeroValue", "(V) -> optional(V)")],
    ),
    decl("optional.none", Cost::One, none, &[("optional_none", "() -> optional(V)")]),
    decl("value", Cost::One, value, &[("optional_value", "optional(V).() -> V")]),
    decl("hasValue", Cost::One, has_value, &[("optional_hasValue", "optional(V).() -> bool")]),
    decl("or", Cost::One, lazy, &[("optional_or_optional", "optional(V).(optional(V)) -> optional(V)")]),
    decl("orValue", Cost::One, lazy, &[("optional_orValue_value", "optional(V).(V) -> V")]),
    decl("first", Cost::One, first, &[("list_first", "list(V).() -> optional(V)")]),
    decl("last", Cost::One, last, &[("list_last", "list(V).() -> optional(V)")]),
    decl("optional.unwrap", Cost::One, unwrap, &[("optional_unwrap", "(list(optional(V))) -> list(V)")]),
    decl("unwrapOpt", Cost::One, unwrap, &[("optional_unwrapOpt", "list(optional(V)).() -> list(V)")]),
];

/// Methods that the evaluator knows itself: the argument is evaluated only where it is needed.
fn lazy<'a>(_: &mut Context, _: &[Value<'a>]) -> Outcome<'a> {
    no_overload()
}

fn of<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(Value::optional(Some(value.clone()))),
        _ => no_overload(),
    }
}

#[allow(clippy::float_cmp)]
fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) | Value::Duration(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(inner) => inner.as_ref().is_none_or(|inner| is_zero(inner)),
        Value::Timestamp(_) | Value::Type(_) | Value::Library(_) => false,
    }
}

fn of_non_zero<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(Value::optional(Some(value.clone()).filter(|value| !is_zero(value)))),
        _ => no_overload(),
    }
}

fn none<'a>(_: &mut Context, _: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Optional(None))
}

fn value<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
        _ => no_overload(),
    }
}

fn has_value<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => no_overload(),
    }
}

fn first<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::List(list)] => Ok(Value::optional(list.get(0).transpose()?)),
        _ => no_overload(),
    }
}

fn last<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::List(list)] => {
            let last = list.len().checked_sub(1).and_then(|last| list.get(last));
            Ok(Value::optional(last.transpose()?))
        }
        _ => no_overload(),
    }
}

fn unwrap<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut there = Vec::new();
    for item in list.iter() {
        context.items(1)?;
        match item? {
            Value::Optional(Some(inner)) => there.push((*inner).clone()),
            Value::Optional(None) => {}
            other => {
                return Err(EvalError::new(format!("value {} is not optional", other.type_name())));
            }
        }
    }
    Ok(there.into())
}
