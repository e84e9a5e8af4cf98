//! Payloads as trees, by schema.

use apimachinery::schema::{Schema, Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::{self, Message};
use super::wire::{Malformed, Payload, Reader};

/// Messages nested deeper are refused; JSON has the same bound.
const MAX_DEPTH: usize = 128;

/// Reads a message into the map.
pub(super) fn message(
    message_: &Message,
    schema: &Schema,
    mut reader: Reader<'_>,
    depth: usize,
    into: &mut Map<String, Value>,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    while let Some((number, payload)) = reader.field()? {
        // A field of a later version than ours is dropped, as JSON's unknown fields are.
        let Some(field) = message_.field(number) else { continue };
        let property =
            schema.properties.iter().find(|property| property.name.eq_ignore_ascii_case(field.name));
        let Some(property) = property else {
            // What Go embeds is a message here and no object of its own in JSON.
            if let Some(inner) = message_.inner(field) {
                message(inner, schema, Reader::new(payload.bytes()?), depth + 1, into)?;
            }
            continue;
        };
        let name: &str = &property.name;
        let of = property.schema.get();
        match (of.kind, &of.items, &of.additional) {
            (Type::Array, Some(items), _) => {
                let list = into.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    elements(items.get(), payload, depth, list)?;
                }
            }
            (Type::Object, _, Some(values)) => {
                let map = into.entry(name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    let (key, value) = entry(values.get(), Reader::new(payload.bytes()?), depth)?;
                    map.insert(key, value);
                }
            }
            _ => {
                let value = single(of, payload, depth)?;
                let is_required = schema.required.iter().any(|required| required == name);
                if is_required || !value.is_null() && (field.is_pointer || !is_empty(&value)) {
                    into.insert(name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// Go's encoder writes every field that is no pointer, and its JSON leaves the empty ones of them out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// One element of a list, or several numbers in one payload.
fn elements(
    items: &Schema,
    payload: Payload<'_>,
    depth: usize,
    into: &mut Vec<Value>,
) -> Result<(), Malformed> {
    if let (Type::Integer | Type::Boolean, Payload::Bytes(packed)) = (items.kind, payload) {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            into.push(single(items, Payload::Varint(reader.varint()?), depth)?);
        }
        return Ok(());
    }
    into.push(single(items, payload, depth)?);
    Ok(())
}

/// One entry of a map.
fn entry(values: &Schema, mut reader: Reader<'_>, depth: usize) -> Result<(String, Value), Malformed> {
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => payload.text()?.clone_into(&mut key),
            2 => value = Some(payload),
            _ => {}
        }
    }
    // Protobuf leaves an empty value out.
    let value = match value {
        None if values.kind == Type::String => Value::String(String::new()),
        value => single(values, value.unwrap_or(Payload::Bytes(&[])), depth)?,
    };
    Ok((key, value))
}

fn single(schema: &Schema, payload: Payload<'_>, depth: usize) -> Result<Value, Malformed> {
    Ok(match (schema.kind, &*schema.format) {
        (_, "quantity") => first(payload, 1)?.map_or(Ok(""), Payload::text)?.into(),
        (_, "date-time") => time(payload, false)?,
        (_, "micro-time") => time(payload, true)?,
        (_, "byte") => STANDARD.encode(payload.bytes()?).into(),
        (Type::IntOrString, _) => int_or_string(payload)?,
        (Type::String, _) => payload.text()?.into(),
        (Type::Integer, _) => payload.integer()?.into(),
        (Type::Number, _) => payload.double()?.into(),
        (Type::Boolean, _) => (payload.integer()? != 0).into(),
        (Type::Object, _) if !schema.properties.is_empty() => {
            let mut map = Map::new();
            let fields = fields::of(&schema.name).ok_or(Malformed)?;
            message(fields, schema, Reader::new(payload.bytes()?), depth + 1, &mut map)?;
            Value::Object(map)
        }
        (Type::Array, _) => wrapped_list(schema, payload, depth)?,
        // Text of JSON, such as managed fields.
        (Type::Any | Type::Object, _) => match first(payload, 1)? {
            Some(raw) => serde_json::from_slice(raw.bytes()?).map_err(|_| Malformed)?,
            None => Value::Object(Map::new()),
        },
    })
}

/// The field of that number, if the message has it.
fn first(payload: Payload<'_>, wanted: u64) -> Result<Option<Payload<'_>>, Malformed> {
    let mut reader = Reader::new(payload.bytes()?);
    while let Some((number, payload)) = reader.field()? {
        if number == wanted {
            return Ok(Some(payload));
        }
    }
    Ok(None)
}

/// A list inside a map: protobuf needs a message around it.
fn wrapped_list(schema: &Schema, payload: Payload<'_>, depth: usize) -> Result<Value, Malformed> {
    let mut list = Vec::new();
    let mut reader = Reader::new(payload.bytes()?);
    while let Some((number, payload)) = reader.field()? {
        if let (1, Some(items)) = (number, &schema.items) {
            elements(items.get(), payload, depth + 1, &mut list)?;
        }
    }
    Ok(Value::Array(list))
}

fn int_or_string(payload: Payload<'_>) -> Result<Value, Malformed> {
    let number = || first(payload, 2)?.map_or(Ok(0), Payload::integer);
    let kind = first(payload, 1)?.map_or(Ok(0), Payload::integer)?;
    if kind == 0 {
        return Ok(number()?.into());
    }
    Ok(first(payload, 3)?.map_or(Ok(""), Payload::text)?.into())
}

/// A point in time; an empty message is none.
fn time(payload: Payload<'_>, with_fraction: bool) -> Result<Value, Malformed> {
    let seconds = first(payload, 1)?.map(Payload::integer).transpose()?;
    let Some(seconds) = seconds else { return Ok(Value::Null) };
    let nanoseconds = first(payload, 2)?.map_or(Ok(0), Payload::integer)?;
    let nanoseconds = i32::try_from(nanoseconds).map_err(|_| Malformed)?;
    let at = Timestamp::new(seconds, if with_fraction { nanoseconds } else { 0 }).map_err(|_| Malformed)?;
    Ok(if with_fraction { format!("{at:.6}") } else { format!("{at:.0}") }.into())
}
