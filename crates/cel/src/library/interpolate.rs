//! `'%s has %d'.format([a, b])`.

use super::convert::{parse_double, text_of};
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{List, Map, Outcome, Value};

pub(super) const TABLE: &[Decl] =
    &[decl("format", Cost::Format, format, &[("string_format", "string.(list(dyn)) -> string")])];

/// Digits behind the point where nothing is said.
const PRECISION: usize = 6;
/// Most digits behind the point.
const MAX_PRECISION: usize = 1_000;

/// A clause of a format: `%.3f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) verb: char,
    precision: Option<usize>,
}

/// A part of a format: text as it is, or a clause.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    Text(&'t str),
    Clause(Clause),
}

/// The parts of a format, one after the other.
pub(crate) fn parts(format: &str) -> impl Iterator<Item = Result<Part<'_>, String>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(after) = rest.strip_prefix('%') else {
            let (text, after) = rest.split_at_checked(rest.find('%').unwrap_or(rest.len()))?;
            rest = after;
            return Some(Ok(Part::Text(text)));
        };
        if let Some(after) = after.strip_prefix('%') {
            rest = after;
            return Some(Ok(Part::Text("%")));
        }
        let parsed = clause(after);
        rest = parsed.as_ref().map_or("", |(_, after)| after);
        Some(parsed.map(|(clause, _)| Part::Clause(clause)))
    })
}

fn clause(text: &str) -> Result<(Clause, &str), String> {
    let mut rest = text;
    let mut precision = None;
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = after.split_at_checked(digits).unwrap_or((after, ""));
        if number.is_empty() {
            return Err("could not parse formatting clause: error while parsing precision".to_owned());
        }
        let number = number.parse().ok().filter(|digits| *digits <= MAX_PRECISION);
        precision = Some(number.ok_or("could not parse formatting clause: precision is too large")?);
        rest = after;
    }
    let mut characters = rest.chars();
    match characters.next() {
        Some(verb) if "sdfebxXo".contains(verb) => Ok((Clause { verb, precision }, characters.as_str())),
        Some(verb) => {
            Err(format!("could not parse formatting clause: unrecognized formatting clause \"{verb}\""))
        }
        None => Err("could not parse formatting clause: unexpected end of string".to_owned()),
    }
}

/// What a clause says of an argument that it does not take; upstream's words.
pub(crate) fn misfit(verb: char, of: &str) -> String {
    let rule = match verb {
        's' => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
             and timestamps"
        }
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        _ => "only integers, byte buffers, and strings can be formatted as hex",
    };
    format!("{rule}, was given {of}")
}

fn format<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::List(list)] = args else { return no_overload() };
    let mut out = String::new();
    let mut next = 0;
    for part in parts(text) {
        match part.map_err(EvalError::new)? {
            Part::Text(text) => {
                context.make(text.len())?;
                out.push_str(text);
            }
            Part::Clause(clause) => {
                let Some(value) = list.get(next) else {
                    return Err(EvalError::new(format!("index {next} out of range")));
                };
                next += 1;
                put(context, clause, &value?, &mut out)?;
            }
        }
        context.bytes(out.len() / 64)?;
    }
    Ok(out.into())
}

type Done = Result<(), EvalError>;

fn put(context: &mut Context, clause: Clause, value: &Value<'_>, out: &mut String) -> Done {
    let wrong = || EvalError::new(misfit(clause.verb, value.type_name()));
    let text = match (clause.verb, value) {
        ('s', value) => return shown(context, value, false, out),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('f' | 'e', value) => {
            let number = match value {
                Value::Double(number) => *number,
                Value::String(text) if ["NaN", "Infinity", "-Infinity"].contains(&&**text) => {
                    parse_double(text).unwrap_or(f64::NAN)
                }
                _ => return Err(wrong()),
            };
            let digits = clause.precision.unwrap_or(PRECISION);
            if clause.verb == 'f' { fixed(number, digits) } else { scientific(number, digits) }
        }
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(value)) => signed(*value, format!("{:b}", value.unsigned_abs())),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('o', Value::Int(value)) => signed(*value, format!("{:o}", value.unsigned_abs())),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x' | 'X', value) => {
            let hex = match value {
                Value::Int(value) => signed(*value, format!("{:x}", value.unsigned_abs())),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(text) => hex(text.as_bytes()),
                Value::Bytes(bytes) => hex(bytes),
                _ => return Err(wrong()),
            };
            if clause.verb == 'X' { hex.to_ascii_uppercase() } else { hex }
        }
        _ => return Err(wrong()),
    };
    context.make(text.len())?;
    out.push_str(&text);
    Ok(())
}

