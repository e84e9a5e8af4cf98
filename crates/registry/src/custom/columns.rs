//! Printer columns of custom resources.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::JsonPath;
use crate::kind::Column;
use crate::table;
use crate::tree::{items, number, text};

/// A column and where its cells come from.
pub(super) struct Printer {
    path: JsonPath,
    type_: String,
}

/// Columns and printers of a version. Without any, a table shows the age.
pub(super) fn of_version(version: &Value) -> (Vec<Column>, Vec<Printer>) {
    let mut columns = vec![Column::new("Name", "string")];
    let mut printers = Vec::new();
    let age = [json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})];
    let given = items(version, &["additionalPrinterColumns"]);
    for spec in if given.is_empty() { &age[..] } else { given } {
        // Columns were checked when the definition was written.
        let Ok(path) = JsonPath::parse(text(spec, &["jsonPath"])) else { continue };
        let type_ = text(spec, &["type"]).to_owned();
        columns.push(Column {
            name: text(spec, &["name"]).into(),
            type_: type_.clone(),
            format: text(spec, &["format"]).into(),
            description: text(spec, &["description"]).into(),
            priority: number(spec, &["priority"]).unwrap_or_default(),
        });
        printers.push(Printer { path, type_ });
    }
    (columns, printers)
}

impl Printer {
    /// The cell of an object.
    pub(super) fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(first) = found.first() else { return Value::Null };
        match (self.type_.as_str(), first) {
            ("integer", value) => value.as_i64().map_or(Value::Null, Value::from),
            ("number", value) => value.as_f64().map_or(Value::Null, Value::from),
            ("boolean", value) => value.as_bool().map_or(Value::Null, Value::from),
            ("date", Value::String(text)) => table::since(apimachinery::time::parse(text).ok(), now),
            ("string", _) => {
                let texts: Vec<String> = found.iter().map(|value| plain(value)).collect();
                texts.join(",").into()
            }
            _ => Value::Null,
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
