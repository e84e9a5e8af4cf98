//! Operators that look at values: equality, order, membership, indexes, sizes.

use std::cmp::Ordering;

use super::equality::{compare, equal};
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Outcome, Value, count};

/// The overloads of an operator of order.
macro_rules! ordered {
    ($name:literal) => {
        [
            (concat!($name, "_bool"), "(bool, bool) -> bool"),
            (concat!($name, "_int64"), "(int, int) -> bool"),
            (concat!($name, "_int64_double"), "(int, double) -> bool"),
            (concat!($name, "_int64_uint64"), "(int, uint) -> bool"),
            (concat!($name, "_uint64"), "(uint, uint) -> bool"),
            (concat!($name, "_uint64_double"), "(uint, double) -> bool"),
            (concat!($name, "_uint64_int64"), "(uint, int) -> bool"),
            (concat!($name, "_double"), "(double, double) -> bool"),
            (concat!($name, "_double_int64"), "(double, int) -> bool"),
            (concat!($name, "_double_uint64"), "(double, uint) -> bool"),
            (concat!($name, "_string"), "(string, string) -> bool"),
            (concat!($name, "_bytes"), "(bytes, bytes) -> bool"),
            (concat!($name, "_timestamp"), "(timestamp, timestamp) -> bool"),
            (concat!($name, "_duration"), "(duration, duration) -> bool"),
        ]
    };
}
pub(super) const TABLE: &[Decl] = &[
    decl("_?_:_", Cost::Conditional, unreachable, &[("conditional", "(bool, A, A) -> A")]),
    decl("_&&_", Cost::Logical, unreachable, &[("logical_and", "(bool, bool) -> bool")]),
    decl("_||_", Cost::Logical, unreachable, &[("logical_or", "(bool, bool) -> bool")]),
    decl("!_", Cost::One, not, &[("logical_not", "(bool) -> bool")]),
    decl("@not_strictly_false", Cost::One, unreachable, &[("not_strictly_false", "(bool) -> bool")]),
    decl("_==_", Cost::Equal, equals, &[("equals", "(A, A) -> bool")]),
    decl("_!=_", Cost::Equal, not_equals, &[("not_equals", "(A, A) -> bool")]),
    decl("_<_", Cost::Compare, less, &ordered!("less")),
    decl("_<=_", Cost::Compare, less_equals, &ordered!("less_equals")),
    decl("_>_", Cost::Compare, greater, &ordered!("greater")),
    decl("_>=_", Cost::Compare, greater_equals, &ordered!("greater_equals")),
    decl(
        "_[_]",
        Cost::Index,
        index,
        &[
            ("index_list", "(list(A), int) -> A"),
            ("index_map", "(map(A, B), A) -> B"),
            ("optional_list_index_int", "(optional(list(A)), int) -> optional(A)"),
            ("optional_map_index_value", "(optional(map(A, B)), A) -> optional(B)"),
        ],
    ),
    decl(
        "_[?_]",
        Cost::One,
        optional_index,
        &[
            ("list_optindex_optional_int", "(list(A), int) -> optional(A)"),
            ("optional_list_optindex_optional_int", "(optional(list(A)), int) -> optional(A)"),
            ("map_optindex_optional_value", "(map(A, B), A) -> optional(B)"),
            ("optional_map_optindex_optional_value", "(optional(map(A, B)), A) -> optional(B)"),
        ],
    ),
    decl(
        "@in",
        Cost::In,
        is_in,
        &[("in_list", "(A, list(A)) -> bool"), ("in_map", "(A, map(A, B)) -> bool")],
    ),
    decl(
        "size",
        Cost::One,
        size,
        &[
            ("size_bytes", "(bytes) -> int"),
            ("bytes_size", "bytes.() -> int"),
            ("size_list", "(list(A)) -> int"),
            ("list_size", "list(A).() -> int"),
            ("size_map", "(map(A, B)) -> int"),
            ("map_size", "map(A, B).() -> int"),
            ("size_string", "(string) -> int"),
            ("string_size", "string.() -> int"),
        ],
    ),
];

/// Operators that the evaluator knows itself: their arguments are not evaluated first.
fn unreachable<'a>(_: &mut Context, _: &[Value<'a>]) -> Outcome<'a> {
    no_overload()
}

fn not<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no_overload(),
    }
}

fn equals<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [one, other] => Ok(Value::Bool(equal(context, one, other)?)),
        _ => no_overload(),
    }
}

fn not_equals<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [one, other] => Ok(Value::Bool(!equal(context, one, other)?)),
        _ => no_overload(),
    }
}

fn order<'a>(context: &mut Context, args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Outcome<'a> {
    match args {
        [one, other] => Ok(Value::Bool(holds(compare(context, one, other)?))),
        _ => no_overload(),
    }
}

fn less<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    order(context, args, Ordering::is_lt)
}

fn less_equals<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    order(context, args, Ordering::is_le)
}

fn greater<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    order(context, args, Ordering::is_gt)
}

fn greater_equals<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    order(context, args, Ordering::is_ge)
}

/// A number as a place in a list: doubles that are whole numbers are taken too.
#[allow(clippy::cast_possible_truncation, clippy::float_cmp)]
fn place(index: &Value<'_>) -> Option<i64> {
    match index {
        Value::Int(index) => Some(*index),
        Value::Uint(index) => i64::try_from(*index).ok(),
        Value::Double(index) if index.fract() == 0.0 && index.abs() < 1e15 => Some(*index as i64),
        _ => None,
    }
}

/// How a value looks in `no such key: x`.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        other => other.type_name().to_owned(),
    }
}

/// What is at an index or key, if anything is.
fn look_up<'a>(target: &Value<'a>, key: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
    match target {
        Value::List(list) => {
            let index = place(key).ok_or_else(EvalError::overload)?;
            let found = usize::try_from(index).ok().and_then(|index| list.get(index));
            found.transpose()
        }
        Value::Map(map) => map.find(key).transpose(),
        _ => Err(EvalError::overload()),
    }
}

fn index<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(inner)), key] => look_up(inner, key).map(Value::optional),
        [target, key] => look_up(target, key)?.ok_or_else(|| {
            EvalError::new(match target {
                Value::List(_) => format!("index out of bounds: {}", shown(key)),
                _ => format!("no such key: {}", shown(key)),
            })
        }),
        _ => no_overload(),
    }
}

fn optional_index<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(inner)), key] => look_up(inner, key).map(Value::optional),
        [target, key] => look_up(target, key).map(Value::optional),
        _ => no_overload(),
    }
}

fn is_in<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [item, Value::List(list)] => {
            for one in list.iter() {
                if equal(context, &one?, item)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(map.find(key).is_some())),
        _ => no_overload(),
    }
}

fn size<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let size = match args {
        [Value::String(text)] => {
            context.bytes(text.len())?;
            text.chars().count()
        }
        [Value::Bytes(bytes)] => bytes.len(),
        [Value::List(list)] => list.len(),
        [Value::Map(map)] => map.len(),
        _ => return no_overload(),
    };
    Ok(Value::Int(count(size)))
}
