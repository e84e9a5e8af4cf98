//! Which values are equal, and which is less. Every comparison counts its steps.

use std::cmp::Ordering;

use serde_json::Value as Json;

use crate::context::Context;
use crate::decl::{ListKind, Object};
use crate::error::EvalError;
use crate::json::from_json;
use crate::value::{Entries, Items, Library, List, Map, MapDecl, Value};

type Compared = Result<bool, EvalError>;

/// Whether they are equal. Values of different types are not, but for numbers, which are compared as numbers.
pub(crate) fn equal(context: &mut Context, one: &Value<'_>, other: &Value<'_>) -> Compared {
    context.work(4)?;
    Ok(match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => {
            context.bytes(a.len().min(b.len()))?;
            **a == **b
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            context.bytes(a.len().min(b.len()))?;
            a == b
        }
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => equal(context, a, b)?,
            _ => false,
        },
        (Value::List(a), Value::List(b)) => lists(context, a, b)?,
        (Value::Map(a), Value::Map(b)) => maps(context, a, b)?,
        (Value::Library(a), Value::Library(b)) => libraries(a, b),
        _ => numbers(one, other) == Some(Ordering::Equal),
    })
}

fn libraries(one: &Library<'_>, other: &Library<'_>) -> bool {
    match (one, other) {
        (Library::Url(a), Library::Url(b)) => a == b,
        (Library::Ip(a), Library::Ip(b)) => a == b,
        (Library::Cidr(a, length), Library::Cidr(b, other)) => a == b && length == other,
        (Library::Quantity(a), Library::Quantity(b)) => a == b,
        (Library::Semver(a), Library::Semver(b)) => a.cmp(b) == Ordering::Equal,
        (Library::Format(a), Library::Format(b)) => a.name == b.name,
        (Library::Check(a), Library::Check(b)) => a.subject == b.subject && a.stage == b.stage,
        _ => false,
    }
}

fn lists(context: &mut Context, one: &List<'_>, other: &List<'_>) -> Compared {
    if one.len() != other.len() {
        return Ok(false);
    }
    match one.kind() {
        (ListKind::Atomic, _) => {
            for (a, b) in one.iter().zip(other.iter()) {
                if !equal(context, &a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ListKind::Set, _) => each_has_its_like(context, one, other, |_, _| true),
        (ListKind::Map, keys) => {
            if let (Items::Json { items: a, .. }, Items::Json { items: b, .. }) = (&one.0, &other.0) {
                return by_key(context, (one, a), (other, b), keys);
            }
            each_has_its_like(context, one, other, |_, _| true)
        }
    }
}

/// Whether each item of one list is in the other.
fn each_has_its_like<'a>(
    context: &mut Context,
    one: &List<'a>,
    other: &List<'a>,
    may_be: fn(&Value<'a>, &Value<'a>) -> bool,
) -> Compared {
    for a in one.iter() {
        let a = a?;
        let mut found = false;
        for b in other.iter() {
            let b = b?;
            if may_be(&a, &b) && equal(context, &a, &b)? {
                found = true;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The values of the keys of an item of a list of kind map, as text that is the same for the same keys.
pub(super) fn key_text(item: &Json, keys: &[String]) -> String {
    let mut text = String::new();
    for key in keys {
        if let Some(value) = item.get(key) {
            text.push_str(&value.to_string());
        }
        text.push('\0');
    }
    text
}

fn by_key(
    context: &mut Context,
    (one, a): (&List<'_>, &[Json]),
    (other, b): (&List<'_>, &[Json]),
    keys: &[String],
) -> Compared {
    context.work(4 * crate::value::size(a.len() + b.len()))?;
    let known: std::collections::HashMap<String, usize> =
        b.iter().enumerate().map(|(index, item)| (key_text(item, keys), index)).collect();
    for (index, item) in a.iter().enumerate() {
        let counterpart = known.get(&key_text(item, keys)).and_then(|index| other.get(*index));
        let (Some(a), Some(b)) = (one.get(index), counterpart) else { return Ok(false) };
        if !equal(context, &a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(known.len() == a.len())
}

fn maps(context: &mut Context, one: &Map<'_>, other: &Map<'_>) -> Compared {
    if one.len() != other.len() {
        return Ok(false);
    }
    if let (
        Entries::Json { map: a, decl: MapDecl::Object(object) },
        Entries::Json { map: b, decl: MapDecl::Object(_) },
    ) = (&one.0, &other.0)
    {
        return objects(context, a, b, object);
    }
    // Each key is looked for in both.
    context.work(crate::value::size(one.len()).saturating_mul(8))?;
    for (key, a) in one.entries() {
        let Some(b) = other.find(&key) else { return Ok(false) };
        if !equal(context, &a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

type Fields = serde_json::Map<String, Json>;

/// Fields that are not declared are compared as JSON.
fn objects(context: &mut Context, one: &Fields, other: &Fields, object: &Object) -> Compared {
    for (name, a) in one {
        let Some(b) = other.get(name) else { return Ok(false) };
        let same = match object.property(name) {
            Some(field) => equal(context, &from_json(a, &field.decl)?, &from_json(b, &field.decl)?)?,
            None => {
                context.work(1)?;
                raw(context, a, b)?
            }
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn raw(context: &mut Context, one: &Json, other: &Json) -> Compared {
    context.work(1)?;
    Ok(match (one, other) {
        (Json::Array(a), Json::Array(b)) => {
            for (a, b) in a.iter().zip(b) {
                if !raw(context, a, b)? {
                    return Ok(false);
                }
            }
            a.len() == b.len()
        }
        (Json::Object(a), Json::Object(b)) => {
            for (name, a) in a {
                match b.get(name) {
                    Some(b) if raw(context, a, b)? => {}
                    _ => return Ok(false),
                }
            }
            a.len() == b.len()
        }
        (Json::String(a), Json::String(b)) => {
            context.bytes(a.len().min(b.len()))?;
            a == b
        }
        _ => one == other,
    })
}

/// Which of two is less.
pub(super) fn compare(
    context: &mut Context,
    one: &Value<'_>,
    other: &Value<'_>,
) -> Result<Ordering, EvalError> {
    context.work(1)?;
    Ok(match (one, other) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => {
            context.bytes(a.len().min(b.len()))?;
            a.cmp(b)
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            context.bytes(a.len().min(b.len()))?;
            a.cmp(b)
        }
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        _ if is_number(one) && is_number(other) => {
            numbers(one, other).ok_or_else(|| EvalError::new("NaN values cannot be ordered"))?
        }
        _ => return Err(EvalError::overload()),
    })
}

const fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}

/// The order of two numbers of any type; none if one is no number at all.
fn numbers(one: &Value<'_>, other: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (whole(one), whole(other), one, other) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (Some(a), None, _, Value::Double(b)) => with_double(a, *b),
        (None, Some(b), Value::Double(a), _) => with_double(b, *a).map(Ordering::reverse),
        (None, None, Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        _ => None,
    }
}

/// The exact order of a whole number and a double.
#[allow(clippy::cast_possible_truncation)]
fn with_double(whole: i128, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 4e19;
    if double.is_nan() {
        return None;
    }
    if double.abs() > BEYOND {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let order = whole.cmp(&(double.trunc() as i128));
    Some(order.then_with(|| 0.0_f64.total_cmp(&(double.fract() + 0.0))))
}
