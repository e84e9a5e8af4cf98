//! Calls that are no calls: `has`, the quantifiers and transformations of lists and maps, and those of optional values.

use std::sync::Arc;

use super::ast::{Expr, Fold, Kind, Literal};
use super::copy::copy;
use super::lexer::Fault;
use super::parser::Parser;
use super::quantifiers::{self, Builder};

type Parsed = Result<Expr, Fault>;

/// A call of a function, or what the macro of that name makes of it.
pub(super) fn function(parser: &mut Parser, at: u32, name: &str, args: Vec<Expr>) -> Parsed {
    if name == "has"
        && let [field] = args.as_slice()
    {
        return match &field.kind {
            Kind::Select { operand, field, .. } => {
                let kind = Kind::Select { operand: operand.clone(), field: field.clone(), test: true };
                parser.node(at, kind)
            }
            _ => Err((field.at, "invalid argument to has() macro".to_owned())),
        };
    }
    parser.node(at, Kind::Call { function: name.into(), target: None, args })
}

/// A call of a method, or what the macro of that name makes of it.
pub(super) fn method(parser: &mut Parser, at: u32, name: &str, target: Expr, args: Vec<Expr>) -> Parsed {
    let mut build = Builder { parser, at };
    match (name, args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne" | "map" | "filter", 2)
        | ("all" | "exists" | "exists_one" | "existsOne" | "map", 3)
        | ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
            quantifiers::expand(&mut build, name, target, args)
        }
        ("optMap" | "optFlatMap", 2) => optional(&mut build, name, target, args),
        ("sortBy", 2) => sort_by(&mut build, target, args),
        ("bind", 3)
            if build.parser.bindings && matches!(&target.kind, Kind::Ident(name) if **name == *"cel") =>
        {
            binding(&mut build, args)
        }
        _ => {
            let target = Some(Box::new(target));
            parser.node(at, Kind::Call { function: name.into(), target, args })
        }
    }
}

/// `target.optMap(x, f)`: `target.hasValue() ? optional.of(f with x bound to target.value()) : optional.none()`.
fn optional(build: &mut Builder<'_>, name: &str, target: Expr, args: Vec<Expr>) -> Parsed {
    let Ok([variable, body]) = <[Expr; 2]>::try_from(args) else {
        return Err((build.at, format!("{name}() takes two arguments")));
    };
    let Kind::Ident(variable_name) = &variable.kind else {
        return Err((variable.at, format!("{name}() variable name must be a simple identifier")));
    };
    let again = copy(build.parser, &target)?;
    let value = build.method("value", again, Vec::new())?;
    let bound = bind(build, variable_name.clone(), value, body)?;
    let some = if name == "optMap" { build.call("optional.of", vec![bound])? } else { bound };
    let condition = build.method("hasValue", target, Vec::new())?;
    let none = build.call("optional.none", Vec::new())?;
    build.call("_?_:_", vec![condition, some, none])
}

/// `cel.bind(x, value, body)`: `body` with `x` bound to the value.
fn binding(build: &mut Builder<'_>, args: Vec<Expr>) -> Parsed {
    let Ok([variable, value, body]) = <[Expr; 3]>::try_from(args) else {
        return Err((build.at, "cel.bind() takes three arguments".to_owned()));
    };
    let Kind::Ident(name) = &variable.kind else {
        return Err((variable.at, "cel.bind() variable names must be simple identifiers".to_owned()));
    };
    bind(build, name.clone(), value, body)
}

/// `body` with the name standing for the value.
fn bind(build: &mut Builder<'_>, name: Arc<str>, value: Expr, body: Expr) -> Parsed {
    let fold = Fold {
        range: build.node(Kind::List(Vec::new()))?,
        var: "#unused".into(),
        var2: None,
        accu: name.clone(),
        init: value,
        condition: build.literal(Literal::Bool(false))?,
        step: build.ident(&name)?,
        result: body,
    };
    build.node(Kind::Fold(Box::new(fold)))
}

/// `target.sortBy(x, key)`: the list in the order of its keys.
fn sort_by(build: &mut Builder<'_>, target: Expr, args: Vec<Expr>) -> Parsed {
    const INPUT: &str = "@__sortBy_input__";
    if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Message(_)) {
        let why =
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return Err((target.at, why.to_owned()));
    }
    let input = build.ident(INPUT)?;
    let keys = quantifiers::expand(build, "map", input, args)?;
    let input = build.ident(INPUT)?;
    let sorted = build.method("@sortByAssociatedKeys", input, vec![keys])?;
    bind(build, INPUT.into(), target, sorted)
}
