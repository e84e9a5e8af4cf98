//! JSON text to trees, noticing keys that are given twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
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

/// How deep an object may be nested that is to be stored. Our reader and those of clients stop a little further down, and
/// lists, tables and watch events put some levels around an object.
pub const MAX_DEPTH: usize = 120;

/// How many objects and lists of the tree lie inside one another.
pub fn depth(tree: &Value) -> usize {
    match tree {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Reads one JSON value. Nesting deeper than 127 is refused.
///
/// # Errors
/// When the text is no JSON.
pub fn parse(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    // The tree is no larger than its text.
    let parsed = read(&mut reader, usize::MAX)?;
    reader.end()?;
    Ok(parsed)
}

/// Reads one value of a format whose text may stand for far more than itself: at most `most` values and bytes of text.
///
/// # Errors
/// When the text is malformed, or stands for too much.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D, most: usize) -> Result<Parsed, D::Error> {
    let mut reading = Reading { duplicates: Vec::new(), left: most };
    let tree = Tree(&mut reading).deserialize(deserializer)?;
    // Paths grow from the leaf up, so they stand backwards.
    let duplicates = reading.duplicates.into_iter().map(Trail::into_path).collect();
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

struct Reading {
    duplicates: Vec<Trail>,
    /// How many more values and bytes of text may come.
    left: usize,
}

impl Reading {
    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        let too_much = || E::custom("document contains excessive aliasing");
        self.left = self.left.checked_sub(bytes.saturating_add(1)).ok_or_else(too_much)?;
        Ok(())
    }
}

struct Tree<'a>(&'a mut Reading);

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

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.take(0)?;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut items = Vec::new();
        loop {
            let before = self.0.duplicates.len();
            let Some(item) = seq.next_element_seed(Tree(self.0))? else { break };
            for trail in self.0.duplicates.iter_mut().skip(before) {
                trail.0.push(Step::Index(items.len()));
            }
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.0.take(key.len())?;
            let before = self.0.duplicates.len();
            let value = access.next_value_seed(Tree(self.0))?;
            for trail in self.0.duplicates.iter_mut().skip(before) {
                trail.0.push(Step::Key(key.clone()));
            }
            match map.entry(key) {
                serde_json::map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                serde_json::map::Entry::Occupied(mut entry) => {
                    if self.0.duplicates.len() < MAX_REPORTED_FIELDS {
                        self.0.duplicates.push(Trail(vec![Step::Key(entry.key().clone())]));
                    }
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
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
    }

    #[test]
    fn what_may_be_stored_can_be_read_back_within_a_list() {
        let nested = |levels: usize| format!("{}0{}", "[".repeat(levels), "]".repeat(levels));
        let deepest = parse(nested(MAX_DEPTH).as_bytes()).unwrap().tree;
        assert_eq!(depth(&deepest), MAX_DEPTH);
        assert!(parse(json!({"rows": [{"object": deepest}]}).to_string().as_bytes()).is_ok());
        assert_eq!(depth(&json!({"a": [{}, 1], "b": 2})), 3);
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
