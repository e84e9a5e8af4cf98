//! A checked tree as a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Call, Loop, Node, Step};
use crate::cel_type::Type;
use crate::check::{Checked, Name};
use crate::library::regex::{Pattern, states};
use crate::syntax::ast::{Expr, Fold, Kind, Literal};
use crate::value::{Entries, Map, Text, Value};

/// Most states, of about a hundred bytes each, that a plan's own regular expressions have together. What is beyond is compiled
/// when it is needed, so that a plan is no larger than its text makes plausible.
const KEPT_STATES: u64 = 2_000;

/// The plan of a checked expression.
pub(crate) fn lower(root: &Expr, checked: &Checked) -> Node {
    Lower { checked, locals: Vec::new(), states: KEPT_STATES }.node(root)
}

struct Lower<'l> {
    checked: &'l Checked,
    locals: Vec<Arc<str>>,
    /// Of regular expressions, how many more are kept.
    states: u64,
}

fn literal(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

/// An empty map.
fn empty() -> Value<'static> {
    Value::Map(Map(Entries::Shared(Arc::new(BTreeMap::new()))))
}

/// The sum of no values of a type.
const fn zero(of: &Type) -> Value<'static> {
    match of {
        Type::Uint => Value::Uint(0),
        Type::Double => Value::Double(0.0),
        Type::Duration => Value::Duration(0),
        _ => Value::Int(0),
    }
}

impl Lower<'_> {
    fn boxed(&mut self, expr: &Expr) -> Box<Node> {
        Box::new(self.node(expr))
    }

    fn node(&mut self, expr: &Expr) -> Node {
        match self.checked.name(expr.id) {
            Some(Name::Variable(index)) => return Node::Variable(*index),
            Some(Name::Type(of)) => return Node::Const(Value::Type(of.runtime_name().into())),
            None => {}
        }
        match &expr.kind {
            Kind::Literal(of) => Node::Const(literal(of)),
            Kind::Ident(name) => match self.locals.iter().rposition(|local| local == name) {
                Some(place) => Node::Local(place),
                // The checker has found every name.
                None => Node::Const(Value::Null),
            },
            Kind::Select { operand, field, test: true } => {
                Node::Has { operand: self.boxed(operand), field: field.clone() }
            }
            Kind::Select { operand, field, .. } => {
                Node::Select { operand: self.boxed(operand), field: field.clone() }
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List(items) => {
                Node::List(items.iter().map(|(item, optional)| (self.node(item), *optional)).collect())
            }
            Kind::Map(entries) if entries.is_empty() => Node::Map(Vec::new()),
            Kind::Map(entries) => {
                let entry = |entry: &crate::syntax::ast::Entry| {
                    (self.node(&entry.key), self.node(&entry.value), entry.optional)
                };
                Node::Map(entries.iter().map(entry).collect())
            }
            Kind::Message(_) => Node::Const(empty()),
            Kind::Fold(fold) if fold.is_bind() => {
                let value = self.boxed(&fold.init);
                self.locals.push(fold.accu.clone());
                let body = self.boxed(&fold.result);
                self.locals.pop();
                Node::Bind { value, body }
            }
            Kind::Fold(fold) => Node::Fold(Box::new(self.fold(fold))),
        }
    }

    fn call(&mut self, expr: &Expr, name: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        match (name, args) {
            ("_?._", [operand, field]) => {
                let field = field.as_text().unwrap_or_default().into();
                return Node::OptionalSelect { operand: self.boxed(operand), field };
            }
            ("_&&_", [one, other]) => return Node::And(self.boxed(one), self.boxed(other)),
            ("_||_", [one, other]) => return Node::Or(self.boxed(one), self.boxed(other)),
            ("_?_:_", [condition, yes, no]) => {
                let branches = [self.node(condition), self.node(yes), self.node(no)];
                return Node::Conditional(Box::new(branches));
            }
            ("@not_strictly_false", [of]) => return Node::NotStrictlyFalse(self.boxed(of)),
            _ => {}
        }
        let Some(resolved) = self.checked.call(expr.id) else { return Node::Const(Value::Null) };
        let target = target.filter(|_| resolved.method);
        if let ("or" | "orValue", Some(one), [other]) = (name, target, args) {
            let (one, other) = (self.boxed(one), self.boxed(other));
            return Node::OptionalOr { one, other, value: name == "orValue" };
        }
        let named = ["matches", "find", "findAll"].contains(&resolved.function.name);
        let pattern = args.get(usize::from(target.is_none())).filter(|_| named).and_then(Expr::as_text);
        let pattern = pattern.and_then(|text| self.pattern(text));
        let mut args: Vec<Node> = target.into_iter().chain(args).map(|arg| self.node(arg)).collect();
        if resolved.function.name == "sum"
            && let [overload] = resolved.overloads.as_slice()
        {
            args.push(Node::Const(zero(&overload.result)));
        }
        Node::Call(Box::new(Call { function: resolved.function, args, pattern }))
    }

    /// The compiled form of a regular expression that the program's text has.
    fn pattern(&mut self, text: &str) -> Option<Pattern> {
        let left = self.states.checked_sub(states(text))?;
        let pattern = Pattern::new(text).ok()?;
        self.states = left;
        Some(pattern)
    }

    fn fold(&mut self, fold: &Fold) -> Loop {
        let (range, init) = (self.node(&fold.range), self.node(&fold.init));
        self.locals.push(fold.accu.clone());
        self.locals.push(fold.var.clone());
        self.locals.extend(fold.var2.clone());
        let condition = self.node(&fold.condition);
        let step = self.step(fold);
        self.locals.truncate(self.locals.len() - if fold.var2.is_some() { 2 } else { 1 });
        let result = self.node(&fold.result);
        self.locals.pop();
        Loop { range, two: fold.var2.is_some(), init, condition, step, result }
    }

    fn step(&mut self, fold: &Fold) -> Step {
        let is_accu = |expr: &Expr| matches!(&expr.kind, Kind::Ident(name) if *name == fold.accu);
        let (filter, adding) = match &fold.step.kind {
            Kind::Call { function, args, .. } if **function == *"_?_:_" => match args.as_slice() {
                [filter, adding, same] if is_accu(same) => (Some(filter), adding),
                _ => (None, &fold.step),
            },
            _ => (None, &fold.step),
        };
        if let Kind::Call { function, args, .. } = &adding.kind {
            match (&**function, args.as_slice()) {
                ("_+_", [accu, list]) if is_accu(accu) => {
                    if let Kind::List(items) = &list.kind
                        && let [(item, false)] = items.as_slice()
                        && matches!(fold.init.kind, Kind::List(_))
                    {
                        let filter = filter.map(|filter| self.node(filter));
                        return Step::Append { filter, item: self.node(item) };
                    }
                }
                ("cel.@mapInsert", [accu, args @ ..]) if is_accu(accu) => {
                    let filter = filter.map(|filter| self.node(filter));
                    let args = args.iter().map(|arg| self.node(arg)).collect();
                    return Step::Insert { filter, args };
                }
                _ => {}
            }
        }
        Step::Any(self.node(&fold.step))
    }
}
