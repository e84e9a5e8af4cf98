//! Lists in order, by their items or by keys.

use std::cmp::Ordering;

use super::equality::compare;
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{List, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl(
        "sort",
        Cost::Sort,
        sort,
        &[
            ("list_int_sort", "list(int).() -> list(int)"),
            ("list_uint_sort", "list(uint).() -> list(uint)"),
            ("list_double_sort", "list(double).() -> list(double)"),
            ("list_bool_sort", "list(bool).() -> list(bool)"),
            ("list_duration_sort", "list(duration).() -> list(duration)"),
            ("list_timestamp_sort", "list(timestamp).() -> list(timestamp)"),
            ("list_string_sort", "list(string).() -> list(string)"),
            ("list_bytes_sort", "list(bytes).() -> list(bytes)"),
        ],
    ),
    decl(
        "@sortByAssociatedKeys",
        Cost::SortBy,
        sort_by,
        &[
            ("list_int_sortByAssociatedKeys", "list(T).(list(int)) -> list(T)"),
            ("list_uint_sortByAssociatedKeys", "list(T).(list(uint)) -> list(T)"),
            ("list_double_sortByAssociatedKeys", "list(T).(list(double)) -> list(T)"),
            ("list_bool_sortByAssociatedKeys", "list(T).(list(bool)) -> list(T)"),
            ("list_duration_sortByAssociatedKeys", "list(T).(list(duration)) -> list(T)"),
            ("list_timestamp_sortByAssociatedKeys", "list(T).(list(timestamp)) -> list(T)"),
            ("list_string_sortByAssociatedKeys", "list(T).(list(string)) -> list(T)"),
            ("list_bytes_sortByAssociatedKeys", "list(T).(list(bytes)) -> list(T)"),
        ],
    ),
];

fn sort<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    sorted(context, list, list)
}

fn sort_by<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::List(keys)] = args else { return no_overload() };
    if list.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        )));
    }
    sorted(context, list, keys)
}

fn sorted<'a>(context: &mut Context, list: &List<'a>, keys: &List<'a>) -> Outcome<'a> {
    context.items(list.len().saturating_mul(2))?;
    let mut pairs = Vec::with_capacity(list.len());
    for (key, item) in keys.iter().zip(list.iter()) {
        pairs.push((key?, item?));
    }
    if let Some((first, _)) = pairs.first() {
        let kind = first.type_name();
        let comparable = matches!(
            first,
            Value::Int(_)
                | Value::Uint(_)
                | Value::Double(_)
                | Value::Bool(_)
                | Value::Duration(_)
                | Value::Timestamp(_)
                | Value::String(_)
                | Value::Bytes(_)
        );
        if !comparable {
            return Err(EvalError::new("list elements must be comparable"));
        }
        if pairs.iter().any(|(key, _)| key.type_name() != kind) {
            return Err(EvalError::new("list elements must have the same type"));
        }
    }
    let mut fault = None;
    pairs.sort_by(|(one, _), (other, _)| match compare(context, one, other) {
        Ok(order) => order,
        Err(error) => {
            if error.is_final() || fault.is_none() {
                fault = Some(error);
            }
            Ordering::Equal
        }
    });
    match fault {
        Some(error) if error.is_final() => Err(error),
        // Numbers that are none have no place: they stay where they are.
        _ => Ok(pairs.into_iter().map(|(_, item)| item).collect::<Vec<_>>().into()),
    }
}
