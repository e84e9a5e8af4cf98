//! Runs a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Call, Node};
use crate::context::Context;
use crate::cost::actual;
use crate::error::EvalError;
use crate::value::{Entries, Key, Map, Outcome, Value};

/// Of a name or a field that is read.
const SELECT: u64 = 1;
const LIST: u64 = 10;
const MAP: u64 = 30;

/// An evaluation under way.
pub(crate) struct Machine<'v, 'a> {
    /// The environment's variables, by place.
    pub(crate) variables: &'v [Option<Outcome<'a>>],
    /// The variables of the enclosing loops; errors are kept until somebody looks.
    pub(super) locals: Vec<Outcome<'a>>,
    pub(crate) context: Context,
}

impl<'v, 'a> Machine<'v, 'a> {
    pub(crate) fn new(variables: &'v [Option<Outcome<'a>>], context: Context) -> Self {
        Self { variables, locals: Vec::new(), context }
    }

    /// The value of a step.
    pub(crate) fn run(&mut self, node: &Node) -> Outcome<'a> {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Variable(index) => self.variable(*index),
            Node::Local(place) => {
                self.context.charge(SELECT)?;
                self.locals.get(*place).cloned().unwrap_or_else(|| Err(EvalError::overload()))
            }
            Node::Select { operand, field } => self.select(operand, field),
            Node::Has { operand, field } => self.has(operand, field),
            Node::OptionalSelect { operand, field } => self.optional_select(operand, field),
            Node::Call(call) => self.call(call),
            Node::And(one, other) => self.logical(one, other, false),
            Node::Or(one, other) => self.logical(one, other, true),
            Node::NotStrictlyFalse(of) => self.not_strictly_false(of),
            Node::Conditional(branches) => self.conditional(branches),
            Node::OptionalOr { one, other, value } => self.optional_or(one, other, *value),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Bind { value, body } => self.bind(value, body),
            Node::Fold(of) => self.fold(of),
        }
    }

    fn variable(&mut self, index: usize) -> Outcome<'a> {
        self.context.charge(SELECT)?;
        match self.variables.get(index) {
            Some(Some(value)) => value.clone(),
            _ => Err(EvalError::new("no such attribute(s)")),
        }
    }

    fn select(&mut self, operand: &Node, field: &str) -> Outcome<'a> {
        let target = self.run(operand)?;
        self.context.charge(SELECT)?;
        let missing = || EvalError::new(format!("no such key: {field}"));
        match target {
            Value::Map(map) => map.get(field).ok_or_else(missing)?,
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => match &*inner {
                Value::Map(map) => Ok(Value::optional(map.get(field).transpose()?)),
                _ => Err(EvalError::overload()),
            },
            _ => Err(EvalError::overload()),
        }
    }

    fn has(&mut self, operand: &Node, field: &str) -> Outcome<'a> {
        let there = match self.run(operand)? {
            Value::Map(map) => map.get(field).is_some(),
            Value::Optional(None) => false,
            Value::Optional(Some(inner)) => matches!(&*inner, Value::Map(map) if map.get(field).is_some()),
            _ => return Err(EvalError::overload()),
        };
        Ok(Value::Bool(there))
    }

    fn optional_select(&mut self, operand: &Node, field: &str) -> Outcome<'a> {
        let target = self.run(operand)?;
        self.context.charge(SELECT)?;
        let found = match &target {
            Value::Map(map) => map.get(field),
            Value::Optional(None) => None,
            Value::Optional(Some(inner)) => match &**inner {
                Value::Map(map) => map.get(field),
                _ => None,
            },
            _ => return Err(EvalError::overload()),
        };
        Ok(Value::optional(found.transpose()?))
    }

    fn call(&mut self, call: &Call) -> Outcome<'a> {
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            args.push(self.run(arg)?);
        }
        if let Some(pattern) = &call.pattern {
            self.context.prepare(pattern);
        }
        let result = (call.function.run)(&mut self.context, &args);
        if result.as_ref().is_err_and(EvalError::is_final) {
            return result;
        }
        let cost = actual::of_call(call.function.cost, &args, result.as_ref().ok());
        self.context.charge(cost)?;
        result
    }

    /// `&&` and `||`: whichever operand decides does so, whatever error the other is.
    fn logical(&mut self, one: &Node, other: &Node, decisive: bool) -> Outcome<'a> {
        let one = self.run(one);
        match &one {
            Ok(Value::Bool(value)) if *value == decisive => return one,
            Err(error) if error.is_final() => return one,
            _ => {}
        }
        let other = self.run(other);
        match (&one, &other) {
            (_, Ok(Value::Bool(value))) if *value == decisive => other,
            (_, Err(error)) if error.is_final() => other,
            (Err(_), _) => one,
            (_, Err(_)) => other,
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decisive)),
            _ => Err(EvalError::overload()),
        }
    }

    fn not_strictly_false(&mut self, of: &Node) -> Outcome<'a> {
        let value = self.run(of);
        self.context.charge(1)?;
        match value {
            Ok(Value::Bool(value)) => Ok(Value::Bool(value)),
            Err(error) if error.is_final() => Err(error),
            _ => Ok(Value::Bool(true)),
        }
    }

    fn conditional(&mut self, branches: &[Node; 3]) -> Outcome<'a> {
        let [condition, yes, no] = branches;
        match self.run(condition)? {
            Value::Bool(true) => self.run(yes),
            Value::Bool(false) => self.run(no),
            _ => Err(EvalError::overload()),
        }
    }

    fn optional_or(&mut self, one: &Node, other: &Node, value: bool) -> Outcome<'a> {
        let one = self.run(one)?;
        self.context.charge(1)?;
        match one {
            Value::Optional(Some(inner)) if value => Ok((*inner).clone()),
            Value::Optional(Some(inner)) => Ok(Value::Optional(Some(inner))),
            Value::Optional(None) => self.run(other),
            _ => Err(EvalError::overload()),
        }
    }

    fn list(&mut self, items: &[(Node, bool)]) -> Outcome<'a> {
        self.context.items(items.len())?;
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let value = self.run(item)?;
            match value {
                Value::Optional(inner) if *optional => values.extend(inner.map(|inner| (*inner).clone())),
                _ if *optional => {
                    return Err(EvalError::new(
                        "cannot initialize optional list element from non-optional value",
                    ));
                }
                value => values.push(value),
            }
        }
        self.context.charge(LIST)?;
        Ok(values.into())
    }

    fn map(&mut self, entries: &[(Node, Node, bool)]) -> Outcome<'a> {
        self.context.entries(entries.len())?;
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let (key, value) = (self.run(key)?, self.run(value)?);
            let found = Key::of(&key).filter(|_| !matches!(key, Value::Double(_)));
            let Some(found) = found else {
                return Err(EvalError::new(format!("unsupported key type: {}", key.type_name())));
            };
            let value = match value {
                Value::Optional(Some(inner)) if *optional => (*inner).clone(),
                Value::Optional(None) if *optional => {
                    map.remove(&found);
                    continue;
                }
                _ if *optional => {
                    return Err(EvalError::new("cannot initialize optional entry from non-optional value"));
                }
                value => value,
            };
            map.insert(found, (key, value));
        }
        self.context.charge(MAP)?;
        Ok(Value::Map(Map(Entries::Shared(Arc::new(map)))))
    }

    fn bind(&mut self, value: &Node, body: &Node) -> Outcome<'a> {
        let value = self.run(value);
        if let Err(error) = &value
            && error.is_final()
        {
            return value;
        }
        // The empty range that a binding is written with.
        self.context.charge(LIST)?;
        self.locals.push(value);
        let result = self.run(body);
        self.locals.pop();
        result
    }
}
