//! Field selectors: `metadata.name=x,status.phase!=Running`.

use std::fmt;

use crate::field::quote;

/// The text is no field selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A part without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{part}'")]
    NotUnderstood {
        /// The whole.
        selector: String,
        /// The part.
        part: String,
    },
    /// A value with a stray escape.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
}

/// One condition on one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    /// `metadata.name`, `status.phase`, ….
    pub field: String,
    /// Whether it must be equal, or must not be.
    pub equal: bool,
    /// To what.
    pub value: String,
}

/// Conditions that must all hold; none at all holds for everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    /// The conditions, in the order of the text.
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// From text.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut requirements = Vec::new();
        for part in split_unescaped(text).into_iter().filter(|part| !part.is_empty()) {
            let (field, operator, value) = split_operator(part).ok_or_else(|| {
                FieldSelectorError::NotUnderstood { selector: text.to_owned(), part: part.to_owned() }
            })?;
            let value = unescape(value)?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal: operator != "!=", value });
        }
        Ok(Self { requirements })
    }

    /// Whether everything satisfies it.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The one value that a field must have, if there is one.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        let found =
            self.requirements.iter().find(|requirement| requirement.equal && requirement.field == field);
        found.map(|requirement| requirement.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        if byte == b',' && !escaped {
            parts.extend(text.get(start..at));
            start = at + 1;
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts.extend(text.get(start..));
    parts
}

fn split_operator(part: &str) -> Option<(&str, &str, &str)> {
    let at = part.find(['=', '!'])?;
    let (field, rest) = part.split_at_checked(at)?;
    let operator = ["==", "!=", "="].into_iter().find(|operator| rest.starts_with(operator))?;
    Some((field, operator, rest.strip_prefix(operator)?))
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence = format!("\\{}", other.map(String::from).unwrap_or_default());
                    return Err(FieldSelectorError::Escape(quote(&sequence)));
                }
            },
            '=' | ',' => {
                return Err(FieldSelectorError::Escape(format!("unescaped {c} in {}", quote(value))));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if requirement.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}", requirement.field)?;
            for c in requirement.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_read_and_write_as_upstream() {
        for (text, canonical) in [
            ("", ""),
            ("metadata.name=x", "metadata.name=x"),
            ("a==b,c!=d", "a=b,c!=d"),
            ("a=", "a="),
            ("a=x\\,y\\=z\\\\", "a=x\\,y\\=z\\\\"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap().to_string(), canonical, "{text}");
        }
        assert_eq!(
            FieldSelector::parse("a=b,c").unwrap_err().to_string(),
            "invalid selector: 'a=b,c'; can't understand 'c'"
        );
        for text in ["a=b=c", "a=\\x", "a=\\", "a!b"] {
            assert!(FieldSelector::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|[a-c=!,\\\\]{0,30}") {
            if let Ok(selector) = FieldSelector::parse(&text) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
