//! From any JSON tree to an object of a built-in kind: what a typed decoder does, without the types.
//!
//! One pass: values must have the schema's types; nulls vanish; unknown fields are removed and named; quantities and
//! times take their canonical form, as they would by being decoded and encoded.

use serde_json::{Map, Value};

use super::{MAX_REPORTED_FIELDS, Ref, Schema, Type};
use crate::field::{Path, quote};
use crate::gvk::GroupVersionKind;
use crate::quantity::Quantity;
use crate::status::Status;
use crate::time;

/// A tree that does not fit its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// In upstream's words: `json: cannot unmarshal string into Go struct field …`.
    pub message: String,
}

impl DecodeError {
    /// The BadRequest that upstream answers.
    pub fn to_status(&self, gvk: &GroupVersionKind) -> Status {
        cannot_be_handled(gvk, &self.message)
    }
}

/// What conforming took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conformed {
    /// Paths of unknown fields, at most [`MAX_REPORTED_FIELDS`].
    pub unknown: Vec<String>,
}

/// The BadRequest for a body with unknown or repeated fields; `None` without any.
pub fn strict_error(gvk: &GroupVersionKind, unknown: &[String], duplicate: &[String]) -> Option<Status> {
    let unknown = unknown.iter().map(|path| format!("unknown field {}", quote(path)));
    let duplicate = duplicate.iter().map(|path| format!("duplicate field {}", quote(path)));
    let all: Vec<String> = unknown.chain(duplicate).collect();
    let message = || format!("strict decoding error: {}", all.join(", "));
    (!all.is_empty()).then(|| cannot_be_handled(gvk, &message()))
}

fn cannot_be_handled(gvk: &GroupVersionKind, why: &str) -> Status {
    let (kind, version) = (&gvk.kind, quote(&gvk.version));
    Status::bad_request(format!("{kind} in version {version} cannot be handled as a {kind}: {why}"))
}

/// Where the walk is: the struct that holds the field, for messages.
#[derive(Clone, Copy)]
struct At<'a> {
    holder: &'a str,
    path: &'a Path<'a>,
}

impl Schema {
    /// Makes the tree a proper object of this (built-in) kind, or says why it cannot be one.
    ///
    /// # Errors
    /// When a value has the wrong type.
    pub fn conform(&self, tree: &mut Value) -> Result<Conformed, DecodeError> {
        let mut done = Conformed::default();
        let path = Path::empty();
        self.conform_at(tree, At { holder: self.type_name(), path: &path }, &mut done)?;
        Ok(done)
    }

    fn conform_at(&self, tree: &mut Value, at: At<'_>, done: &mut Conformed) -> Result<(), DecodeError> {
        match (self.kind, &mut *tree) {
            (Type::Object, Value::Object(map)) => self.conform_object(map, at, done),
            (Type::Array, Value::Array(items)) => {
                let Some(schema) = self.items.as_ref().map(Ref::get) else { return Ok(()) };
                for (index, item) in items.iter_mut().enumerate() {
                    schema.replace_null(item);
                    schema.conform_at(item, At { path: &at.path.index(index), ..at }, done)?;
                }
                Ok(())
            }
            (Type::String, Value::String(_)) if self.format.is_empty() => Ok(()),
            (Type::String, Value::String(text)) => self.conform_text(text),
            (Type::Integer, Value::Number(number)) => {
                let fits = match (number.as_i64(), self.format.as_ref()) {
                    (Some(n), "int32") => i32::try_from(n).is_ok(),
                    (found, _) => found.is_some(),
                };
                if fits { Ok(()) } else { Err(self.mismatch(&format!("number {number}"), at)) }
            }
            (Type::Boolean, Value::Bool(_)) | (Type::Number, Value::Number(_)) => Ok(()),
            (Type::IntOrString, Value::String(_)) => Ok(()),
            (Type::IntOrString, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                Ok(())
            }
            (Type::IntOrString, other) => {
                let message =
                    format!("json: cannot unmarshal {} into Go value of type int32", go_kind(other));
                Err(DecodeError { message })
            }
            (Type::Any, _) if self.format == "quantity" => conform_quantity(tree),
            (Type::Any, _) => Ok(()),
            (_, other) => Err(self.mismatch(go_kind(other), at)),
        }
    }

