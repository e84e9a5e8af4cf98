//! Lists: Kubernetes' own, and those of `lists` 3 that do not sort.

use std::cmp::Ordering;

use super::equality::{compare, equal};
use super::{Decl, arithmetic, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{List, Outcome, Value};

/// The overloads of what gives one of comparable items.
macro_rules! comparable {
    ($name:literal) => {
        [
            (concat!("list_int_", $name, "_int"), "list(int).() -> int"),
            (concat!("list_uint_", $name, "_uint"), "list(uint).() -> uint"),
            (concat!("list_double_", $name, "_double"), "list(double).() -> double"),
            (concat!("list_bool_", $name, "_bool"), "list(bool).() -> bool"),
            (concat!("list_duration_", $name, "_duration"), "list(duration).() -> duration"),
            (concat!("list_timestamp_", $name, "_timestamp"), "list(timestamp).() -> timestamp"),
            (concat!("list_string_", $name, "_string"), "list(string).() -> string"),
            (concat!("list_bytes_", $name, "_bytes"), "list(bytes).() -> bytes"),
        ]
    };
}

pub(super) const TABLE: &[Decl] = &[
    decl(
        "isSorted",
        Cost::Scan,
        is_sorted,
        &[
            ("list_int_is_sorted_bool", "list(int).() -> bool"),
            ("list_uint_is_sorted_bool", "list(uint).() -> bool"),
            ("list_double_is_sorted_bool", "list(double).() -> bool"),
            ("list_bool_is_sorted_bool", "list(bool).() -> bool"),
            ("list_duration_is_sorted_bool", "list(duration).() -> bool"),
            ("list_timestamp_is_sorted_bool", "list(timestamp).() -> bool"),
            ("list_string_is_sorted_bool", "list(string).() -> bool"),
            ("list_bytes_is_sorted_bool", "list(bytes).() -> bool"),
        ],
    ),
    decl(
        "sum",
        Cost::Scan,
        sum,
        &[
            ("list_int_sum_int", "list(int).() -> int"),
            ("list_uint_sum_uint", "list(uint).() -> uint"),
            ("list_double_sum_double", "list(double).() -> double"),
            ("list_duration_sum_duration", "list(duration).() -> duration"),
        ],
    ),
    decl("max", Cost::Scan, max, &comparable!("max")),
    decl("min", Cost::Scan, min, &comparable!("min")),
    decl("slice", Cost::Slice, slice, &[("list_slice", "list(T).(int, int) -> list(T)")]),
    decl(
        "flatten",
        Cost::Flatten,
        flatten,
        &[
            ("list_flatten", "list(list(T)).() -> list(T)"),
            ("list_flatten_int", "list(dyn).(int) -> list(dyn)"),
        ],
    ),
    decl("lists.range", Cost::Range, range, &[("lists_range", "(int) -> list(int)")]),
    decl("reverse", Cost::Reverse, reverse, &[("list_reverse", "list(T).() -> list(T)")]),
    decl("distinct", Cost::Distinct, distinct, &[("list_distinct", "list(T).() -> list(T)")]),
];

fn is_sorted<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut before = None;
    for item in list.iter() {
        let item = item?;
        if let Some(before) = &before
            && compare(context, before, &item)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, zero) = match args {
        [Value::List(list)] => (list, None),
        [Value::List(list), zero] => (list, Some(zero)),
        _ => return no_overload(),
    };
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        context.work(1)?;
        total = Some(match total {
            Some(total) => arithmetic::add(context, &[total, item])?,
            None => item,
        });
    }
    // Of an empty list only the checker may have known the type.
    Ok(total.or(zero.cloned()).unwrap_or(Value::Int(0)))
}

fn extreme<'a>(context: &mut Context, args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        best = Some(match best {
            Some(best) if compare(context, &item, &best)? != wanted => best,
            _ => item,
        });
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn max<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(context, args, "max", Ordering::Greater)
}

fn min<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(context, args, "min", Ordering::Less)
}

fn slice<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return no_overload() };
    let why = match (usize::try_from(*start), usize::try_from(*end)) {
        (Ok(from), Ok(to)) if from <= to && to <= list.len() => {
            context.items(to - from)?;
            let items = (from..to).map_while(|index| list.get(index)).collect::<Result<Vec<_>, _>>()?;
            return Ok(items.into());
        }
        (Ok(from), Ok(to)) if from > to => "start index must be less than or equal to end index".to_owned(),
        (Ok(_), Ok(_)) => format!("list is length {}", list.len()),
        _ => "negative indexes not supported".to_owned(),
    };
    Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")))
}

fn flatten<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return no_overload(),
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut flat = Vec::new();
    flatten_into(context, list, depth, &mut flat)?;
    Ok(flat.into())
}

/// Lists nest no deeper than JSON or expressions do.
fn flatten_into<'a>(
    context: &mut Context,
    list: &List<'a>,
    depth: i64,
    flat: &mut Vec<Value<'a>>,
) -> Result<(), EvalError> {
    for item in list.iter() {
        context.work(1)?;
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(context, &inner, depth - 1, flat)?,
            other => {
                context.items(1)?;
                flat.push(other);
            }
        }
    }
    Ok(())
}

fn range<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Int(count)] = args else { return no_overload() };
    let wanted = usize::try_from(*count).unwrap_or(0);
    context.items(wanted)?;
    Ok((0..*count).map(Value::Int).collect::<Vec<_>>().into())
}

fn reverse<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    context.items(list.len())?;
    let mut items = list.iter().collect::<Result<Vec<_>, _>>()?;
    items.reverse();
    Ok(items.into())
}

fn distinct<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut unique: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        let item = item?;
        let mut known = false;
        for one in &unique {
            known = equal(context, one, &item)?;
            if known {
                break;
            }
        }
        if !known {
            context.items(1)?;
            unique.push(item);
        }
    }
    Ok(unique.into())
}
