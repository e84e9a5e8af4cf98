//! Compiling and evaluating.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::cel_type::Type;
use crate::check;
use crate::context::Context;
use crate::cost::{CostRange, PER_CALL_LIMIT, estimate};
use crate::decl::DeclType;
use crate::error::{CompileErrors, EvalError};
use crate::eval::machine::Machine;
use crate::eval::{Node, lower};
use crate::syntax::parser;
use crate::value::{Outcome, Value};

/// The variables that an expression may name.
#[derive(Debug, Clone, Default)]
pub struct Env {
    variables: Vec<(Arc<str>, DeclType)>,
    bindings: bool,
}

impl Env {
    /// An environment without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one variable more. The name may have dots in it (`authorizer.requestResource`): the longest name that fits
    /// is meant.
    #[must_use]
    pub fn with_variable(mut self, name: &str, decl: DeclType) -> Self {
        self.variables.push((name.into(), decl));
        self
    }

    /// The same with `cel.bind(name, value, expression)`, which gives a value a name.
    #[must_use]
    pub const fn with_bindings(mut self) -> Self {
        self.bindings = true;
        self
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, source: &str) -> Result<Program, CompileErrors> {
        let fail = |findings: Vec<(u32, String)>| CompileErrors::new(source, findings);
        let root = parser::parse(source, self.bindings);
        let root = root.map_err(|(at, why)| fail(vec![(at.unwrap_or(0), why)]))?;
        let types: Vec<(Arc<str>, Type)> =
            self.variables.iter().map(|(name, decl)| (name.clone(), decl.cel_type())).collect();
        let checked = check::check(&root, &types).map_err(fail)?;
        let declared = |name: &str| {
            self.variables.iter().find(|(known, _)| **known == *name).map(|(_, decl)| decl.clone())
        };
        let cost = estimate::estimate(&checked, &root, &declared);
        let mut names: Vec<Option<Arc<str>>> = vec![None; self.variables.len()];
        for index in checked.variables() {
            if let (Some(slot), Some((name, _))) = (names.get_mut(index), self.variables.get(index)) {
                *slot = Some(name.clone());
            }
        }
        let plan = lower::lower(&root, &checked);
        Ok(Program { plan, names, result: checked.type_of(root.id).clone(), cost })
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    plan: Node,
    /// The names of the variables that it uses, each at its place in the environment.
    names: Vec<Option<Arc<str>>>,
    result: Type,
    cost: CostRange,
}

/// The values of variables.
#[derive(Debug, Clone, Default)]
pub struct Activation<'a> {
    values: Vec<(Arc<str>, Outcome<'a>)>,
}

impl<'a> Activation<'a> {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a variable a value; the last one counts.
    pub fn bind(&mut self, name: &str, value: Value<'a>) {
        self.bind_outcome(name, Ok(value));
    }

    /// Gives a variable a value, or the error that whoever names it meets.
    pub fn bind_outcome(&mut self, name: &str, value: Outcome<'a>) {
        match self.values.iter_mut().find(|(known, _)| **known == *name) {
            Some(slot) => slot.1 = value,
            None => self.values.push((name.into(), value)),
        }
    }

    /// Gives a variable the value of JSON, as it was declared.
    pub fn bind_json(&mut self, name: &str, json: &'a Json, decl: &'a DeclType) {
        self.bind_outcome(name, Value::from_json(json, decl));
    }
}

/// What several evaluations may still cost together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    remaining: u64,
}

impl Budget {
    /// That much.
    pub const fn new(cost: u64) -> Self {
        Self { remaining: cost }
    }

    /// What is left.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Program {
    /// The type of its value.
    pub const fn result_type(&self) -> &Type {
        &self.result
    }

    /// What an evaluation costs, as far as its form and the declared sizes tell.
    pub const fn cost(&self) -> CostRange {
        self.cost
    }

    /// Whether it names that variable.
    pub fn uses(&self, name: &str) -> bool {
        self.names.iter().flatten().any(|known| **known == *name)
    }

    /// Its value. What the evaluation cost is taken from the budget.
    ///
    /// # Errors
    /// When an operation has no value, one evaluation costs more than [`PER_CALL_LIMIT`], or more than is left; then nothing
    /// is left.
    pub fn evaluate<'a>(&self, activation: &Activation<'a>, budget: &mut Budget) -> Outcome<'a> {
        let value_of = |name: &Option<Arc<str>>| {
            let name = name.as_ref()?;
            activation.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let variables: Vec<Option<Outcome<'a>>> = self.names.iter().map(value_of).collect();
        let scarce = budget.remaining < PER_CALL_LIMIT;
        let over = if scarce { EvalError::OutOfBudget } else { EvalError::CallLimit };
        let context = Context::new(budget.remaining.min(PER_CALL_LIMIT), over);
        let mut machine = Machine::new(&variables, context);
        let result = machine.run(&self.plan);
        budget.remaining = match &result {
            Err(EvalError::OutOfBudget) => 0,
            _ => budget.remaining.saturating_sub(machine.context.cost()),
        };
        result
    }
}
