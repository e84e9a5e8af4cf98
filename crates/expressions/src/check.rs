//! What is wrong with expressions that somebody wants to store.

use crate::environment::{Speaks, env};
use crate::expression::{Expression, Returns};
use crate::policy::Environments;

/// Checks the expressions of one webhook or policy. What it finds is in upstream's words, without the field.
#[derive(Clone, Debug)]
pub struct Checker {
    params: bool,
    environments: Environments,
    has_variables: bool,
}

impl Checker {
    /// For a policy with parameters or without; webhooks have none.
    pub fn new(params: bool) -> Self {
        Self { params, environments: Environments::new(params), has_variables: false }
    }

    /// A match condition. It knows none of a policy's variables.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn condition(&self, source: &str) -> Result<(), String> {
        let env = env(Speaks { params: self.params, authorizer: true });
        Expression::compile(&env, source, Returns::Bool).program.map(drop)
    }

    /// A variable, which is known from then on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn variable(&mut self, name: &str, source: &str) -> Result<(), String> {
        let mut known = self.environments.clone();
        if !std::mem::replace(&mut self.has_variables, true) {
            known = known.composed();
        }
        let (environments, variable) = known.add(name, source);
        self.environments = environments;
        variable.expression.program.map(drop)
    }

    /// What must hold.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validation(&self, source: &str) -> Result<(), String> {
        Expression::compile(&self.environments.full, source, Returns::Bool).program.map(drop)
    }

    /// What makes a message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn message(&self, source: &str) -> Result<(), String> {
        Expression::compile(&self.environments.plain, source, Returns::Text).program.map(drop)
    }

    /// What makes an audit annotation.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn annotation(&self, source: &str) -> Result<(), String> {
        Expression::compile(&self.environments.full, source, Returns::TextOrNull).program.map(drop)
    }
}
