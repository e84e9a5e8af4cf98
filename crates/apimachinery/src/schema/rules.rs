//! What only custom kinds say about a node: text, defaults and limits on values.

use std::fmt;

use serde_json::{Number, Value};

use super::Schema;

/// The part of a node that built-in kinds do not have.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// For people.
    pub description: String,
    /// For people.
    pub title: String,
    /// What an absent value becomes.
    pub default: Option<Value>,
    /// The only values that are taken.
    pub enumeration: Vec<Value>,
    /// Smallest number.
    pub minimum: Option<Bound>,
    /// Largest number.
    pub maximum: Option<Bound>,
    /// Numbers are a multiple of this.
    pub multiple_of: Option<Number>,
    /// Shortest text, in characters.
    pub min_length: Option<u64>,
    /// Longest text, in characters.
    pub max_length: Option<u64>,
    /// What text must match.
    pub pattern: Option<Pattern>,
    /// Fewest items.
    pub min_items: Option<u64>,
    /// Most items.
    pub max_items: Option<u64>,
    /// No item twice.
    pub unique_items: bool,
    /// Fewest entries.
    pub min_properties: Option<u64>,
    /// Most entries.
    pub max_properties: Option<u64>,
    /// All of these hold too.
    pub all_of: Vec<Schema>,
    /// At least one of these holds.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Box<Schema>>,
    /// Keys that are kept for the OpenAPI document but mean nothing here (`example`, `externalDocs`,
    /// `x-kubernetes-validations`).
    pub carried: serde_json::Map<String, Value>,
}

/// A limit on a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The limit.
    pub value: Number,
    /// Whether the limit itself is outside.
    pub exclusive: bool,
}

/// A compiled regular expression.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: regex::Regex,
}

impl Pattern {
    /// Compiles it, within limits that keep a hostile CRD from taking the server's memory.
    ///
    /// # Errors
    /// When it is malformed or too large.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        const MAX_COMPILED_BYTES: usize = 1 << 20;
        let regex = crate::regexp::compile(text, MAX_COMPILED_BYTES)?;
        Ok(Self { text: text.to_owned(), regex })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it occurs in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