fn signed(value: i64, digits: String) -> String {
    if value < 0 { format!("-{digits}") } else { digits }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Numbers that are none, as the printer of the reference implementation's locale writes them.
fn special(number: f64) -> Option<&'static str> {
    if number.is_nan() {
        Some("NaN")
    } else if number.is_infinite() {
        Some(if number > 0.0 { "\u{221e}" } else { "-\u{221e}" })
    } else {
        None
    }
}

/// With so many digits behind the point, and commas between thousands.
fn fixed(number: f64, digits: usize) -> String {
    if let Some(special) = special(number) {
        return special.to_owned();
    }
    let plain = format!("{number:.digits$}");
    let (sign, unsigned) = plain.strip_prefix('-').map_or(("", plain.as_str()), |unsigned| ("-", unsigned));
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// `1.234560 × 10⁰²`, as that printer writes it.
fn scientific(number: f64, digits: usize) -> String {
    if let Some(special) = special(number) {
        return special.to_owned();
    }
    let plain = format!("{number:.digits$e}");
    let (mantissa, exponent) = plain.split_once('e').unwrap_or((&plain, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if exponent < 0 { "\u{207b}" } else { "" };
    const RAISED: [char; 10] = [
        '\u{2070}', '\u{b9}', '\u{b2}', '\u{b3}', '\u{2074}', '\u{2075}', '\u{2076}', '\u{2077}', '\u{2078}',
        '\u{2079}',
    ];
    let raise = |digit: char| digit.to_digit(10).and_then(|digit| RAISED.get(usize::try_from(digit).ok()?));
    let raised: String = format!("{:02}", exponent.abs()).chars().filter_map(raise).collect();
    format!("{mantissa}\u{a0}\u{d7}\u{a0}10{sign}{raised}")
}

/// A value as `%s` shows it; within lists and maps as CEL would write it.
fn shown(context: &mut Context, value: &Value<'_>, within: bool, out: &mut String) -> Done {
    context.work(3)?;
    match value {
        Value::List(list) => return list_shown(context, list, out),
        Value::Map(map) => return map_shown(context, map, out),
        Value::Null => out.push_str("null"),
        Value::Library(_) | Value::Optional(_) => {
            return Err(EvalError::new(misfit('s', value.type_name())));
        }
        Value::Double(number) if within => out.push_str(&format!("{number:.6}")),
        Value::Bytes(bytes) if within => {
            context.make(bytes.len().saturating_mul(4))?;
            let text = String::from_utf8_lossy(bytes);
            out.push_str(&format!("b{}", apimachinery::field::quote(&text)));
        }
        _ => {
            let text = text_of(value)?;
            context.make(text.len())?;
            match value {
                Value::String(_) if within => out.push_str(&apimachinery::field::quote(&text)),
                Value::Timestamp(_) if within => out.push_str(&format!("timestamp(\"{text}\")")),
                Value::Duration(_) if within => out.push_str(&format!("duration(\"{text}\")")),
                _ => out.push_str(&text),
            }
        }
    }
    Ok(())
}

fn list_shown(context: &mut Context, list: &List<'_>, out: &mut String) -> Done {
    out.push('[');
    for (index, item) in list.iter().enumerate() {
        context.make(4)?;
        if index > 0 {
            out.push_str(", ");
        }
        shown(context, &item?, true, out)?;
    }
    out.push(']');
    Ok(())
}

fn map_shown(context: &mut Context, map: &Map<'_>, out: &mut String) -> Done {
    let mut pairs = Vec::new();
    for (key, value) in map.entries() {
        context.entries(1)?;
        let (mut left, mut right) = (String::new(), String::new());
        shown(context, &key, true, &mut left)?;
        shown(context, &value?, true, &mut right)?;
        pairs.push((left, right));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    out.push('{');
    out.push_str(&pairs.join(", "));
    out.push('}');
    Ok(())
}
