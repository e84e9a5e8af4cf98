//! The functions that expressions may call: their names, signatures, costs and what they do, a table a module.
//!
//! What is here is what upstream's base environment turns on at v1.36 (`apiserver/pkg/cel/environment/base.go`): the standard
//! library, optional values, `strings` 2, `sets`, `lists` 3, two-variable comprehensions, and Kubernetes' own `lists`, `url`,
//! `regex`, `authz` with selectors, `quantity`, `ip`, `cidr`, `format` and `semver` 1. `cel.bind` is not.

mod arithmetic;
mod authz;
mod convert;
pub(crate) mod encoding;
pub(crate) mod equality;
pub(crate) mod format;
pub(crate) mod interpolate;
mod lists;
pub(crate) mod maps;
mod net;
mod operators;
mod optional;
mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
mod sets;
mod signature;
mod sort;
mod strings;
pub(crate) mod time;
pub(crate) mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::cel_type::Type;
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Outcome, Value};

/// What a function does with its arguments; a method's target is the first.
pub(crate) type Run = for<'a> fn(&mut Context, &[Value<'a>]) -> Outcome<'a>;

/// A function as its module declares it: overloads are an identifier and a signature, `string.(int) -> string` of a method.
struct Decl {
    name: &'static str,
    cost: Cost,
    run: Run,
    overloads: &'static [(&'static str, &'static str)],
}

const fn decl(
    name: &'static str,
    cost: Cost,
    run: Run,
    overloads: &'static [(&'static str, &'static str)],
) -> Decl {
    Decl { name, cost, run, overloads }
}

/// A function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) cost: Cost,
    pub(crate) run: Run,
    pub(crate) overloads: Vec<Overload>,
}

/// One way of calling a function.
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    pub(crate) method: bool,
    /// The target of a method first.
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// How many type parameters it has.
    pub(crate) params: u32,
}

const TABLES: [&[Decl]; 17] = [
    operators::TABLE,
    arithmetic::TABLE,
    convert::TABLE,
    time::TABLE,
    strings::TABLE,
    interpolate::TABLE,
    lists::TABLE,
    sort::TABLE,
    sets::TABLE,
    maps::TABLE,
    optional::TABLE,
    regex::TABLE,
    url::TABLE,
    net::TABLE,
    quantity::TABLE,
    semver::TABLE,
    authz::TABLE,
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let declared = TABLES.iter().copied().flatten().chain(format::TABLE).chain(format::NAMED);
    let made = declared.map(|decl| {
        let overloads = decl.overloads.iter().filter_map(|(id, text)| signature::parse(id, text)).collect();
        (decl.name, Function { name: decl.name, cost: decl.cost, run: decl.run, overloads })
    });
    made.collect()
});

/// The function of that name.
pub(crate) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

/// No function takes these values.
fn no_overload<'a>() -> Outcome<'a> {
    Err(EvalError::overload())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_read() {
        let declared: usize = TABLES
            .iter()
            .copied()
            .flatten()
            .chain(format::TABLE)
            .chain(format::NAMED)
            .map(|decl| decl.overloads.len())
            .sum();
        let read: usize = FUNCTIONS.values().map(|function| function.overloads.len()).sum();
        assert_eq!(read, declared);
    }

    #[test]
    fn a_name_is_declared_once() {
        let mut seen = std::collections::HashSet::new();
        for decl in TABLES.iter().copied().flatten().chain(format::TABLE).chain(format::NAMED) {
            assert!(seen.insert(decl.name), "{}", decl.name);
        }
    }
}
