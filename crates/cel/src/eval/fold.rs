//! Loops.

use std::sync::Arc;

use super::machine::Machine;
use super::{Loop, Step};
use crate::error::EvalError;
use crate::library::maps;
use crate::value::{Items, List, Outcome, Value, count};

/// What a macro pays for the accumulator's name, the sum or insertion, and the new list's base.
const APPEND: u64 = 12;
const INSERT: u64 = 2;

impl<'a> Machine<'_, 'a> {
    pub(super) fn fold(&mut self, of: &Loop) -> Outcome<'a> {
        let range = self.run(&of.range)?;
        let accu = self.run(&of.init);
        let depth = self.locals.len();
        self.locals.push(accu);
        let done = self.each(of, &range, depth);
        self.locals.truncate(depth + 1);
        let result = done.and_then(|()| self.run(&of.result));
        self.locals.truncate(depth);
        result
    }

    fn each(&mut self, of: &Loop, range: &Value<'a>, depth: usize) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let first = if of.two { Ok(Value::Int(count(index))) } else { item.clone() };
                    let second = of.two.then_some(item);
                    if !self.once(of, first, second, depth)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, value) in map.entries() {
                    let second = of.two.then_some(value);
                    if !self.once(of, Ok(key), second, depth)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::overload()),
        }
        Ok(())
    }

    /// One turn; whether the loop goes on.
    fn once(
        &mut self,
        of: &Loop,
        first: Outcome<'a>,
        second: Option<Outcome<'a>>,
        depth: usize,
    ) -> Result<bool, EvalError> {
        self.context.work(1)?;
        self.locals.truncate(depth + 1);
        self.locals.push(first);
        self.locals.extend(second);
        if !matches!(self.run(&of.condition)?, Value::Bool(true)) {
            return Ok(false);
        }
        match &of.step {
            Step::Any(node) => {
                let next = self.run(node);
                if let Err(error) = &next
                    && error.is_final()
                {
                    return Err(error.clone());
                }
                self.set(depth, next);
            }
            Step::Append { filter, item } => {
                if !self.passes(filter.as_ref())? {
                    return Ok(true);
                }
                let item = self.run(item)?;
                self.context.charge(APPEND)?;
                self.context.items(1)?;
                self.append(depth, item)?;
            }
            Step::Insert { filter, args } => {
                if !self.passes(filter.as_ref())? {
                    return Ok(true);
                }
                let mut values = vec![Value::Null];
                for arg in args {
                    values.push(self.run(arg)?);
                }
                self.context.charge(INSERT)?;
                if let (Some(first), Some(accu)) = (values.first_mut(), self.locals.get_mut(depth)) {
                    *first = std::mem::replace(accu, Ok(Value::Null))?;
                }
                let inserted = maps::insert_into(&mut self.context, &mut values)?;
                self.set(depth, Ok(inserted));
            }
        }
        Ok(true)
    }

    /// Whether a filter lets the item through. Without one everything passes.
    fn passes(&mut self, filter: Option<&super::Node>) -> Result<bool, EvalError> {
        let Some(filter) = filter else { return Ok(true) };
        match self.run(filter)? {
            Value::Bool(true) => Ok(true),
            Value::Bool(false) => {
                // The accumulator is named to be kept.
                self.context.charge(1)?;
                Ok(false)
            }
            _ => Err(EvalError::overload()),
        }
    }

    fn set(&mut self, place: usize, value: Outcome<'a>) {
        if let Some(local) = self.locals.get_mut(place) {
            *local = value;
        }
    }

    fn append(&mut self, place: usize, item: Value<'a>) -> Result<(), EvalError> {
        match self.locals.get_mut(place) {
            Some(Ok(Value::List(List(Items::Shared(items))))) => {
                Arc::make_mut(items).push(item);
                Ok(())
            }
            Some(Err(error)) => Err(error.clone()),
            _ => Err(EvalError::overload()),
        }
    }
}
