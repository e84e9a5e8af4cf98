//! Sums, products and their kin. What does not fit is an error.

use jiff::{SignedDuration, Timestamp};

use super::equality::{equal, key_text};
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::decl::ListKind;
use crate::error::EvalError;
use crate::value::{Items, List, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl(
        "_+_",
        Cost::Add,
        add,
        &[
            ("add_bytes", "(bytes, bytes) -> bytes"),
            ("add_double", "(double, double) -> double"),
            ("add_duration_duration", "(duration, duration) -> duration"),
            ("add_duration_timestamp", "(duration, timestamp) -> timestamp"),
            ("add_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("add_int64", "(int, int) -> int"),
            ("add_list", "(list(A), list(A)) -> list(A)"),
            ("add_string", "(string, string) -> string"),
            ("add_uint64", "(uint, uint) -> uint"),
        ],
    ),
    decl(
        "_-_",
        Cost::One,
        subtract,
        &[
            ("subtract_double", "(double, double) -> double"),
            ("subtract_duration_duration", "(duration, duration) -> duration"),
            ("subtract_int64", "(int, int) -> int"),
            ("subtract_timestamp_duration", "(timestamp, duration) -> timestamp"),
            ("subtract_timestamp_timestamp", "(timestamp, timestamp) -> duration"),
            ("subtract_uint64", "(uint, uint) -> uint"),
        ],
    ),
    decl(
        "_*_",
        Cost::One,
        multiply,
        &[
            ("multiply_double", "(double, double) -> double"),
            ("multiply_int64", "(int, int) -> int"),
            ("multiply_uint64", "(uint, uint) -> uint"),
        ],
    ),
    decl(
        "_/_",
        Cost::One,
        divide,
        &[
            ("divide_double", "(double, double) -> double"),
            ("divide_int64", "(int, int) -> int"),
            ("divide_uint64", "(uint, uint) -> uint"),
        ],
    ),
    decl(
        "_%_",
        Cost::One,
        modulo,
        &[("modulo_int64", "(int, int) -> int"), ("modulo_uint64", "(uint, uint) -> uint")],
    ),
    decl(
        "-_",
        Cost::One,
        negate,
        &[("negate_double", "(double) -> double"), ("negate_int64", "(int) -> int")],
    ),
];

fn int<'a>(result: Option<i64>) -> Outcome<'a> {
    result.map(Value::Int).ok_or_else(|| EvalError::new("integer overflow"))
}

fn uint<'a>(result: Option<u64>) -> Outcome<'a> {
    result.map(Value::Uint).ok_or_else(|| EvalError::new("unsigned integer overflow"))
}

pub(super) fn duration<'a>(result: Option<i64>) -> Outcome<'a> {
    result.map(Value::Duration).ok_or_else(|| EvalError::new("duration overflow"))
}

/// A moment within the years that CEL knows, 1 to 9999.
pub(super) fn timestamp<'a>(result: Option<Timestamp>) -> Outcome<'a> {
    const FIRST: i64 = -62_135_596_800;
    let known = result.filter(|at| at.as_second() >= FIRST);
    known.map(Value::Timestamp).ok_or_else(|| EvalError::new("timestamp overflow"))
}

fn later(at: Timestamp, nanos: Option<i64>) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_nanos(nanos?)).ok()
}

pub(super) fn add<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => {
            context.make(a.len() + b.len())?;
            Ok([&**a, &**b].concat().into())
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            context.make(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        [Value::List(a), Value::List(b)] => join(context, a, b),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_add(*b)),
        [Value::Timestamp(at), Value::Duration(nanos)] | [Value::Duration(nanos), Value::Timestamp(at)] => {
            timestamp(later(*at, Some(*nanos)))
        }
        _ => no_overload(),
    }
}

/// Lists one after the other; sets united; of lists of kind map, the later items replace those of their keys.
fn join<'a>(context: &mut Context, one: &List<'a>, other: &List<'a>) -> Outcome<'a> {
    let (kind, keys) = one.kind();
    if kind == ListKind::Atomic {
        return Ok(Value::List(one.clone().join(context, other.clone())?));
    }
    context.items(one.len().saturating_add(other.len()))?;
    let mut items = one.iter().collect::<Result<Vec<_>, _>>()?;
    if let (ListKind::Map, Items::Json { items: a, .. }, Items::Json { items: b, .. }) =
        (kind, &one.0, &other.0)
    {
        context.work(4 * crate::value::size(a.len() + b.len()))?;
        let places = a.iter().enumerate().map(|(index, item)| (key_text(item, keys), index));
        let mut places: std::collections::HashMap<String, usize> = places.collect();
        for (json, item) in b.iter().zip(other.iter()) {
            let item = item?;
            let next = items.len();
            match items.get_mut(*places.entry(key_text(json, keys)).or_insert(next)) {
                Some(place) => *place = item,
                None => items.push(item),
            }
        }
        return Ok(items.into());
    }
    for item in other.iter() {
        let item = item?;
        let mut known = false;
        for one in &items {
            known = equal(context, one, &item)?;
            if known {
                break;
            }
        }
        if !known {
            items.push(item);
        }
    }
    Ok(items.into())
}

fn subtract<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_sub(*b)),
        [Value::Timestamp(at), Value::Duration(nanos)] => timestamp(later(*at, nanos.checked_neg())),
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            duration(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        _ => no_overload(),
    }
}

fn multiply<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => no_overload(),
    }
}

fn divide<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::new("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => no_overload(),
    }
}

fn modulo<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::new("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        _ => no_overload(),
    }
}

fn negate<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(value)] => int(value.checked_neg()),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => no_overload(),
    }
}
