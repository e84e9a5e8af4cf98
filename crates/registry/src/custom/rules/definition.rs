//! What is wrong with the rules of a definition: their form, their types, what they may cost, and `oldSelf` where nothing says
//! which older value is meant (upstream: `apiextensions-apiserver/pkg/apis/apiextensions/validation`).

use apimachinery::field::{FieldError, Path};
use apimachinery::schema::{ListType, Ref, Schema, Type};
use cel::DeclType;
use serde_json::Value;

use super::compile::Rule;
use super::{TYPE_NAME, defaults, field_path, written};
use crate::tree::text;

/// The most that one rule may cost, as often as it may be run on one object.
const MAX_RULE_COST: u64 = 10_000_000;
/// The most that all rules of a schema may.
const MAX_SCHEMA_COST: u64 = 100_000_000;
/// How many of the most expensive rules are named.
const NAMED: usize = 4;
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Checks the rules of a version's `openAPIV3Schema`, which stands at the path. The limit of single rules does not hold where
/// the schema is the one that was accepted before.
pub(crate) fn check(schema: &Schema, unchanged: bool, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    defaults::check(schema, path, errors);
    if errors.len() > before {
        return;
    }
    let mut checker =
        Checker { unchanged, form: Vec::new(), found: Vec::new(), total: 0, expensive: Vec::new() };
    let root = Place {
        schema,
        decl: None,
        in_scope: !written(schema).is_empty(),
        root: true,
        cardinality: Some(1),
        uncorrelatable: None,
    };
    checker.node(&root, path);
    let Checker { form, found, total, expensive, .. } = checker;
    errors.extend(form);
    errors.extend(found);
    if total > MAX_SCHEMA_COST {
        for (field, _) in expensive {
            let detail =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            let mut error = FieldError::forbidden(path, detail);
            error.field = field;
            errors.push(error);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, exceeds(what, total, MAX_SCHEMA_COST)));
    }
}

/// A node of the schema.
struct Place<'s> {
    schema: &'s Schema,
    /// What its values are, where something above has rules and knows.
    decl: Option<DeclType>,
    /// Whether it has rules, or something above it.
    in_scope: bool,
    root: bool,
    /// How many values of it an object may have; none where nothing limits them.
    cardinality: Option<u64>,
    /// The list above whose items have no older counterparts.
    uncorrelatable: Option<String>,
}

struct Checker {
    unchanged: bool,
    /// What is wrong with the form of rules: it comes before all else.
    form: Vec<FieldError>,
    found: Vec<FieldError>,
    total: u64,
    /// Where the most expensive rules stand, and what they cost.
    expensive: Vec<(String, u64)>,
}

/// How many values a value may hold.
fn factor(schema: &Schema) -> Option<u64> {
    let rules = schema.rules.as_deref();
    match schema.kind {
        Type::Object if schema.additional.is_some() => rules.and_then(|rules| rules.max_properties),
        Type::Array => rules.and_then(|rules| rules.max_items),
        _ => Some(1),
    }
}

impl<'s> Place<'s> {
    fn below(&self, schema: &'s Schema, decl: Option<&DeclType>) -> Self {
        let in_scope = self.in_scope || !written(schema).is_empty();
        // Types are known from the first node with rules on.
        let decl = match (in_scope, decl) {
            (true, Some(decl)) => Some(decl.clone()),
            (true, None) => DeclType::from_schema(schema, TYPE_NAME, schema.embedded_resource),
            (false, _) => None,
        };
        let cardinality =
            self.cardinality.zip(factor(self.schema)).map(|(above, own)| above.saturating_mul(own));
        let uncorrelatable = self.uncorrelatable.clone();
        Self { schema, decl, in_scope, root: false, cardinality, uncorrelatable }
    }
}

