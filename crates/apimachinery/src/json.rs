//! JSON text to trees, noticing keys that are given twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::schema::MAX_REPORTED_FIELDS;

/// A tree, and the paths of keys that its text gave more than once (the last one counts).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The tree.
    pub tree: Value,
    /// `spec.containers[0].name`, …; at most [`MAX_REPORTED_FIELDS`].
    pub duplicates: Vec<String>,
}

/// Reads one JSON value. Nesting deeper than 128 is refused.
///
/// # Errors
/// When the text is no JSON.
pub fn parse(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let tree = Tree { duplicates: &mut duplicates }.deserialize(&mut reader)?;
    reader.end()?;
    // Paths grow from the leaf up, so they stand backwards.
    let duplicates = duplicates.into_iter().map(Trail::into_path).collect();
    Ok(Parsed { tree, duplicates })
}

enum Step {
    Key(String),
    Index(usize),
}

/// The way to a repeated key, leaf first.
struct Trail(Vec<Step>);

impl Trail {
    fn into_path(self) -> String {
        let mut path = String::new();
        for step in self.0.into_iter().rev() {
            match step {
                Step::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key);
                }
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

struct Tree<'a> {
    duplicates: &'a mut Vec<Trail>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let before = self.duplicates.len();
            let Some(item) = seq.next_element_seed(Tree { duplicates: self.duplicates })? else { break };
            for trail in self.duplicates.iter_mut().skip(before) {
                trail.0.push(Step::Index(items.len()));
            }
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let before = self.duplicates.len();
            let value = access.next_value_seed(Tree { duplicates: self.duplicates })?;
            for trail in self.duplicates.iter_mut().skip(before) {
                trail.0.push(Step::Key(key.clone()));
            }
            match map.entry(key) {
                serde_json::map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                serde_json::map::Entry::Occupied(mut entry) => {
                    if self.duplicates.len() < MAX_REPORTED_FIELDS {
                        self.duplicates.push(Trail(vec![Step::Key(entry.key().clone())]));
                    }
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// Reads one JSON value of which the caller knows that it is an object.
///
/// # Errors
/// When the text is no JSON object.
pub fn parse_object(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let parsed = parse(text)?;
    if parsed.tree.is_object() {
        Ok(parsed)
    } else {
        Err(serde_json::Error::custom("expected a JSON object"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn repeated_keys_are_named_and_the_last_counts() {
        let text = br#"{"a":1,"b":[{"c":1,"c":2},{"c":3}],"a":{"x":1,"x":1}}"#;
        let parsed = parse(text).unwrap();
        assert_eq!(parsed.tree, json!({"a": {"x": 1}, "b": [{"c": 2}, {"c": 3}]}));
        assert_eq!(parsed.duplicates, ["b[0].c", "a.x", "a"]);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{}x", "nul", "[1,]", "1e999"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse_object(b"[]").is_err());
    }

    #[test]
    fn reports_have_an_end() {
        let text = format!("{{{}\"a\":0}}", "\"a\":0,".repeat(1000));
        assert_eq!(parse(text.as_bytes()).unwrap().duplicates.len(), MAX_REPORTED_FIELDS);
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{}:,\" a0-9.e-]{0,40}|\\PC{0,40}") {
            let expected: Result<Value, _> = serde_json::from_str(&text);
            let found = parse(text.as_bytes());
            prop_assert_eq!(expected.ok(), found.ok().map(|parsed| parsed.tree));
        }
    }
}
