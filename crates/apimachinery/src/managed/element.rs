//! One step of a path, as the text that it has in `fieldsV1`: `f:name`, `k:{"name":"a"}`, `v:"x"`, `i:0`.
//!
//! The text is canonical (keys sorted, no spaces), so that equal steps have equal texts and sets need no other form.

use serde_json::{Map, Value};

use crate::field::quote;
use crate::gvk::Name;

/// The text of a step that nobody can take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ElementError(pub(super) String);

/// The step to a field.
pub(super) fn field(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push_str("f:");
    text.push_str(name);
    text
}

/// The step to an item of a set.
pub(super) fn value(item: &Value) -> Result<String, ElementError> {
    let error = |why: &str| Err(ElementError(why.to_owned()));
    match item {
        Value::Object(_) => error("associative list without keys has an element that's a map type"),
        Value::Array(_) => error("not supported: associative list with lists as elements"),
        Value::Null => error("associative list without keys has an element that's an explicit null"),
        item => Ok(format!("v:{}", canonical(item))),
    }
}

/// The step to an item of a list by its keys. `default` says what a key has that the item does not name.
pub(super) fn key(
    item: &Value,
    keys: &[Name],
    default: impl Fn(&str) -> Option<Value>,
) -> Result<String, ElementError> {
    let error = |why: &str| Err(ElementError(why.to_owned()));
    let item = match item {
        Value::Object(item) => item,
        Value::Null => return error("associative list with keys may not have a null element"),
        _ => return error("associative list with keys may not have non-map elements"),
    };
    let mut found: Vec<(&str, String)> = Vec::with_capacity(keys.len());
    for name in keys {
        let value = match item.get(name.as_ref()) {
            Some(value) => canonical(value),
            None => match default(name) {
                Some(value) => canonical(&value),
                None => continue,
            },
        };
        found.push((name, value));
    }
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|name| quote(name)).collect();
        return Err(ElementError(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        )));
    }
    Ok(join(found))
}

fn join(mut found: Vec<(&str, String)>) -> String {
    found.sort_unstable_by(|a, b| a.0.cmp(b.0));
    let mut text = String::from("k:{");
    for (index, (name, value)) in found.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&Value::from(*name).to_string());
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

/// Numbers that are equal have one text.
fn canonical(value: &Value) -> String {
    if let Some(number) = value.as_f64().filter(|_| value.is_f64())
        && number.fract() == 0.0
        && number.abs() < 9e15
    {
        #[allow(clippy::cast_possible_truncation, reason = "whole, and within 2^53")]
        return (number as i64).to_string();
    }
    value.to_string()
}

/// The canonical text of a step that somebody else wrote; `None` for a kind of step that is not known, which is ignored.
pub(super) fn read(text: &str) -> Result<Option<String>, ElementError> {
    let Some((kind, rest)) = text.split_at_checked(2) else {
        return Err(ElementError("key must be 2 characters long:".to_owned()));
    };
    if !kind.ends_with(':') {
        return Err(ElementError(format!("missing colon: {text}")));
    }
    let json = || serde_json::from_str::<Value>(rest).map_err(|error| ElementError(error.to_string()));
    match kind {
        "f:" => Ok(Some(text.to_owned())),
        "v:" => Ok(Some(format!("v:{}", canonical(&json()?)))),
        "k:" => {
            let Value::Object(map) = json()? else {
                return Err(ElementError(format!("expected an object: {text}")));
            };
            Ok(Some(join(map.iter().map(|(name, value)| (name.as_str(), canonical(value))).collect())))
        }
        "i:" => match rest.parse::<i64>() {
            Ok(index) => Ok(Some(format!("i:{index}"))),
            Err(error) => Err(ElementError(error.to_string())),
        },
        _ => Ok(None),
    }
}

/// The step for people: `.name`, `[name="a"]`, `[="x"]`, `[0]`.
pub(super) fn show(text: &str, out: &mut String) {
    let (kind, rest) = text.split_at_checked(2).unwrap_or(("", text));
    match kind {
        "f:" => {
            out.push('.');
            out.push_str(rest);
        }
        "k:" => {
            let map: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
            let pairs: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}={}", text_of(value))).collect();
            out.push_str(&format!("[{}]", pairs.join(",")));
        }
        "v:" => {
            let value: Value = serde_json::from_str(rest).unwrap_or_default();
            out.push_str(&format!("[={}]", text_of(&value)));
        }
        _ => out.push_str(&format!("[{rest}]")),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        show(text, &mut out);
        out
    }

    #[test]
    fn equal_steps_have_equal_texts() {
        let keys: Vec<Name> = vec!["port".into(), "name".into()];
        let step = key(&json!({"port": 80, "name": "a", "x": 1}), &keys, |_| None).unwrap();
        assert_eq!(step, r#"k:{"name":"a","port":80}"#);
        assert_eq!(read(r#"k:{ "port": 80.0, "name": "a" }"#).unwrap().unwrap(), step);
        assert_eq!(shown(&step), r#"[name="a",port=80]"#);
        let step = key(&json!({"port": 80}), &keys, |name| (name == "name").then(|| "b".into())).unwrap();
        assert_eq!(step, r#"k:{"name":"b","port":80}"#);
        assert_eq!(value(&json!("x")).unwrap(), r#"v:"x""#);
        assert_eq!(shown(r#"v:"x""#), r#"[="x"]"#);
        assert_eq!((shown("f:spec"), shown("i:3")), (".spec".to_owned(), "[3]".to_owned()));
    }

    #[test]
    fn what_is_no_step_is_refused_or_ignored() {
        let keys: Vec<Name> = vec!["name".into()];
        for item in [json!(null), json!(1), json!({"other": 1})] {
            assert!(key(&item, &keys, |_| None).is_err(), "{item}");
        }
        for item in [json!(null), json!([]), json!({})] {
            assert!(value(&item).is_err(), "{item}");
        }
        for text in ["", "f", "fx", "k:1", "v:", "i:x"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("z:new"), Ok(None));
    }
}