impl Checker {
    fn node(&mut self, place: &Place<'_>, path: &Path<'_>) {
        let own;
        let place = if place.root && place.in_scope {
            let decl = DeclType::from_schema(place.schema, TYPE_NAME, true);
            own = Place { decl, uncorrelatable: None, ..*place };
            &own
        } else {
            place
        };
        let before = self.form.len();
        let schema = place.schema;
        let element = place.decl.as_ref().and_then(DeclType::element);
        if let Some(Ref::Inline(values)) = &schema.additional {
            self.node(&place.below(values, element), &path.child("additionalProperties"));
        }
        let properties = path.child("properties");
        for property in &schema.properties {
            let Ref::Inline(below) = &property.schema else { continue };
            let decl = place.decl.as_ref().and_then(|decl| decl.field(&property.name));
            self.node(&place.below(below, decl), &properties.key(&property.name));
        }
        if let Some(Ref::Inline(items)) = &schema.items {
            let mut below = place.below(items, element);
            if schema.list_type != Some(ListType::Map) {
                below.uncorrelatable.get_or_insert_with(|| path.to_string());
            }
            self.node(&below, &path.child("items"));
        }
        let rules = written(schema);
        let at = path.child("x-kubernetes-validations");
        for (index, rule) in rules.iter().enumerate() {
            self.rule_form(rule, schema, &at.index(index));
        }
        if rules.is_empty() || self.form.len() > before {
            return;
        }
        let Some(decl) = &place.decl else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable \
                       to convert structural schema to CEL declarations";
            self.found.push(FieldError::internal(&at, why));
            return;
        };
        for (index, rule) in rules.iter().enumerate() {
            self.rule(rule, place, decl, &at.index(index));
        }
    }

    fn rule_form(&mut self, rule: &Value, schema: &Schema, path: &Path<'_>) {
        let (source, message) = (text(rule, &["rule"]), text(rule, &["message"]));
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let form = &mut self.form;
        if source.trim().is_empty() {
            form.push(FieldError::required(&path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            form.push(FieldError::invalid(&path.child("message"), message, "must be non-empty if specified"));
        } else if breaks(message.trim()) {
            form.push(FieldError::invalid(&path.child("message"), message, "must not contain line breaks"));
        } else if breaks(source.trim()) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            form.push(FieldError::required(&path.child("message"), why));
        }
        let expression = text(rule, &["messageExpression"]);
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            form.push(FieldError::required(&path.child("messageExpression"), why));
        }
        if let Some(reason) =
            rule.get("reason").and_then(Value::as_str).filter(|reason| !REASONS.contains(reason))
        {
            form.push(FieldError::not_supported(&path.child("reason"), reason, &REASONS));
        }
        let field = text(rule, &["fieldPath"]);
        if field.is_empty() {
            return;
        }
        let at = path.child("fieldPath");
        if field.trim().is_empty() {
            form.push(FieldError::invalid(&at, field, "must be non-empty if specified"));
        }
        if breaks(field) {
            form.push(FieldError::invalid(&at, field, "must not contain line breaks"));
        }
        if field_path::normalize(field, schema).is_err() {
            form.push(FieldError::invalid(&at, field, "must be a valid path"));
        }
    }

    fn rule(&mut self, rule: &Value, place: &Place<'_>, decl: &DeclType, path: &Path<'_>) {
        let compiled = Rule::compile(rule, place.schema, decl);
        let (at, at_message) = (path.child("rule"), path.child("messageExpression"));
        let times = place.cardinality.unwrap_or_else(|| decl.max_cardinality());
        let cost = compiled.cost().saturating_mul(times);
        if !self.unchanged && cost > MAX_RULE_COST {
            self.found.push(FieldError::forbidden(&at, exceeds("estimated rule cost", cost, MAX_RULE_COST)));
        }
        self.observe(&at, cost);
        if let Err(why) = &compiled.program {
            self.found.push(FieldError::invalid_unshown(&at, format!("{}: {why}", shown(rule))));
        }
        if let Some(why) = &compiled.message_fault {
            self.found.push(FieldError::invalid_unshown(&at_message, format!("{}: {why}", shown(rule))));
        } else if let Some(program) = &compiled.message_program {
            let cost = program.cost().max;
            if !self.unchanged && cost > MAX_RULE_COST {
                let why = exceeds("estimated messageExpression cost", cost, MAX_RULE_COST);
                self.found.push(FieldError::forbidden(&at_message, why));
            }
            self.observe(&at_message, cost);
        }
        if compiled.transition {
            if let Some(list) = &place.uncorrelatable {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                self.found.push(FieldError::invalid(&at, text(rule, &["rule"]), why));
            }
        } else if let Some(optional) = rule.get("optionalOldSelf").and_then(Value::as_bool) {
            let why = "may not be set if oldSelf is not used in rule";
            self.found.push(FieldError::invalid(&path.child("optionalOldSelf"), optional, why));
        }
    }

    fn observe(&mut self, path: &Path<'_>, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= MAX_SCHEMA_COST / 100 {
            self.expensive.push((path.to_string(), cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(NAMED);
        }
    }
}

/// A rule as upstream shows the value at fault: with its fields in their order.
fn shown(rule: &Value) -> String {
    let of = |name: &str| Value::from(text(rule, &[name])).to_string();
    let reason = rule.get("reason").cloned().unwrap_or_default();
    let optional = rule.get("optionalOldSelf").cloned().unwrap_or_default();
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{reason},\"FieldPath\":{},\
         \"OptionalOldSelf\":{optional}}}",
        of("rule"),
        of("message"),
        of("messageExpression"),
        of("fieldPath")
    )
}

#[allow(clippy::cast_precision_loss)]
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}
