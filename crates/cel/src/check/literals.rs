//! Checks of what is written out: durations, moments, regular expressions, formats, and lists and maps of one type.

use super::Checked;
use super::checker::Finding;
use crate::cel_type::Type;
use crate::library::interpolate::{Part, misfit, parts};
use crate::library::regex::Pattern;
use crate::library::time::{parse_duration, parse_timestamp};
use crate::syntax::ast::{Expr, Kind};

/// Adds what is wrong with the literals of a checked expression.
pub(super) fn check(root: &Expr, checked: &Checked, findings: &mut Vec<Finding>) {
    visit(root, false, checked, findings);
}

fn visit(expr: &Expr, in_format: bool, checked: &Checked, findings: &mut Vec<Finding>) {
    let mut within = in_format;
    match &expr.kind {
        Kind::Call { function, target, args } => {
            within |= **function == *"format";
            call(function, target.as_deref(), args, checked, findings);
            if let ("format", Some(target), [list]) = (&**function, target.as_deref(), args.as_slice()) {
                format(expr, target, list, checked, findings);
            }
        }
        Kind::List(items) if !within => {
            let of = items.iter().map(|(item, optional)| (item, *optional));
            homogeneous(of, checked, findings);
        }
        Kind::Map(entries) if !within => {
            homogeneous(entries.iter().map(|entry| (&entry.key, false)), checked, findings);
            homogeneous(entries.iter().map(|entry| (&entry.value, entry.optional)), checked, findings);
        }
        _ => {}
    }
    expr.each_child(&mut |child| visit(child, within, checked, findings));
}

fn call(
    function: &str,
    target: Option<&Expr>,
    args: &[Expr],
    checked: &Checked,
    findings: &mut Vec<Finding>,
) {
    // As functions these take the text before the pattern.
    let pattern = if target.is_some() { args.first() } else { args.get(1) };
    let (literal, valid): (Option<&Expr>, fn(&str) -> bool) = match function {
        "duration" => (args.first(), |text| parse_duration(text).is_some()),
        "timestamp" => (args.first(), |text| parse_timestamp(text).is_some()),
        "matches" | "find" | "findAll" => (pattern, |text| Pattern::new(text).is_ok()),
        _ => return,
    };
    let Some(literal) = literal.filter(|literal| *checked.type_of(literal.id) == Type::String) else {
        return;
    };
    if literal.as_text().is_some_and(|text| !valid(text)) {
        findings.push((literal.at, format!("invalid {function} argument")));
    }
}

/// Whether types are the same, whatever they hold.
fn equivalent(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) | (Type::Of(_), Type::Of(_)) => true,
        (Type::Opaque(name, _), Type::Opaque(known, _)) => name == known,
        _ => one == other,
    }
}

fn homogeneous<'e>(
    items: impl Iterator<Item = (&'e Expr, bool)>,
    checked: &Checked,
    findings: &mut Vec<Finding>,
) {
    let mut first: Option<&Type> = None;
    for (item, optional) in items {
        let of = checked.type_of(item.id);
        let of = of.unwrap_optional().filter(|_| optional).unwrap_or(of);
        match first {
            None => first = Some(of),
            Some(first) if !equivalent(first, of) => {
                findings.push((item.at, format!("expected type '{first}' but found '{of}'")));
                return;
            }
            Some(_) => {}
        }
    }
}

/// The clauses of a format that is written out against arguments that are.
fn format(expr: &Expr, target: &Expr, list: &Expr, checked: &Checked, findings: &mut Vec<Finding>) {
    let (Some(text), Kind::List(items)) = (target.as_text(), &list.kind) else { return };
    let mut next = 0;
    for part in parts(text) {
        let clause = match part {
            Ok(Part::Text(_)) => continue,
            Ok(Part::Clause(clause)) => clause,
            Err(why) => {
                findings.push((expr.at, why));
                return;
            }
        };
        let Some((item, _)) = items.get(next) else {
            findings.push((expr.at, format!("index {next} out of range")));
            return;
        };
        next += 1;
        let of = checked.type_of(item.id);
        if !takes(clause.verb, of) {
            findings.push((item.at, misfit(clause.verb, of.runtime_name())));
            return;
        }
    }
    if items.len() > next {
        let what =
            format!("too many arguments supplied to string.format (expected {next}, got {})", items.len());
        findings.push((expr.at, what));
    }
}

const fn takes(verb: char, of: &Type) -> bool {
    match (verb, of) {
        (_, Type::Dyn | Type::Any) => true,
        ('s', of) => !matches!(of, Type::Object(_) | Type::Library(_) | Type::Opaque(..) | Type::Error),
        ('d' | 'o', of) => matches!(of, Type::Int | Type::Uint),
        ('b', of) => matches!(of, Type::Int | Type::Uint | Type::Bool),
        ('f' | 'e', of) => matches!(of, Type::Double | Type::String),
        (_, of) => matches!(of, Type::Int | Type::Uint | Type::String | Type::Bytes),
    }
}
