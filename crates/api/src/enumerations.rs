//! Which values fields are said to take: what `kubectl explain` lists as ENUM.
//!
//! They are documentation: what is checked when an object comes in is up to its kind, with better words. A line of the text
//! is a definition (`:NAME`) or one of its fields with the values. Of a list or map they are those of its items.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

const TEXT: &str = include_str!("../schema/enums.txt");

/// By the definition's full name.
static ENUMERATIONS: LazyLock<HashMap<&str, Vec<Enumeration>>> = LazyLock::new(|| {
    let mut all: HashMap<&str, Vec<Enumeration>> = HashMap::new();
    let mut definition = "";
    for line in TEXT.lines() {
        if let Some(name) = line.strip_prefix(':') {
            definition = name;
        } else if let Some((field, values)) = line.split_once(' ') {
            let values = values.split(' ').collect();
            all.entry(definition).or_default().push(Enumeration { field, values });
        }
    }
    all
});

struct Enumeration {
    field: &'static str,
    values: Vec<&'static str>,
}

/// Puts the values into the document of that definition.
pub(crate) fn enumerate(document: &mut Value, definition: &str) {
    for Enumeration { field, values } in ENUMERATIONS.get(definition).into_iter().flatten() {
        let property = document.pointer_mut("/properties").and_then(|properties| properties.get_mut(field));
        if let Some(scalar) = property.and_then(Value::as_object_mut).and_then(scalar) {
            scalar.insert("enum".to_owned(), values.clone().into());
        }
    }
}

/// The property, or what its items are.
fn scalar(property: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    for inner in ["items", "additionalProperties"] {
        if property.contains_key(inner) {
            return property.get_mut(inner)?.as_object_mut();
        }
    }
    Some(property)
}

#[cfg(test)]
mod tests {
    use apimachinery::schema::OpenApi;

    use super::*;
    use crate::descriptions::Descriptions;
    use crate::schemas::builtin;

    #[test]
    fn every_line_finds_its_place() {
        let said = Descriptions::unpack();
        for (definition, all) in ENUMERATIONS.iter() {
            let document =
                builtin().openapi(definition, OpenApi::V3, &said).unwrap_or_else(|| panic!("{definition}"));
            for Enumeration { field, values } in all {
                let mut property = document["properties"][field].clone();
                let found = scalar(property.as_object_mut().unwrap()).unwrap();
                assert_eq!(found["enum"], Value::from(values.clone()), "{definition} {field}");
                assert_eq!(found["type"], "string", "{definition} {field}");
            }
        }
    }
}
