//! Amounts, and the comparisons that versions have too.

use std::cmp::Ordering;

use apimachinery::quantity::Quantity;

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Library, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl("quantity", Cost::Once, quantity, &[("string_to_quantity", "(string) -> Quantity")]),
    decl("isQuantity", Cost::Once, is_quantity, &[("is_quantity_string", "(string) -> bool")]),
    decl("sign", Cost::One, sign, &[("quantity_sign", "Quantity.() -> int")]),
    decl(
        "isGreaterThan",
        Cost::One,
        is_greater,
        &[
            ("quantity_is_greater_than", "Quantity.(Quantity) -> bool"),
            ("semver_is_greater_than", "Semver.(Semver) -> bool"),
        ],
    ),
    decl(
        "isLessThan",
        Cost::One,
        is_less,
        &[
            ("quantity_is_less_than", "Quantity.(Quantity) -> bool"),
            ("semver_is_less_than", "Semver.(Semver) -> bool"),
        ],
    ),
    decl(
        "compareTo",
        Cost::One,
        compare_to,
        &[
            ("quantity_compare_to", "Quantity.(Quantity) -> int"),
            ("semver_compare_to", "Semver.(Semver) -> int"),
        ],
    ),
    decl("asApproximateFloat", Cost::One, as_float, &[("quantity_get_float", "Quantity.() -> double")]),
    decl("asInteger", Cost::One, as_integer, &[("quantity_get_int", "Quantity.() -> int")]),
    decl("isInteger", Cost::One, is_integer, &[("quantity_is_integer", "Quantity.() -> bool")]),
    decl(
        "add",
        Cost::One,
        add,
        &[
            ("quantity_add", "Quantity.(Quantity) -> Quantity"),
            ("quantity_add_int", "Quantity.(int) -> Quantity"),
        ],
    ),
    decl(
        "sub",
        Cost::One,
        sub,
        &[
            ("quantity_sub", "Quantity.(Quantity) -> Quantity"),
            ("quantity_sub_int", "Quantity.(int) -> Quantity"),
        ],
    ),
];

fn amount(quantity: Quantity) -> Value<'static> {
    Value::Library(Library::Quantity(quantity))
}

fn quantity<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    text.parse()
        .map(amount)
        .map_err(|error: apimachinery::quantity::QuantityError| EvalError::new(error.to_string()))
}

fn is_quantity<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    Ok(Value::Bool(text.parse::<Quantity>().is_ok()))
}

fn sign<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Quantity(of))] => Ok(Value::Int(of.signum().into())),
        _ => no_overload(),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match args {
        [Value::Library(Library::Quantity(one)), Value::Library(Library::Quantity(other))] => {
            Ok(one.cmp(other))
        }
        [Value::Library(Library::Semver(one)), Value::Library(Library::Semver(other))] => Ok(one.cmp(other)),
        _ => Err(EvalError::overload()),
    }
}

fn is_greater<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(order(args)?.is_gt()))
}

fn is_less<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(order(args)?.is_lt()))
}

fn compare_to<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Int(match order(args)? {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }))
}

fn as_float<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Quantity(of))] => Ok(Value::Double(of.approximate())),
        _ => no_overload(),
    }
}

/// The amount as a whole number, if it is one.
fn whole(of: &Quantity) -> Option<i64> {
    Some(of.value()).filter(|value| Quantity::from_units(*value) == *of)
}

fn as_integer<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Quantity(of))] => {
            whole(of).map(Value::Int).ok_or_else(|| EvalError::new("cannot convert value to integer"))
        }
        _ => no_overload(),
    }
}

fn is_integer<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Quantity(of))] => Ok(Value::Bool(whole(of).is_some())),
        _ => no_overload(),
    }
}

fn operands(args: &[Value<'_>]) -> Result<(Quantity, Quantity), EvalError> {
    match args {
        [Value::Library(Library::Quantity(one)), Value::Library(Library::Quantity(other))] => {
            Ok((*one, *other))
        }
        [Value::Library(Library::Quantity(one)), Value::Int(units)] => {
            Ok((*one, Quantity::from_units(*units)))
        }
        _ => Err(EvalError::overload()),
    }
}

fn add<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (one, other) = operands(args)?;
    Ok(amount(one + other))
}

fn sub<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (one, other) = operands(args)?;
    Ok(amount(one - other))
}
