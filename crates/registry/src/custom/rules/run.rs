//! Goes through an object with the rules of its schema (upstream: `apiextensions-apiserver/pkg/apiserver/schema/cel`).

use apimachinery::field::{ErrorKind, FieldError, Path};
use apimachinery::schema::{Ref, Schema, Type};
use apimachinery::warnings::Warnings;
use cel::{Activation, Budget, EvalError, OBJECT_BUDGET, Program, Value as CelValue};
use serde_json::Value;

use super::Node;
use super::compile::{Rule, VARIABLES};
use super::ratchet::{Correlation, counterpart};

/// Longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// A value, the older one that rules compare it to, and how an update is judged.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) schema: &'a Schema,
    pub(super) value: &'a Value,
    pub(super) old: Option<&'a Value>,
    pub(super) correlation: Correlation<'a>,
}

/// Rules on their way through objects that share a budget.
pub(super) struct Run<'r> {
    budget: Budget,
    errors: &'r mut Vec<FieldError>,
    warnings: &'r Warnings,
}

impl<'r> Run<'r> {
    pub(super) fn new(errors: &'r mut Vec<FieldError>, warnings: &'r Warnings) -> Self {
        Self { budget: Budget::new(OBJECT_BUDGET), errors, warnings }
    }

    /// How many errors there are.
    pub(super) fn found(&self) -> usize {
        self.errors.len()
    }

    /// Runs the rules of a node and of those below on a value, which is at the path.
    pub(super) fn value(&mut self, root: &Node, place: Place<'_>, path: &Path<'_>) {
        // Whether everything was looked at is told by the errors.
        let _ = self.node(root, place, path);
    }
}

/// No rule is run any more.
struct Exhausted;

type Done = Result<(), Exhausted>;

/// The path as errors name it: an object itself is nothing.
fn named(mut error: FieldError, path: &Path<'_>) -> FieldError {
    if path.is_empty() && error.field.is_empty() {
        "<nil>".clone_into(&mut error.field);
    }
    error
}

