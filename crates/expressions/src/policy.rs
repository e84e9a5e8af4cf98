//! A ValidatingAdmissionPolicy, compiled.

use apimachinery::status::Reason;
use cel::{Budget, DeclType, Env, OBJECT_BUDGET, Value as Cel};
use serde_json::Value;

use crate::conditions::Conditions;
use crate::environment::{Speaks, env};
use crate::evaluate::{Evaluation, Exhausted, Inputs, Variable};
use crate::expression::{Expression, Returns};

/// Bytes of the longest message that an expression may make.
const MAX_MESSAGE: usize = 5 * 1024;

/// A policy.
#[derive(Debug)]
pub struct Policy {
    ignores_failures: bool,
    conditions: Conditions,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
    annotations: Vec<Expression>,
}

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message_expression: Option<Expression>,
    message: String,
    reason: Option<Reason>,
}

/// A validation that does not hold, or could not be made out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub message: String,
    /// The word for it, where the validation gives one.
    pub reason: Option<Reason>,
}

impl Failed {
    fn of(message: impl Into<String>) -> Self {
        Self { message: message.into(), reason: None }
    }
}

/// What a policy says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The validations that failed.
    pub failed: Vec<Failed>,
    /// What kept audit annotations from being made.
    pub annotation_errors: Vec<String>,
}

/// The environments of a policy's expressions, which know more variables with each that the policy makes.
#[derive(Clone, Debug)]
pub(crate) struct Environments {
    /// Of all but messages.
    pub(crate) full: Env,
    /// Of messages, which do not ask the authorizer.
    pub(crate) plain: Env,
}

impl Environments {
    pub(crate) fn new(params: bool) -> Self {
        let of = |authorizer| env(Speaks { params, authorizer });
        Self { full: of(true), plain: of(false) }
    }

    /// The same where there may be variables: one that is not there is a field that is not there.
    pub(crate) fn composed(self) -> Self {
        let none = DeclType::plain_object("kubernetes.variables", []);
        let Self { full, plain } = self;
        Self {
            full: full.with_variable("variables", none.clone()),
            plain: plain.with_variable("variables", none),
        }
    }

    /// Makes a variable known.
    pub(crate) fn add(self, name: &str, source: &str) -> (Self, Variable) {
        let expression = Expression::compile(&self.full, source, Returns::Anything);
        let path = format!("variables.{name}");
        let (full, plain) = (
            self.full.with_variable(&path, expression.decl()),
            self.plain.with_variable(&path, expression.decl()),
        );
        (Self { full, plain }, Variable { path, name: name.to_owned(), expression })
    }
}

