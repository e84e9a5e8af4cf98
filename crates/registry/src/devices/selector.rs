//! Selectors of devices: CEL over the variable `device`, checked and bounded when somebody stores them.

use std::sync::LazyLock;

use apimachinery::field::{FieldError, Path};
use cel::{DeclType, Env, Type};
use serde_json::Value;

use super::device::{MAX_ATTRIBUTES, MAX_VALUE};
use super::lists;
use super::names::{MAX_DOMAIN, MAX_IDENTIFIER};
use crate::tree::{at, text};

/// Most selectors of a request or a class.
const MAX_SELECTORS: usize = 32;
/// Longest expression, in bytes.
const MAX_EXPRESSION: usize = 10 * 1024;
/// Most that an evaluation may cost, in CEL's units.
const MAX_COST: u64 = 1_000_000;

/// What upstream declares of a device, sizes included.
static ENV: LazyLock<Env> = LazyLock::new(|| {
    let text_of = |size: usize| DeclType::string(Some(size as u64));
    let entries = Some(MAX_ATTRIBUTES as u64);
    let by_domain = |values: DeclType| {
        let ids = DeclType::map_of(MAX_IDENTIFIER as u64, values, entries);
        DeclType::map_of(MAX_DOMAIN as u64, ids, entries)
    };
    let fields = [
        ("driver", text_of(MAX_DOMAIN)),
        ("allowMultipleAllocations", DeclType::bool().sized(1)),
        ("attributes", by_domain(DeclType::any().sized(MAX_VALUE as u64))),
        ("capacity", by_domain(DeclType::quantity())),
    ];
    let fields = fields.map(|(name, decl)| (name.to_owned(), decl));
    Env::new().with_variable("device", DeclType::plain_object("kubernetes.DRADevice", fields)).with_bindings()
});

/// Checks a list of selectors. Of those that are stored already the expressions count as good.
pub(super) fn validate_all(list: &[Value], stored: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    lists::each(list, MAX_SELECTORS, path, errors, |selector, path, errors| {
        let at_cel = path.child("cel");
        if at(selector, &["cel"]).is_none() {
            errors.push(FieldError::required(&at_cel, ""));
        } else if !stored {
            let expression = text(selector, &["cel", "expression"]);
            errors.extend(fault(expression, &at_cel.child("expression")));
        }
    });
}

fn fault(expression: &str, path: &Path<'_>) -> Option<FieldError> {
    if expression.len() > MAX_EXPRESSION {
        return Some(FieldError::too_long(path, MAX_EXPRESSION));
    }
    let program = match ENV.compile(expression) {
        Ok(program) => program,
        Err(errors) => {
            let why = format!("compilation failed: {errors}");
            return Some(FieldError::invalid(path, expression, why));
        }
    };
    let found = program.result_type();
    if !matches!(found, Type::Bool | Type::Any) {
        let why = format!("must evaluate to bool or the unknown type, not {}", named(found));
        return Some(FieldError::invalid(path, expression, why));
    }
    (program.cost().max > MAX_COST).then(|| FieldError::forbidden(path, "too complex, exceeds cost limit"))
}

/// A type by the name that its values have, which for three is not the one that messages of the checker use.
fn named(of: &Type) -> String {
    match of {
        Type::Null => "null_type".to_owned(),
        Type::Duration => "google.protobuf.Duration".to_owned(),
        Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures are those that upstream's own test of its compiler promises.
    #[test]
    fn costs_are_upstreams() {
        let own = "device.attributes[\"dra.example.com\"]";
        let capacity = "device.capacity[\"dra.example.com\"]";
        for (expression, cost) in [
            ("true".to_owned(), 0),
            ("\"dra.example.com\" in device.attributes".to_owned(), 3),
            ("device.driver == \"dra.example.com\"".to_owned(), 4),
            ("device.allowMultipleAllocations == true".to_owned(), 3),
            (format!("{own}.name"), 4),
            (format!("{own}[\"name\"]"), 4),
            (format!("cel.bind(dra, {own}, dra.name)"), 15),
            (format!("{own}.name > 0"), 5),
            (format!("{own}.name == \"fish\""), 5),
            (format!("{own}.name.isGreaterThan(semver(\"0.0.1\"))"), 6),
            (format!("{capacity}.name.isGreaterThan(quantity(\"1Ki\"))"), 6),
            (format!("\"name\" in {capacity} && {capacity}.name.isGreaterThan(quantity(\"1Ki\"))"), 10),
            (format!("{own}.a && {own}.b && {own}.c"), 12),
            ("device.attributes.exists_one(x, x == \"dra.example.com\")".to_owned(), 164),
            (format!("{own}.exists_one(x, x == \"services\")"), 133),
            (format!("{own}.services.split(\"example\").size() >= 2"), 19),
            (format!("{own}.services.matches(\"[^a]?sym\")"), 18),
            ("device.capacity.exists_one(x, x == \"dra.example.com\")".to_owned(), 164),
            (format!("{capacity}.exists_one(x, x == \"memory\")"), 133),
        ] {
            let program = ENV.compile(&expression).unwrap_or_else(|errors| panic!("{expression}: {errors}"));
            assert_eq!(program.cost().max, cost, "{expression}");
            assert_eq!(fault(&expression, &Path::new("e")), None, "{expression}");
        }
    }
}