impl Run<'_> {
    fn node(&mut self, node: &Node, place: Place<'_>, path: &Path<'_>) -> Done {
        if place.value.is_null() {
            return Ok(());
        }
        self.rules(node, place, path)?;
        for part in &node.all_of {
            self.node(part, Place { correlation: place.correlation.detached(), ..place }, path)?;
        }
        match place.value {
            Value::Array(items) => self.items(node, place, items, path),
            Value::Object(map) => self.entries(node, place, map, path),
            _ => Ok(()),
        }
    }

    fn items(&mut self, node: &Node, place: Place<'_>, items: &[Value], path: &Path<'_>) -> Done {
        let (Some(below), Some(schema)) = (&node.items, place.schema.items.as_ref().map(Ref::get)) else {
            return Ok(());
        };
        let old_items = place.old.and_then(Value::as_array);
        for (index, value) in items.iter().enumerate() {
            let old = old_items.and_then(|old| counterpart(place.schema, old, value));
            let correlation = place.correlation.index(index);
            self.node(below, Place { schema, value, old, correlation }, &path.index(index))?;
        }
        Ok(())
    }

    fn entries(
        &mut self,
        node: &Node,
        place: Place<'_>,
        map: &serde_json::Map<String, Value>,
        path: &Path<'_>,
    ) -> Done {
        for (name, value) in map {
            let old = place.old.and_then(|old| old.get(name));
            let correlation = place.correlation.key(name);
            if let (Some(below), Some(schema)) =
                (&node.additional, place.schema.additional.as_ref().map(Ref::get))
            {
                self.node(below, Place { schema, value, old, correlation }, &path.key(name))?;
            }
            if let (Some(below), Some(property)) = (node.properties.get(name), place.schema.property(name)) {
                let schema = property.schema.get();
                self.node(below, Place { schema, value, old, correlation }, &path.child(name))?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, path: &Path<'_>, schema: &Schema, why: String) {
        let error = FieldError::invalid(path, schema.kind.as_str(), why);
        self.errors.push(named(error, path));
    }

    fn rules(&mut self, node: &Node, place: Place<'_>, path: &Path<'_>) -> Done {
        if let Some(fault) = node.fault {
            self.refuse(path, place.schema, format!("rule compiler initialization error: {fault}"));
            return Ok(());
        }
        let Some(decl) = node.decl.as_ref().filter(|_| !node.rules.is_empty()) else { return Ok(()) };
        if self.budget.remaining() == 0 {
            return self.exhausted(path, place.schema);
        }
        let old = place.old.filter(|old| !old.is_null());
        let [name, old_name] = VARIABLES;
        let mut activation = Activation::new();
        activation.bind_json(name, place.value, decl);
        let mut optional = activation.clone();
        match old {
            Some(old) => {
                activation.bind_json(old_name, old, decl);
                let old = CelValue::from_json(old, decl).map(|old| CelValue::optional(Some(old)));
                optional.bind_outcome(old_name, old);
            }
            None => optional.bind(old_name, CelValue::optional(None)),
        }
        for rule in &node.rules {
            let program = match &rule.program {
                Ok(Some(program)) => program,
                Ok(None) => continue,
                Err(why) => {
                    self.refuse(path, place.schema, format!("rule compile error: {why}"));
                    continue;
                }
            };
            if rule.transition && old.is_none() && !rule.optional_old {
                continue;
            }
            let variables = if rule.optional_old { &optional } else { &activation };
            if self.holds(rule, program, variables, path, place.schema)? {
                continue;
            }
            self.violated(rule, variables, place, path)?;
        }
        Ok(())
    }

    fn exhausted(&mut self, path: &Path<'_>, schema: &Schema) -> Done {
        let why =
            "validation failed due to running out of cost budget, no further validation rules will be run";
        self.refuse(path, schema, why.to_owned());
        Err(Exhausted)
    }

    /// Whether a rule holds; where that cannot be said, why.
    fn holds(
        &mut self,
        rule: &Rule,
        program: &Program,
        variables: &Activation<'_>,
        path: &Path<'_>,
        schema: &Schema,
    ) -> Result<bool, Exhausted> {
        let shown = rule.shown();
        let (why, last) = match program.evaluate(variables, &mut self.budget) {
            Ok(value) => return Ok(value.as_bool() == Some(true)),
            Err(EvalError::OutOfBudget) => return self.exhausted(path, schema).map(|()| true),
            Err(error @ EvalError::CallLimit) => {
                let why = "no further validation rules will be run due to call cost exceeds limit for rule";
                (format!("'{error}': {why}: {shown}"), true)
            }
            Err(error @ EvalError::NoSuchOverload(_)) => {
                let why =
                    "call arguments did not match a supported operator, function or macro signature for rule";
                (format!("'{error}': {why}: {shown}"), false)
            }
            Err(error) => (format!("{error} evaluating rule: {shown}"), false),
        };
        self.refuse(path, schema, why);
        if last { Err(Exhausted) } else { Ok(true) }
    }

    fn violated(
        &mut self,
        rule: &Rule,
        variables: &Activation<'_>,
        place: Place<'_>,
        path: &Path<'_>,
    ) -> Done {
        let below;
        let path = match &rule.field {
            Some(field) => {
                below = path.child(field);
                &below
            }
            None => path,
        };
        let detail = match self.message(rule, variables) {
            Ok(message) => message,
            Err(fault) => {
                let error = FieldError::invalid(path, place.schema.kind.as_str(), fault);
                self.add(rule, place, named(error, path));
                return Err(Exhausted);
            }
        };
        let detail = detail.unwrap_or_else(|| rule.message_or_default());
        let compound = matches!(place.schema.kind, Type::Object | Type::Array);
        let error = match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(path, detail),
            "FieldValueRequired" => FieldError::required(path, detail),
            "FieldValueDuplicate" if compound => FieldError {
                kind: ErrorKind::Duplicate,
                field: path.to_string(),
                value: None,
                // Upstream drops what it would have said.
                detail: String::new(),
            },
            "FieldValueDuplicate" => FieldError::duplicate(path, place.value.clone()),
            _ if compound => FieldError::invalid_unshown(path, detail),
            _ => FieldError::invalid(path, place.value.clone(), detail),
        };
        self.add(rule, place, named(error, path));
        Ok(())
    }

    /// An error, or only a warning where the update changed nothing.
    fn add(&mut self, rule: &Rule, place: Place<'_>, error: FieldError) {
        if !rule.transition && place.correlation.is_unchanged() {
            self.warnings.add(error.to_string());
        } else {
            self.errors.push(error);
        }
    }

    /// What the rule's own expression says, if it says something; an error where no rule is run any more.
    fn message(&mut self, rule: &Rule, variables: &Activation<'_>) -> Result<Option<String>, String> {
        let Some(program) = &rule.message_program else { return Ok(None) };
        let source = apimachinery::field::quote(&rule.message_expression);
        match program.evaluate(variables, &mut self.budget) {
            Ok(value) => {
                let text = value.as_str().map(str::trim).unwrap_or_default();
                let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                Ok(fits.then(|| text.to_owned()))
            }
            Err(EvalError::OutOfBudget) => {
                Err("messageExpression evaluation failed due to running out of cost \
                                                budget, no further validation rules will be run"
                    .to_owned())
            }
            Err(EvalError::CallLimit) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source}"
            )),
            Err(_) => Ok(None),
        }
    }
}