    fn conform_object(
        &self,
        map: &mut Map<String, Value>,
        at: At<'_>,
        done: &mut Conformed,
    ) -> Result<(), DecodeError> {
        if let Some(schema) = self.additional.as_ref().map(Ref::get) {
            for (name, value) in map.iter_mut() {
                schema.replace_null(value);
                schema.conform_at(value, At { path: &at.path.key(name), ..at }, done)?;
            }
            return Ok(());
        }
        if self.preserve_unknown && self.properties.is_empty() {
            return Ok(());
        }
        let holder = if self.name.is_empty() { at.holder } else { self.type_name() };
        let mut doomed = false;
        for (name, value) in map.iter_mut() {
            let Some(property) = self.property(name) else {
                if !self.preserve_unknown {
                    doomed = true;
                    if done.unknown.len() < MAX_REPORTED_FIELDS {
                        done.unknown.push(at.path.child(name).dotted());
                    }
                }
                continue;
            };
            let schema = property.schema.get();
            if value.is_null() && schema.drops_null() {
                doomed = true;
                continue;
            }
            schema.conform_at(value, At { holder, path: &at.path.child(name) }, done)?;
        }
        if doomed {
            map.retain(|name, value| match self.property(name) {
                Some(property) => !(value.is_null() && property.schema.get().drops_null()),
                None => self.preserve_unknown,
            });
        }
        Ok(())
    }

    /// Whether null means absent here: everywhere but where any JSON may stand.
    fn drops_null(&self) -> bool {
        self.kind != Type::Any || !self.format.is_empty()
    }

    /// A null in a list or map becomes what an untouched variable of its type would be.
    fn replace_null(&self, value: &mut Value) {
        if !value.is_null() {
            return;
        }
        *value = match self.kind {
            Type::Object if self.additional.is_none() => Value::Object(Map::new()),
            Type::Integer | Type::IntOrString => Value::from(0),
            Type::Number => Value::from(0.0),
            Type::Boolean => Value::Bool(false),
            Type::String => Value::String(String::new()),
            Type::Object => Value::Object(Map::new()),
            Type::Array => Value::Array(Vec::new()),
            Type::Any if self.format == "quantity" => Value::String("0".to_owned()),
            Type::Any => return,
        };
    }

    fn conform_text(&self, text: &mut String) -> Result<(), DecodeError> {
        match self.format.as_ref() {
            "byte" => match super::formats::base64_fault(text) {
                None => {
                    // Line ends may stand in what people write, not in what is stored.
                    if text.contains(['\r', '\n']) {
                        text.retain(|c| !matches!(c, '\r' | '\n'));
                    }
                    Ok(())
                }
                Some(at) => Err(DecodeError { message: format!("illegal base64 data at input byte {at}") }),
            },
            "date-time" => time::normalize(text).map_err(|error| DecodeError { message: error.to_string() }),
            "micro-time" => {
                time::normalize_micro(text).map_err(|error| DecodeError { message: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    fn mismatch(&self, found: &str, at: At<'_>) -> DecodeError {
        let (holder, fields, kind) = (at.holder, at.path.fields_only(), self.go_type());
        let message = if fields.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {kind}")
        } else {
            format!("json: cannot unmarshal {found} into Go struct field {holder}.{fields} of type {kind}")
        };
        DecodeError { message }
    }

    /// The Go type that upstream's message would name.
    fn go_type(&self) -> String {
        let inner =
            |found: &Option<Ref>| found.as_ref().map(|found| found.get().go_type()).unwrap_or_default();
        match self.kind {
            Type::Object if self.additional.is_some() => format!("map[string]{}", inner(&self.additional)),
            Type::Object => {
                let mut parts = self.name.rsplit('.');
                match (parts.next(), parts.next()) {
                    (Some(name), Some(package)) => format!("{package}.{name}"),
                    _ => "map[string]interface {}".to_owned(),
                }
            }
            Type::Array => format!("[]{}", inner(&self.items)),
            Type::String if self.format == "byte" => "[]uint8".to_owned(),
            Type::String => "string".to_owned(),
            Type::Integer if self.format == "int32" => "int32".to_owned(),
            Type::Integer => "int64".to_owned(),
            Type::Number => "float64".to_owned(),
            Type::Boolean => "bool".to_owned(),
            Type::IntOrString => "intstr.IntOrString".to_owned(),
            Type::Any if self.format == "quantity" => "resource.Quantity".to_owned(),
            Type::Any => "interface {}".to_owned(),
        }
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn conform_quantity(tree: &mut Value) -> Result<(), DecodeError> {
    let parsed: Result<Quantity, _> = match &*tree {
        Value::String(text) => text.trim().parse(),
        other => other.to_string().parse(),
    };
    let quantity = parsed.map_err(|error| DecodeError { message: error.to_string() })?;
    if !tree.as_str().is_some_and(|text| quantity.is_written(text)) {
        *tree = Value::String(quantity.to_string());
    }
    Ok(())
}
