//! Whether a custom object keeps to its schema, in upstream's words.

use serde_json::{Map, Number, Value};

use super::{Bound, Ref, Rules, Schema, Type, formats, lists};
use crate::field::{ErrorList, FieldError, Path, quote};

impl Schema {
    /// What is wrong with the tree. Of an update, what was there before in `old` and did not change is not held against it
    /// (upstream's ratcheting), so that a schema can become stricter under existing objects.
    pub fn validate(&self, tree: &Value, old: Option<&Value>, path: &Path<'_>) -> ErrorList {
        let mut errors = Vec::new();
        self.check(tree, old, path, &mut errors);
        errors
    }

    fn check(&self, tree: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
        if old == Some(tree) || (tree.is_null() && self.nullable) {
            return;
        }
        if !self.takes(tree) {
            let expected = if self.kind == Type::IntOrString { "integer,string" } else { self.kind.as_str() };
            let found = Type::of(tree);
            let detail = format!("{path} in body must be of type {expected}: {}", quote(found));
            errors.push(FieldError::type_invalid(path, found, detail));
            return;
        }
        if let Some(rules) = &self.rules {
            rules.check(tree, path, errors);
        }
        match tree {
            Value::Object(map) => self.check_object(map, old, path, errors),
            Value::Array(items) => {
                self.check_items(items, old, path, errors);
                lists::check(self, items, path, errors);
            }
            Value::String(text) if !self.format.is_empty() && !formats::holds(&self.format, text) => {
                let detail = format!("{path} in body must be of type {}: {}", self.format, quote(text));
                errors.push(FieldError::type_invalid(path, text.as_str(), detail));
            }
            _ => {}
        }
    }

    fn check_object(
        &self,
        map: &Map<String, Value>,
        old: Option<&Value>,
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) {
        for name in self.required.iter().filter(|name| !map.contains_key(name.as_ref())) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
        for (name, value) in map {
            let below = self.property(name).map(|property| &property.schema).or(self.additional.as_ref());
            // Definitions of a table (metadata) are kept to by conforming, and have rules of their own.
            if let Some(Ref::Inline(schema)) = below {
                schema.check(value, old.and_then(|old| old.get(name)), &path.child(name), errors);
            }
        }
    }

    fn check_items(&self, items: &[Value], old: Option<&Value>, path: &Path<'_>, errors: &mut ErrorList) {
        let Some(schema) = self.items.as_ref().map(Ref::get) else { return };
        let before = old.and_then(Value::as_array).and_then(|old| lists::Counterparts::new(self, old));
        for (index, item) in items.iter().enumerate() {
            let before = before.as_ref().and_then(|before| before.of(item));
            schema.check(item, before, &path.index(index), errors);
        }
    }

    fn takes(&self, tree: &Value) -> bool {
        match self.kind {
            Type::Any => true,
            Type::Object => tree.is_object(),
            Type::Array => tree.is_array(),
            Type::String => tree.is_string(),
            Type::Boolean => tree.is_boolean(),
            Type::Number => tree.is_number(),
            Type::Integer => is_whole(tree),
            Type::IntOrString => tree.is_string() || is_whole(tree),
        }
    }
}

fn is_whole(tree: &Value) -> bool {
    tree.as_number().is_some_and(|number| {
        !number.is_f64() || number.as_f64().is_some_and(|n| n.fract().abs() < f64::MIN_POSITIVE)
    })
}

/// As Go prints a number: without a fraction of zero.
fn shown(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => value.to_string(),
        _ => number.to_string(),
    }
}

fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
    }
}

