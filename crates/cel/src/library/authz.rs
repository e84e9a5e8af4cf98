//! Questions to the authorizer.

use apimachinery::meta::names;

use super::{Decl, decl, no_overload};
use crate::authorizer::{Check, Decision, ResourceTarget, Stage, Subject, Target};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Library, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl("path", Cost::One, path, &[("authorizer_path", "Authorizer.(string) -> PathCheck")]),
    decl("group", Cost::One, group, &[("authorizer_group", "Authorizer.(string) -> GroupCheck")]),
    decl(
        "serviceAccount",
        Cost::One,
        service_account,
        &[("authorizer_serviceaccount", "Authorizer.(string, string) -> Authorizer")],
    ),
    decl("resource", Cost::One, resource, &[("groupcheck_resource", "GroupCheck.(string) -> ResourceCheck")]),
    decl(
        "subresource",
        Cost::One,
        subresource,
        &[("resourcecheck_subresource", "ResourceCheck.(string) -> ResourceCheck")],
    ),
    decl(
        "namespace",
        Cost::One,
        namespace,
        &[("resourcecheck_namespace", "ResourceCheck.(string) -> ResourceCheck")],
    ),
    decl("name", Cost::One, name, &[("resourcecheck_name", "ResourceCheck.(string) -> ResourceCheck")]),
    decl(
        "fieldSelector",
        Cost::Selector,
        field_selector,
        &[("authorizer_fieldselector", "ResourceCheck.(string) -> ResourceCheck")],
    ),
    decl(
        "labelSelector",
        Cost::Selector,
        label_selector,
        &[("authorizer_labelselector", "ResourceCheck.(string) -> ResourceCheck")],
    ),
    decl(
        "check",
        Cost::Check,
        check,
        &[
            ("pathcheck_check", "PathCheck.(string) -> Decision"),
            ("resourcecheck_check", "ResourceCheck.(string) -> Decision"),
        ],
    ),
    decl("errored", Cost::One, errored, &[("decision_errored", "Decision.() -> bool")]),
    decl("error", Cost::One, error, &[("decision_error", "Decision.() -> string")]),
    decl("allowed", Cost::One, allowed, &[("decision_allowed", "Decision.() -> bool")]),
    decl("reason", Cost::One, reason, &[("decision_reason", "Decision.() -> string")]),
];

fn path<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Check(check)), Value::String(path)] if check.stage == Stage::Authorizer => {
            if path.trim().is_empty() {
                return Err(EvalError::new("path must not be empty"));
            }
            Ok(check.at(Stage::Path(path.to_string())))
        }
        _ => no_overload(),
    }
}

fn group<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Check(check)), Value::String(group)] if check.stage == Stage::Authorizer => {
            Ok(check.at(Stage::Group(group.to_string())))
        }
        _ => no_overload(),
    }
}

fn service_account<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Library(Library::Check(check)), Value::String(namespace), Value::String(name)] = args else {
        return no_overload();
    };
    if check.stage != Stage::Authorizer {
        return no_overload();
    }
    if !names::dns1123_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !names::dns1123_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let subject = Subject::ServiceAccount { namespace: namespace.to_string(), name: name.to_string() };
    let check = Check { authorizer: check.authorizer, subject, stage: Stage::Authorizer };
    Ok(Value::Library(Library::Check(check.into())))
}

fn resource<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Library(Library::Check(check)), Value::String(resource)] = args else { return no_overload() };
    let Stage::Group(group) = &check.stage else { return no_overload() };
    if resource.trim().is_empty() {
        return Err(EvalError::new("resource must not be empty"));
    }
    let target =
        ResourceTarget { group: group.clone(), resource: resource.to_string(), ..ResourceTarget::default() };
    Ok(check.at(Stage::Resource(target)))
}

/// The check of a resource with one thing more said about it.
fn refine<'a>(args: &[Value<'a>], say: impl Fn(&mut ResourceTarget, String)) -> Outcome<'a> {
    let [Value::Library(Library::Check(check)), Value::String(text)] = args else { return no_overload() };
    let Stage::Resource(target) = &check.stage else { return no_overload() };
    let mut target = target.clone();
    say(&mut target, text.to_string());
    Ok(check.at(Stage::Resource(target)))
}

fn subresource<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    refine(args, |target, text| target.subresource = text)
}

fn namespace<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    refine(args, |target, text| target.namespace = text)
}

fn name<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    refine(args, |target, text| target.name = text)
}

fn field_selector<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    refine(args, |target, text| target.field_selector = text)
}

fn label_selector<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    refine(args, |target, text| target.label_selector = text)
}

fn check<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Library(Library::Check(check)), Value::String(verb)] = args else { return no_overload() };
    match &check.stage {
        Stage::Path(path) => Ok(check.ask(verb, Target::Path(path.clone()))),
        Stage::Resource(target) => Ok(check.ask(verb, Target::Resource(target.clone()))),
        _ => no_overload(),
    }
}

fn decision<'a>(args: &[Value<'a>], of: impl Fn(&Decision) -> Value<'a>) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Check(check))] => match &check.stage {
            Stage::Decision(decision) => Ok(of(decision)),
            _ => no_overload(),
        },
        _ => no_overload(),
    }
}

fn errored<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args, |decision| Value::Bool(decision.error.is_some()))
}

fn error<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args, |decision| decision.error.clone().unwrap_or_default().into())
}

fn allowed<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args, |decision| Value::Bool(decision.allowed))
}

fn reason<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    decision(args, |decision| decision.reason.clone().into())
}
