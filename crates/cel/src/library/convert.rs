//! Conversions of one type into another.

use super::arithmetic::timestamp;
use super::time::{format_duration, parse_duration, parse_timestamp};
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Library, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl("type", Cost::One, type_of, &[("type", "(A) -> type(A)")]),
    decl("dyn", Cost::One, dynamic, &[("to_dyn", "(A) -> dyn")]),
    decl(
        "bool",
        Cost::One,
        bool,
        &[("bool_to_bool", "(bool) -> bool"), ("string_to_bool", "(string) -> bool")],
    ),
    decl(
        "bytes",
        Cost::ToBytes,
        bytes,
        &[("bytes_to_bytes", "(bytes) -> bytes"), ("string_to_bytes", "(string) -> bytes")],
    ),
    decl(
        "double",
        Cost::One,
        double,
        &[
            ("double_to_double", "(double) -> double"),
            ("int64_to_double", "(int) -> double"),
            ("string_to_double", "(string) -> double"),
            ("uint64_to_double", "(uint) -> double"),
        ],
    ),
    decl(
        "duration",
        Cost::One,
        duration,
        &[("duration_to_duration", "(duration) -> duration"), ("string_to_duration", "(string) -> duration")],
    ),
    decl(
        "int",
        Cost::One,
        int,
        &[
            ("int64_to_int64", "(int) -> int"),
            ("double_to_int64", "(double) -> int"),
            ("duration_to_int64", "(duration) -> int"),
            ("string_to_int64", "(string) -> int"),
            ("timestamp_to_int64", "(timestamp) -> int"),
            ("uint64_to_int64", "(uint) -> int"),
        ],
    ),
    decl(
        "uint",
        Cost::One,
        uint,
        &[
            ("uint64_to_uint64", "(uint) -> uint"),
            ("double_to_uint64", "(double) -> uint"),
            ("int64_to_uint64", "(int) -> uint"),
            ("string_to_uint64", "(string) -> uint"),
        ],
    ),
    decl(
        "string",
        Cost::ToText,
        string,
        &[
            ("string_to_string", "(string) -> string"),
            ("bool_to_string", "(bool) -> string"),
            ("bytes_to_string", "(bytes) -> string"),
            ("double_to_string", "(double) -> string"),
            ("duration_to_string", "(duration) -> string"),
            ("int64_to_string", "(int) -> string"),
            ("timestamp_to_string", "(timestamp) -> string"),
            ("uint64_to_string", "(uint) -> string"),
            ("ip_to_string", "(IP) -> string"),
            ("cidr_to_string", "(CIDR) -> string"),
        ],
    ),
    decl(
        "timestamp",
        Cost::One,
        to_timestamp,
        &[
            ("timestamp_to_timestamp", "(timestamp) -> timestamp"),
            ("int64_to_timestamp", "(int) -> timestamp"),
            ("string_to_timestamp", "(string) -> timestamp"),
        ],
    ),
];

fn fail<'a>(from: &str, to: &str) -> Outcome<'a> {
    Err(EvalError::new(format!("type conversion error from '{from}' to '{to}'")))
}

fn type_of<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(Value::Type(value.type_name().into())),
        _ => no_overload(),
    }
}

fn dynamic<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    args.first().cloned().map_or_else(no_overload, Ok)
}

fn bool<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => fail("string", "bool"),
        },
        _ => no_overload(),
    }
}

fn bytes<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        [Value::String(text)] => {
            context.make(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        _ => no_overload(),
    }
}

#[allow(clippy::cast_precision_loss)]
fn double<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Double(value)] => Ok(Value::Double(*value)),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [Value::String(text)] => {
            parse_double(text).map_or_else(|| fail("string", "double"), |v| Ok(Value::Double(v)))
        }
        _ => no_overload(),
    }
}

/// A number as Go reads it: with the names of infinity and of what is no number.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1.0, text.get(1..)?),
        b'+' => (1.0, text.get(1..)?),
        _ => (1.0, text),
    };
    match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => Some(sign * f64::INFINITY),
        "nan" if unsigned.len() == text.len() => Some(f64::NAN),
        other if other.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            text.parse().ok().filter(|number: &f64| number.is_finite())
        }
        _ => None,
    }
}

fn duration<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => parse_duration(text)
            .map_or_else(|| fail("string", "google.protobuf.Duration"), |v| Ok(Value::Duration(v))),
        _ => no_overload(),
    }
}

#[allow(clippy::cast_possible_truncation)]
fn int<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    // Exactly representable: the largest double below 2^63 and the smallest i64.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match args {
        [Value::Int(value)] => Ok(Value::Int(*value)),
        [Value::Uint(value)] => {
            i64::try_from(*value).map(Value::Int).map_err(|_| EvalError::new("integer overflow"))
        }
        [Value::Double(value)] if *value > -BEYOND && *value < BEYOND => Ok(Value::Int(*value as i64)),
        [Value::Double(_)] => Err(EvalError::new("integer overflow")),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(at)] => Ok(Value::Int(at.as_second())),
        [Value::String(text)] => text.parse().map(Value::Int).or_else(|_| fail("string", "int")),
        _ => no_overload(),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn uint<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    match args {
        [Value::Uint(value)] => Ok(Value::Uint(*value)),
        [Value::Int(value)] => {
            u64::try_from(*value).map(Value::Uint).map_err(|_| EvalError::new("unsigned integer overflow"))
        }
        [Value::Double(value)] if *value >= 0.0 && *value < BEYOND => Ok(Value::Uint(*value as u64)),
        [Value::Double(_)] => Err(EvalError::new("unsigned integer overflow")),
        [Value::String(text)] if !text.starts_with('+') => {
            text.parse().map(Value::Uint).or_else(|_| fail("string", "uint"))
        }
        [Value::String(_)] => fail("string", "uint"),
        _ => no_overload(),
    }
}

fn string<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    if let [Value::Bytes(bytes)] = args {
        context.make(bytes.len())?;
    }
    match args {
        [Value::String(text)] => Ok(Value::String(text.clone())),
        [value] => text_of(value).map(Value::from),
        _ => no_overload(),
    }
}

/// The text that a value becomes.
pub(super) fn text_of(value: &Value<'_>) -> Result<String, EvalError> {
    Ok(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => shortest(*value),
        Value::Duration(nanos) => format_duration(*nanos),
        Value::Timestamp(at) => at.to_string(),
        Value::Type(name) => name.to_string(),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?,
        Value::Library(Library::Ip(address)) => address.to_string(),
        Value::Library(Library::Cidr(address, prefix)) => format!("{address}/{prefix}"),
        _ => return Err(EvalError::overload()),
    })
}

/// A double in as few digits as tell it from its neighbours, as Go's `%g` writes it.
fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    value.to_string()
}

fn to_timestamp<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Timestamp(at)] => Ok(Value::Timestamp(*at)),
        [Value::Int(seconds)] => timestamp(jiff::Timestamp::from_second(*seconds).ok()),
        [Value::String(text)] => match parse_timestamp(text) {
            Some(at) => timestamp(Some(at)),
            None => fail("string", "google.protobuf.Timestamp"),
        },
        _ => no_overload(),
    }
}