fn len(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl Rules {
    fn check(&self, tree: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        if !self.enumeration.is_empty() && !self.enumeration.iter().any(|known| same(known, tree)) {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let known: Vec<String> = self.enumeration.iter().map(text).collect();
            errors.push(FieldError::not_supported(path, tree.clone(), &known));
        }
        match tree {
            Value::String(text) => self.check_text(text, path, errors),
            Value::Number(number) => self.check_number(number, path, errors),
            Value::Array(items) => self.check_count(items.len(), "items", path, errors),
            Value::Object(map) => self.check_count(map.len(), "properties", path, errors),
            _ => {}
        }
        self.check_junctors(tree, path, errors);
    }

    fn check_text(&self, text: &str, path: &Path<'_>, errors: &mut ErrorList) {
        let mut invalid = |detail: String| errors.push(FieldError::invalid(path, text, detail));
        if let Some(least) = self.min_length.filter(|least| len(text.chars().count()) < *least) {
            invalid(format!("{path} in body should be at least {least} chars long"));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            invalid(format!("{path} in body should match '{}'", pattern.as_str()));
        }
        if let Some(most) = self.max_length.filter(|most| len(text.chars().count()) > *most) {
            errors.push(FieldError::too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
        }
    }

    fn check_number(&self, number: &Number, path: &Path<'_>, errors: &mut ErrorList) {
        let mut invalid = |what: String| {
            let detail = format!("{path} in body should be {what}");
            errors.push(FieldError::invalid(path, number.clone(), detail));
        };
        let words = |bound: &Bound, exclusive: &str, inclusive: &str| {
            format!("{} {}", if bound.exclusive { exclusive } else { inclusive }, shown(&bound.value))
        };
        if let Some(bound) = &self.maximum {
            let order = compare(number, &bound.value);
            if order.is_gt() || (order.is_eq() && bound.exclusive) {
                invalid(words(bound, "less than", "less than or equal to"));
            }
        }
        if let Some(bound) = &self.minimum {
            let order = compare(number, &bound.value);
            if order.is_lt() || (order.is_eq() && bound.exclusive) {
                invalid(words(bound, "greater than", "greater than or equal to"));
            }
        }
        if let Some(factor) = self.multiple_of.as_ref().filter(|factor| !is_multiple(number, factor)) {
            invalid(format!("a multiple of {}", shown(factor)));
        }
    }

    fn check_count(&self, count: usize, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
        let (least, most) = match what {
            "items" => (self.min_items, self.max_items),
            _ => (self.min_properties, self.max_properties),
        };
        if let Some(least) = least.filter(|least| len(count) < *least) {
            let detail = format!("{path} in body should have at least {least} {what}");
            errors.push(FieldError::invalid(path, len(count), detail));
        }
        if let Some(most) = most.filter(|most| len(count) > *most) {
            errors.push(FieldError::too_many(path, count, usize::try_from(most).unwrap_or(usize::MAX)));
        }
    }

    fn check_junctors(&self, tree: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        let name = || quote(&path.to_string());
        for schema in &self.all_of {
            schema.check(tree, None, path, errors);
        }
        if !self.any_of.is_empty() {
            let (valid, best) = try_each(&self.any_of, tree, path);
            if valid == 0 {
                let detail = format!("{} must validate at least one schema (anyOf)", name());
                errors.push(FieldError::invalid(path, "", detail));
                errors.extend(best);
            }
        }
        if !self.one_of.is_empty() {
            let (valid, best) = try_each(&self.one_of, tree, path);
            let found = match valid {
                1 => None,
                0 => Some("Found none valid".to_owned()),
                more => Some(format!("Found {more} valid alternatives")),
            };
            if let Some(found) = found {
                let detail = format!("{} must validate one and only one schema (oneOf). {found}", name());
                errors.push(FieldError::invalid(path, "", detail));
                errors.extend(best);
            }
        }
        if let Some(schema) = &self.not
            && schema.validate(tree, None, path).is_empty()
        {
            let detail = format!("{} must not validate the schema (not)", name());
            errors.push(FieldError::invalid(path, "", detail));
        }
    }
}

/// How many of the alternatives hold, and the findings of the one with the fewest. Each is tried once, so that alternatives
/// within alternatives do not multiply.
fn try_each(alternatives: &[Schema], tree: &Value, path: &Path<'_>) -> (usize, ErrorList) {
    let mut valid = 0;
    let mut best: Option<ErrorList> = None;
    for schema in alternatives {
        let findings = schema.validate(tree, None, path);
        valid += usize::from(findings.is_empty());
        if best.as_ref().is_none_or(|best| findings.len() < best.len()) {
            best = Some(findings);
        }
    }
    (valid, best.unwrap_or_default())
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    match (number.as_i128(), factor.as_i128()) {
        (_, Some(0)) => true,
        (Some(number), Some(factor)) => number % factor == 0,
        _ => {
            let quotient = number.as_f64().unwrap_or_default() / factor.as_f64().unwrap_or(1.0);
            (quotient - quotient.round()).abs() < 1e-9
        }
    }
}

/// Equal as JSON: 1 and 1.0 are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        _ => a == b,
    }
}
