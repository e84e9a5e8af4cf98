//! Evaluating compiled expressions on a request, within a budget.

use apimachinery::field::quote;
use cel::{Activation, Authorize, Budget, EvalError, ResourceTarget, Value as Cel};
use serde_json::Value;

use crate::environment::{NAMESPACE, REQUEST};
use crate::expression::Expression;

const OVER: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What expressions are evaluated on.
#[derive(Clone)]
pub struct Inputs<'a> {
    /// The object; `None` for deletions.
    pub object: Option<&'a Value>,
    /// What it was.
    pub old: Option<&'a Value>,
    /// The request, as an AdmissionRequest without uid and objects.
    pub request: &'a Value,
    /// The Namespace that the request is in, if it is in one.
    pub namespace: Option<&'a Value>,
    /// The parameters, if there are any.
    pub params: Option<&'a Value>,
    /// Whom expressions may ask what somebody may do.
    pub authorizer: &'a dyn Authorize,
    /// What the request is about, for `authorizer.requestResource`.
    pub resource: ResourceTarget,
}

/// A variable that a policy makes itself.
#[derive(Debug)]
pub(crate) struct Variable {
    /// `variables.NAME`: it is declared and bound under this.
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) expression: Expression,
}

/// The budget is used up: nothing more is evaluated.
#[derive(Debug)]
pub(crate) struct Exhausted;

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(OVER)
    }
}

/// An evaluation of several expressions on the same inputs. A variable is made once, when an expression that names it is
/// evaluated.
pub(crate) struct Evaluation<'a, 'p> {
    activation: Activation<'a>,
    variables: &'p [Variable],
    is_made: Vec<bool>,
}

impl<'a, 'p> Evaluation<'a, 'p> {
    pub(crate) fn new(inputs: &Inputs<'a>, variables: &'p [Variable]) -> Self {
        let mut activation = Activation::new();
        let dynamic = [("object", inputs.object), ("oldObject", inputs.old), ("params", inputs.params)];
        for (name, value) in dynamic {
            activation.bind_outcome(name, value.map_or(Ok(Cel::Null), Cel::dynamic));
        }
        activation.bind_json("request", inputs.request, &REQUEST);
        match inputs.namespace {
            Some(namespace) => activation.bind_json("namespaceObject", namespace, &NAMESPACE),
            None => activation.bind("namespaceObject", Cel::Null),
        }
        activation.bind("authorizer", Cel::authorizer(inputs.authorizer));
        let check = Cel::resource_check(inputs.authorizer, inputs.resource.clone());
        activation.bind("authorizer.requestResource", check);
        Self { activation, variables, is_made: vec![false; variables.len()] }
    }

    /// The value of an expression, or why it has none.
    pub(crate) fn run(
        &mut self,
        expression: &Expression,
        budget: &mut Budget,
    ) -> Result<Result<Cel<'a>, String>, Exhausted> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        self.make(self.variables.len(), |variable| program.uses(&variable.path), budget)?;
        match program.evaluate(&self.activation, budget) {
            Ok(value) => Ok(Ok(value)),
            Err(EvalError::OutOfBudget) => Err(Exhausted),
            Err(why) => Ok(Err(format!("expression '{}' resulted in error: {why}", expression.source))),
        }
    }

    /// Makes those of the first `count` variables that are used, and before each what it uses itself: earlier ones alone.
    fn make(
        &mut self,
        count: usize,
        is_used: impl Fn(&Variable) -> bool,
        budget: &mut Budget,
    ) -> Result<(), Exhausted> {
        let variables = self.variables;
        for (index, variable) in variables.iter().enumerate().take(count) {
            if self.is_made.get(index).copied().unwrap_or(true) || !is_used(variable) {
                continue;
            }
            let name = quote(&variable.name);
            let outcome = match &variable.expression.program {
                Err(why) => Err(format!("composited variable {name} fails to compile: {why}")),
                Ok(program) => {
                    self.make_earlier(index, program, budget)?;
                    match program.evaluate(&self.activation, budget) {
                        Err(EvalError::OutOfBudget) => return Err(Exhausted),
                        made => {
                            made.map_err(|why| format!("composited variable {name} fails to evaluate: {why}"))
                        }
                    }
                }
            };
            self.activation.bind_outcome(&variable.path, outcome.map_err(EvalError::Value));
            if let Some(is_made) = self.is_made.get_mut(index) {
                *is_made = true;
            }
        }
        Ok(())
    }

    // Not generic over what is used: a recursion of closures has no end.
    fn make_earlier(
        &mut self,
        count: usize,
        program: &cel::Program,
        budget: &mut Budget,
    ) -> Result<(), Exhausted> {
        let is_used: &dyn Fn(&Variable) -> bool = &|variable| program.uses(&variable.path);
        self.make(count, is_used, budget)
    }
}
