//! Reading a few fields of a document without making a tree of the rest.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Which fields are wanted. Lists are no step of a path: what is said of a list holds for each of its elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// All that is here, whatever is below.
    whole: bool,
    below: BTreeMap<Box<str>, Excerpt>,
}

impl Excerpt {
    /// Of the fields at these paths, whole.
    pub fn of<P>(paths: impl IntoIterator<Item = P>) -> Self
    where
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        let mut excerpt = Self::default();
        for path in paths {
            let mut at = &mut excerpt;
            for step in path {
                at = at.below.entry(step.as_ref().into()).or_default();
            }
            at.whole = true;
        }
        excerpt
    }

    /// The document as a tree in which nothing else is. Where a path leads through what is neither object nor list, that is
    /// left in.
    ///
    /// # Errors
    /// When the text is no JSON, in a part that is left out as well.
    pub fn read(&self, text: &[u8]) -> Result<Value, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let tree = self.deserialize(&mut reader)?;
        reader.end()?;
        Ok(tree)
    }
}

impl<'de> DeserializeSeed<'de> for &Excerpt {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.whole { Value::deserialize(deserializer) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for &Excerpt {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut tree = Map::new();
        while let Some(wanted) = map.next_key_seed(Name(&self.below))? {
            match wanted {
                Some((name, excerpt)) => {
                    tree.insert(name.into(), map.next_value_seed(excerpt)?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(tree))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(self)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A key, looked up without being kept.
struct Name<'a>(&'a BTreeMap<Box<str>, Excerpt>);

impl<'a, 'de> DeserializeSeed<'de> for Name<'a> {
    type Value = Option<(&'a str, &'a Excerpt)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Name<'a> {
    type Value = Option<(&'a str, &'a Excerpt)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.get_key_value(key).map(|(name, excerpt)| (&**name, excerpt)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn excerpt(paths: &[&str]) -> Excerpt {
        Excerpt::of(paths.iter().map(|path| path.split('.')))
    }

    #[test]
    fn what_is_wanted_is_there_and_nothing_else() {
        let check = |paths: &[&str], document: Value, expected: Value| {
            let read = excerpt(paths).read(document.to_string().as_bytes()).unwrap();
            assert_eq!(read, expected, "{paths:?} of {document}");
        };
        let document =
            json!({"a": {"b": 1, "c": [2]}, "d": "x", "e": [{"f": null, "g": 1.5}, {"f": true}, 7]});
        check(&["a.b"], document.clone(), json!({"a": {"b": 1}}));
        check(&["a.b", "a"], document.clone(), json!({"a": {"b": 1, "c": [2]}}));
        check(&["d", "e.f"], document.clone(), json!({"d": "x", "e": [{"f": null}, {"f": true}, 7]}));
        check(&["d.y", "z"], document.clone(), json!({"d": "x"}));
        check(&[], document, json!({}));
        check(&["a"], json!("text"), json!("text"));
        check(&["\u{e9}\"."], json!({"\u{e9}\"": {"": -3}}), json!({"\u{e9}\"": {"": -3}}));
    }

    #[test]
    fn malformed_text_is_refused_wherever_it_is() {
        for text in ["", "{", r#"{"a":}"#, r#"{"z":[1,}"#, r#"{"a":1}x"#, r#"{"z":"\q"}"#] {
            assert!(excerpt(&["a"]).read(text.as_bytes()).is_err(), "{text}");
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ab\"\\\\\u{e9}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    /// The same, slowly: of the whole tree.
    fn pruned(tree: Value, excerpt: &Excerpt) -> Value {
        match tree {
            tree if excerpt.whole => tree,
            Value::Object(map) => {
                let wanted = map.into_iter().filter_map(|(key, value)| {
                    let below = excerpt.below.get(&*key)?;
                    Some((key, pruned(value, below)))
                });
                wanted.collect::<Map<_, _>>().into()
            }
            Value::Array(list) => list.into_iter().map(|element| pruned(element, excerpt)).collect(),
            scalar => scalar,
        }
    }

    proptest! {
        #[test]
        fn an_excerpt_is_the_whole_tree_pruned(tree in tree(), paths in prop::collection::vec("[abc](\\.[abc]){0,2}", 0..4)) {
            let excerpt = excerpt(&paths.iter().map(String::as_str).collect::<Vec<_>>());
            let text = tree.to_string();
            let tree: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(excerpt.read(text.as_bytes()).unwrap(), pruned(tree, &excerpt));
        }
    }
}
