//! What a policy's expressions get wrong of the kinds that it is about. Nothing is refused for it: a policy may be about kinds
//! that are to come, and is evaluated on objects as they are.

use cel::DeclType;
use serde_json::Value;

use crate::environment::of_objects;
use crate::policy::{Environments, list, text};

/// A kind that a policy is about.
#[derive(Clone, Debug)]
pub struct Typed {
    /// As people know it: `apps/v1, Kind=Deployment`.
    pub name: String,
    /// What its objects are; `DeclType::dynamic()` where nobody knows.
    pub decl: DeclType,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it is: `spec.validations[0].expression`.
    pub field: String,
    /// For each kind of which something is wrong: its name, and the errors with the place at fault.
    pub warning: String,
}

/// Looks through the `spec` of a policy: the validations and what makes their messages. Expressions may speak of `params` if these
/// are declared.
pub fn type_check(spec: &Value, kinds: &[Typed], params: Option<&DeclType>) -> Vec<Warning> {
    let known: Vec<(&str, Environments)> =
        kinds.iter().map(|kind| (kind.name.as_str(), of_kind(spec, &kind.decl, params))).collect();
    let mut warnings = Vec::new();
    for (at, validation) in list(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, field);
            if source.is_empty() {
                continue;
            }
            let wrong = known.iter().filter_map(|(kind, environments)| {
                let errors = environments.full.compile(source).err()?;
                Some(format!("{kind}: {errors}\n"))
            });
            let wrong: Vec<String> = wrong.collect();
            if !wrong.is_empty() {
                warnings.push(Warning {
                    field: format!("spec.validations[{at}].{field}"),
                    warning: wrong.join("\n"),
                });
            }
        }
    }
    warnings
}

/// What expressions may speak of where objects are of that type: the policy's variables have the types that follow from it.
fn of_kind(spec: &Value, decl: &DeclType, params: Option<&DeclType>) -> Environments {
    let object = decl.clone().nullable();
    let of = |authorizer| of_objects(&object, params.cloned().map(DeclType::nullable), authorizer);
    let mut environments = Environments { full: of(true), plain: of(false) }.composed();
    for variable in list(spec, "variables") {
        environments = environments.add(text(variable, "name"), text(variable, "expression")).0;
    }
    environments
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn web() -> Typed {
        let spec = DeclType::plain_object("Web.spec", [("replicas".to_owned(), DeclType::int())]);
        let decl = DeclType::plain_object("Web", [("spec".to_owned(), spec)]);
        Typed { name: "example.com/v1, Kind=Web".to_owned(), decl }
    }

    fn warnings(spec: &Value, kinds: &[Typed]) -> Vec<(String, String)> {
        let found = type_check(spec, kinds, None);
        found.into_iter().map(|warning| (warning.field, warning.warning)).collect()
    }

    #[test]
    fn what_is_right_is_not_warned_of() {
        let spec = json!({
            "variables": [{ "name": "many", "expression": "object.spec.replicas > 3" }],
            "validations": [
                { "expression": "!variables.many && (oldObject == null || oldObject.spec.replicas < 3)" },
                { "expression": "authorizer.group('').resource('pods').check('get').allowed()",
                  "messageExpression": "'too many: ' + string(object.spec.replicas)" },
            ],
        });
        assert_eq!(warnings(&spec, &[web()]), []);
    }

    #[test]
    fn what_is_wrong_is_shown_for_each_kind_and_field() {
        let spec = json!({
            "validations": [
                { "expression": "object.spec.replcas > 1", "messageExpression": "object.spec.replicas + 'x'" },
                { "expression": "params.limit > 1" },
            ],
        });
        let other = Typed { name: "v1, Kind=Any".to_owned(), decl: DeclType::dynamic() };
        let found = warnings(&spec, &[web(), other]);
        let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
        let wanted = [
            "spec.validations[0].expression",
            "spec.validations[0].messageExpression",
            "spec.validations[1].expression",
        ];
        assert_eq!(fields, wanted);
        assert_eq!(
            found[0].1,
            "example.com/v1, Kind=Web: ERROR: <input>:1:12: undefined field 'replcas'\n | object.spec.replcas > 1\n \
             | ...........^\n",
        );
        assert!(found[1].1.contains("no matching overload for '_+_'"), "{}", found[1].1);
        assert!(found[2].1.contains("v1, Kind=Any: ERROR: <input>:1:1: undeclared reference to 'params'"));
    }

    #[test]
    fn variables_have_the_types_that_follow() {
        let spec = json!({
            "variables": [{ "name": "wanted", "expression": "object.spec.replicas" }],
            "validations": [{ "expression": "variables.wanted == 'three'" }],
        });
        assert_eq!(warnings(&spec, &[web()]).len(), 1);
    }
}
