//! Lists as sets.

use super::equality::equal;
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{List, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl(
        "sets.contains",
        Cost::Sets { twice: false },
        contains,
        &[("list_sets_contains_list", "(list(T), list(T)) -> bool")],
    ),
    decl(
        "sets.equivalent",
        Cost::Sets { twice: true },
        equivalent,
        &[("list_sets_equivalent_list", "(list(T), list(T)) -> bool")],
    ),
    decl(
        "sets.intersects",
        Cost::Sets { twice: false },
        intersects,
        &[("list_sets_intersects_list", "(list(T), list(T)) -> bool")],
    ),
];

fn has<'a>(context: &mut Context, list: &List<'a>, item: &Value<'a>) -> Result<bool, EvalError> {
    for one in list.iter() {
        if equal(context, &one?, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_all<'a>(context: &mut Context, list: &List<'a>, of: &List<'a>) -> Result<bool, EvalError> {
    for item in of.iter() {
        if !has(context, list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::List(of)] = args else { return no_overload() };
    Ok(Value::Bool(has_all(context, list, of)?))
}

fn equivalent<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(one), Value::List(other)] = args else { return no_overload() };
    Ok(Value::Bool(has_all(context, one, other)? && has_all(context, other, one)?))
}

fn intersects<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(one), Value::List(other)] = args else { return no_overload() };
    for item in one.iter() {
        if has(context, other, &item?)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
