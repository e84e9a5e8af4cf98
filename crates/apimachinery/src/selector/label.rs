//! Label selectors: matching, text and object form.

use std::fmt;

use serde_json::{Map, Value};

use super::parse;
use crate::field::{ErrorList, FieldError, Path};
use crate::meta::names;

/// The text is no selector. The message is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// One of the values.
    In,
    /// None of the values, or no such label.
    NotIn,
    /// There, with any value.
    Exists,
    /// Not there.
    DoesNotExist,
    /// A whole number above the value.
    GreaterThan,
    /// A whole number below the value.
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// With what; sorted, each once.
    pub values: Vec<String>,
}

/// Conditions that must all hold; none at all holds for everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// When the key or a value could be no label, or the number of values does not suit the operator.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        if let Some(fault) = names::qualified_name(key).first() {
            return Err(SelectorError(format!("key: Invalid value: {}: {fault}", crate::field::quote(key))));
        }
        let wrong = |what: &str| Err(SelectorError(format!("values: Invalid value: {values:?}: {what}")));
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return wrong("for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return wrong("values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan => match values.as_slice() {
                [value] if value.parse::<i64>().is_ok() => {}
                [_] => return wrong("for 'Gt', 'Lt' operators, the value must be an integer"),
                _ => return wrong("for 'Gt', 'Lt' operators, exactly one value is required"),
            },
            _ => {}
        }
        for value in &values {
            if let Some(fault) = names::label_value(value).first() {
                let value = crate::field::quote(value);
                return Err(SelectorError(format!("values[0][{key}]: Invalid value: {value}: {fault}")));
            }
        }
        values.sort();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether a label's value (or its absence) satisfies it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|known| known == value);
        let number = |value: &str| value.parse::<i64>().ok();
        let limit = || self.values.first().and_then(|value| number(value));
        match (self.operator, value) {
            (Operator::In, Some(value)) => listed(value),
            (Operator::NotIn, Some(value)) => !listed(value),
            (Operator::Exists, found) => found.is_some(),
            (Operator::DoesNotExist, found) => found.is_none(),
            (Operator::GreaterThan, Some(value)) => number(value).zip(limit()).is_some_and(|(a, b)| a > b),
            (Operator::LessThan, Some(value)) => number(value).zip(limit()).is_some_and(|(a, b)| a < b),
            (Operator::NotIn, None) => true,
            (_, None) => false,
        }
    }
}

impl Selector {
    /// Holds for everything.
    pub const fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }

    /// Holds for nothing.
    pub const fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// From the text form: `a=b,c!=d,e in (x,y),!f,g`.
    ///
    /// # Errors
    /// When it has another form, or names what could be no label.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Ok(Self::from_requirements(parse::requirements(text)?))
    }

    /// All of those requirements.
    pub fn from_requirements(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// Exactly those labels, among any others.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let equal = |(key, value): (&str, &str)| Requirement {
            key: key.to_owned(),
            operator: Operator::In,
            values: vec![value.to_owned()],
        };
        Self::from_requirements(labels.into_iter().map(equal).collect())
    }

    /// From the plain map form (`spec.selector` of a Service). An absent or empty map holds for nothing.
    pub fn from_map(labels: Option<&Map<String, Value>>) -> Self {
        match labels {
            Some(labels) if !labels.is_empty() => Self::from_labels(
                labels.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))),
            ),
            _ => Self::nothing(),
        }
    }

    /// From the object form (`matchLabels`, `matchExpressions`). Null holds for nothing, `{}` for everything.
    ///
    /// # Errors
    /// What is wrong with which part of it.
    pub fn from_object(object: &Value, path: &Path<'_>) -> Result<Self, ErrorList> {
        if object.is_null() {
            return Ok(Self::nothing());
        }
        let mut errors = Vec::new();
        let mut requirements = Vec::new();
        let labels = object.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            let at = path.child("matchLabels");
            let value = value.as_str().unwrap_or_default();
            let faults = names::qualified_name(key);
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(&at, key.as_str(), fault)));
            let faults = names::label_value(value);
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(&at, value, fault)));
            requirements.push(Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.to_owned()],
            });
        }
        let expressions = object.get("matchExpressions").and_then(Value::as_array);
        let at = path.child("matchExpressions");
        for (index, expression) in expressions.into_iter().flatten().enumerate() {
            requirements.extend(expression_requirement(expression, &at.index(index), &mut errors));
        }
        if errors.is_empty() { Ok(Self::from_requirements(requirements)) } else { Err(errors) }
    }

    /// Whether everything satisfies it.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Its conditions, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels that are looked up by that function satisfy it.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| requirement.matches(lookup(&requirement.key)))
    }

    /// Whether the labels of an object (`metadata.labels`; null and absent are no labels) satisfy it.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|key| labels?.get(key)?.as_str())
    }
}

fn expression_requirement(
    expression: &Value,
    path: &Path<'_>,
    errors: &mut ErrorList,
) -> Option<Requirement> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let (key, operator) = (text("key"), text("operator"));
    let values: Vec<String> = expression
        .get("values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect();
    let before = errors.len();
    let at = path.child("values");
    let parsed = match operator {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
            return None;
        }
    };
    match parsed {
        Operator::In | Operator::NotIn if values.is_empty() => {
            errors.push(FieldError::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at, why));
        }
        _ => {}
    }
    let faults = names::qualified_name(key);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(&path.child("key"), key, fault)));
    for (index, value) in values.iter().enumerate() {
        let faults = names::label_value(value);
        errors.extend(
            faults.into_iter().map(|fault| FieldError::invalid(&at.index(index), value.as_str(), fault)),
        );
    }
    (errors.len() == before).then(|| Requirement::new(key, parsed, values).ok()).flatten()
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match (self.operator, self.values.len()) {
            (Operator::Exists, _) => f.write_str(key),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::In, 1) => write!(f, "{key}={values}"),
            (Operator::NotIn, 1) => write!(f, "{key}!={values}"),
            (Operator::In, _) => write!(f, "{key} in ({values})"),
            (Operator::NotIn, _) => write!(f, "{key} notin ({values})"),
            (Operator::GreaterThan, _) => write!(f, "{key}>{values}"),
            (Operator::LessThan, _) => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}
