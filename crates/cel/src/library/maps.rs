//! What transformations of maps collect.

use std::sync::Arc;

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Entries, Key, Map, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[decl(
    "cel.@mapInsert",
    Cost::One,
    insert,
    &[
        ("@mapInsert_map_key_value", "(map(K, V), K, V) -> map(K, V)"),
        ("@mapInsert_map_map", "(map(K, V), map(K, V)) -> map(K, V)"),
    ],
)];

fn insert<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let mut args = args.to_vec();
    insert_into(context, &mut args)
}

/// The first of the arguments with the others added. It is changed in place if nobody else holds it.
pub(crate) fn insert_into<'a>(context: &mut Context, args: &mut Vec<Value<'a>>) -> Outcome<'a> {
    if args.is_empty() {
        return no_overload();
    }
    let target = args.remove(0);
    let Value::Map(Map(Entries::Shared(mut entries))) = target else { return no_overload() };
    let mut add = |context: &mut Context, key: Value<'a>, value: Value<'a>| {
        context.entries(1)?;
        let Some(found) = Key::of(&key) else {
            return Err(EvalError::new(format!("unsupported key type: {}", key.type_name())));
        };
        if entries.contains_key(&found) {
            let shown = super::convert::text_of(&key).unwrap_or_default();
            return Err(EvalError::new(format!("insert failed: key {shown} already exists")));
        }
        Arc::make_mut(&mut entries).insert(found, (key, value));
        Ok(())
    };
    match args.as_slice() {
        [key, value] => add(context, key.clone(), value.clone())?,
        [Value::Map(map)] => {
            for (key, value) in map.entries() {
                add(context, key, value?)?;
            }
        }
        _ => return no_overload(),
    }
    Ok(Value::Map(Map(Entries::Shared(entries))))
}
