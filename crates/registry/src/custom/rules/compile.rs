//! One rule as programs.

use apimachinery::schema::Schema;
use cel::{DeclType, Env, Program, Type};
use serde_json::Value;

use super::field_path;
use crate::tree::{is_true, text};

/// A rule.
pub(super) struct Rule {
    /// Its text, without spaces around it.
    pub(super) text: String,
    /// What is said when it is false; may be empty.
    pub(super) message: String,
    /// The program; none of an empty rule.
    pub(super) program: Result<Option<Program>, String>,
    /// What is said when it is false, if that is an expression too.
    pub(super) message_program: Option<Program>,
    /// What is wrong with that expression.
    pub(super) message_fault: Option<String>,
    /// The text of that expression.
    pub(super) message_expression: String,
    /// `FieldValueInvalid`, …; may be empty.
    pub(super) reason: String,
    /// The field that is at fault, below the one that has the rule.
    pub(super) field: Option<String>,
    /// Whether it speaks of the older value.
    pub(super) transition: bool,
    /// Whether it is run where there is no older value, too.
    pub(super) optional_old: bool,
}

/// The variables of a rule.
const SELF: &str = "self";
const OLD_SELF: &str = "oldSelf";

pub(super) const VARIABLES: [&str; 2] = [SELF, OLD_SELF];

impl Rule {
    /// Compiles a rule for values that are described and declared so.
    pub(super) fn compile(rule: &Value, schema: &Schema, decl: &DeclType) -> Self {
        let source = text(rule, &["rule"]);
        let optional_old = is_true(rule, &["optionalOldSelf"]);
        let old = if optional_old { DeclType::optional(decl.clone()) } else { decl.clone() };
        let env = Env::new().with_variable(SELF, decl.clone()).with_variable(OLD_SELF, old);
        let message_expression = text(rule, &["messageExpression"]);
        let mut compiled = Self {
            text: source.trim().to_owned(),
            message: text(rule, &["message"]).trim().to_owned(),
            program: Ok(None),
            message_program: None,
            message_fault: None,
            message_expression: message_expression.to_owned(),
            reason: text(rule, &["reason"]).to_owned(),
            field: None,
            transition: false,
            optional_old,
        };
        if compiled.text.is_empty() {
            return compiled;
        }
        compiled.program = program(&env, source, &Type::Bool);
        let Ok(Some(program)) = &compiled.program else { return compiled };
        compiled.transition = program.uses(OLD_SELF);
        if !message_expression.is_empty() {
            match message_program(&env, message_expression) {
                Ok(program) => compiled.message_program = Some(program),
                Err(fault) => compiled.message_fault = Some(fault),
            }
        }
        let field = text(rule, &["fieldPath"]);
        if !field.is_empty() {
            compiled.field = field_path::normalize(field, schema).ok();
        }
        compiled
    }

    /// How messages name it.
    pub(super) fn shown(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }

    /// What is said when it is false and no expression says it.
    pub(super) fn message_or_default(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.text) } else { self.message.clone() }
    }

    /// The most that one run of it costs, as far as the schema tells.
    pub(super) fn cost(&self) -> u64 {
        self.program.as_ref().ok().and_then(Option::as_ref).map_or(0, |program| program.cost().max)
    }
}

fn program(env: &Env, source: &str, wanted: &Type) -> Result<Option<Program>, String> {
    let program = env.compile(source).map_err(|errors| format!("compilation failed: {errors}"))?;
    if program.result_type() == wanted {
        Ok(Some(program))
    } else {
        Err("cel expression must evaluate to a bool".to_owned())
    }
}

fn message_program(env: &Env, source: &str) -> Result<Program, String> {
    let program =
        env.compile(source).map_err(|errors| format!("messageExpression compilation failed: {errors}"))?;
    if *program.result_type() == Type::String {
        Ok(program)
    } else {
        Err("messageExpression must evaluate to a string".to_owned())
    }
}
