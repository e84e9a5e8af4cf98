//! A whole number or a percentage (`maxSurge: 25%`, `targetPort: http`).

use std::fmt;

use serde_json::Value;

/// A whole number, or text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// Text: a percentage or a name.
    String(String),
}

/// The text is no percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for IntOrString: {0}")]
pub struct PercentError(String);

impl IntOrString {
    /// From JSON.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Number(n) => n.as_i64().and_then(|n| i32::try_from(n).ok()).map(Self::Int),
            Value::String(text) => Some(Self::String(text.clone())),
            _ => None,
        }
    }

    /// To JSON.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Int(n) => Value::from(*n),
            Self::String(text) => Value::from(text.as_str()),
        }
    }

    /// The percentage, where the text is one (`25%`).
    ///
    /// # Errors
    /// When the text is something else.
    pub fn percent(&self) -> Result<Option<i32>, PercentError> {
        match self {
            Self::Int(_) => Ok(None),
            Self::String(text) => {
                let digits = text.strip_suffix('%').ok_or_else(|| PercentError(text.clone()))?;
                digits.parse().map(Some).map_err(|_| PercentError(text.clone()))
            }
        }
    }

    /// The number meant: itself, or that percentage of `total`, rounded up or down.
    ///
    /// # Errors
    /// When the text is no percentage.
    pub fn scaled(&self, total: i32, round_up: bool) -> Result<i32, PercentError> {
        let Self::Int(n) = self else {
            let percent = i64::from(self.percent()?.unwrap_or_default());
            let product = percent * i64::from(total);
            let down = product.div_euclid(100);
            let scaled = if round_up && product.rem_euclid(100) != 0 { down + 1 } else { down };
            return Ok(i32::try_from(scaled).unwrap_or(if scaled < 0 { i32::MIN } else { i32::MAX }));
        };
        Ok(*n)
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => n.fmt(f),
            Self::String(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let check = |text: &str, total: i32, up: i32, down: i32| {
            let value = IntOrString::String(text.into());
            assert_eq!(value.scaled(total, true), Ok(up));
            assert_eq!(value.scaled(total, false), Ok(down));
        };
        check("25%", 3, 1, 0);
        check("25%", 4, 1, 1);
        check("100%", 7, 7, 7);
        check("0%", 7, 0, 0);
        check("33%", 10, 4, 3);
        assert_eq!(IntOrString::Int(5).scaled(100, true), Ok(5));
        for bad in ["", "5", "%", "5%%", "x%"] {
            assert!(IntOrString::String(bad.into()).scaled(1, true).is_err(), "{bad}");
        }
        assert_eq!(IntOrString::String("2147483647%".into()).scaled(i32::MAX, true), Ok(i32::MAX));
    }
}