pub(crate) fn text<'a>(tree: &'a Value, field: &str) -> &'a str {
    tree.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn list<'a>(spec: &'a Value, field: &str) -> &'a [Value] {
    spec.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Policy {
    /// The `spec` of a policy. What is wrong with an expression is said when it is evaluated.
    pub fn compile(spec: &Value) -> Self {
        let params = spec.get("paramKind").is_some_and(Value::is_object);
        let mut environments = Environments::new(params).composed();
        let mut variables = Vec::new();
        for variable in list(spec, "variables") {
            let (more, made) = environments.add(text(variable, "name"), text(variable, "expression"));
            environments = more;
            variables.push(made);
        }
        let Environments { full, plain } = &environments;
        let validation = |validation: &Value| {
            let message_expression = text(validation, "messageExpression");
            Validation {
                expression: Expression::compile(full, text(validation, "expression"), Returns::Bool),
                message_expression: (!message_expression.is_empty())
                    .then(|| Expression::compile(plain, message_expression, Returns::Text)),
                message: text(validation, "message").trim().to_owned(),
                reason: validation
                    .get("reason")
                    .and_then(|reason| serde_json::from_value(reason.clone()).ok()),
            }
        };
        let annotation = |annotation: &Value| {
            Expression::compile(full, text(annotation, "valueExpression"), Returns::TextOrNull)
        };
        Self {
            ignores_failures: text(spec, "failurePolicy") == "Ignore",
            conditions: Conditions::compile(spec, params),
            validations: list(spec, "validations").iter().map(validation).collect(),
            annotations: list(spec, "auditAnnotations").iter().map(annotation).collect(),
            variables,
        }
    }

    /// What the policy says of a request.
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Outcome {
        match self.conditions.hold(inputs) {
            Ok(true) => {}
            Ok(false) => return Outcome::default(),
            Err(why) => return self.undecided(&why),
        }
        let failed = match self.validate(inputs) {
            Ok(failed) => failed,
            Err(exhausted) => return self.undecided(&exhausted),
        };
        match self.annotate(inputs) {
            Ok(annotation_errors) => Outcome { failed, annotation_errors },
            Err(exhausted) => self.undecided(&exhausted),
        }
    }

    /// Nothing is known about the request: it is refused, unless the policy says otherwise.
    fn undecided(&self, why: &dyn std::fmt::Display) -> Outcome {
        let failed = if self.ignores_failures { Vec::new() } else { vec![Failed::of(why.to_string())] };
        Outcome { failed, ..Outcome::default() }
    }

    fn validate(&self, inputs: &Inputs<'_>) -> Result<Vec<Failed>, Exhausted> {
        let mut budget = Budget::new(OBJECT_BUDGET);
        let mut evaluation = Evaluation::new(inputs, &self.variables);
        let mut verdicts = Vec::new();
        for validation in &self.validations {
            match evaluation.run(&validation.expression, &mut budget)? {
                Ok(value) if value.as_bool() == Some(true) => {}
                Ok(_) => verdicts.push(Verdict::Fails(validation)),
                Err(_) if self.ignores_failures => {}
                Err(why) => verdicts.push(Verdict::Broken(why)),
            }
        }
        // Messages come out of what the validations have left of the budget.
        let mut failed = Vec::with_capacity(verdicts.len());
        for verdict in verdicts {
            match verdict {
                Verdict::Broken(why) => failed.push(Failed::of(why)),
                Verdict::Fails(validation) => match validation.told(&mut evaluation, &mut budget) {
                    Ok(told) => failed.push(told),
                    Err(_) if self.ignores_failures => {}
                    Err(exhausted) => {
                        failed.push(Failed::of(format!("failed messageExpression: {exhausted}")))
                    }
                },
            }
        }
        Ok(failed)
    }

    /// What is wrong with the audit annotations.
    fn annotate(&self, inputs: &Inputs<'_>) -> Result<Vec<String>, Exhausted> {
        let mut budget = Budget::new(OBJECT_BUDGET);
        let mut evaluation = Evaluation::new(inputs, &self.variables);
        let mut errors = Vec::new();
        for annotation in &self.annotations {
            match evaluation.run(annotation, &mut budget)? {
                Ok(_) => {}
                Err(_) if self.ignores_failures => {}
                Err(why) => errors.push(why),
            }
        }
        Ok(errors)
    }
}

enum Verdict<'p> {
    Fails(&'p Validation),
    Broken(String),
}

impl Validation {
    /// Why it fails: the message that its expression makes, else its own, else the expression that is false.
    fn told(&self, evaluation: &mut Evaluation<'_, '_>, budget: &mut Budget) -> Result<Failed, Exhausted> {
        let mut message = String::new();
        if let Some(expression) = &self.message_expression
            && let Ok(Cel::String(made)) = evaluation.run(expression, budget)?
        {
            let made = made.trim();
            if made.len() <= MAX_MESSAGE && !made.contains('\n') {
                made.clone_into(&mut message);
            }
        }
        if message.is_empty() {
            message.clone_from(&self.message);
        }
        if message.is_empty() {
            message = format!("failed expression: {}", self.expression.source.trim());
        }
        Ok(Failed { message, reason: self.reason })
    }
}
