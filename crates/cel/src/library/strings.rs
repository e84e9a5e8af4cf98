//! Texts: the standard library's, those of `strings` 2, and searches, which lists have too.

use super::equality::equal;
use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Outcome, Value, count};

pub(super) const TABLE: &[Decl] = &[
    decl("startsWith", Cost::Affix, starts_with, &[("starts_with_string", "string.(string) -> bool")]),
    decl("endsWith", Cost::Affix, ends_with, &[("ends_with_string", "string.(string) -> bool")]),
    decl("contains", Cost::Contains, contains, &[("contains_string", "string.(string) -> bool")]),
    decl("charAt", Cost::One, char_at, &[("string_char_at_int", "string.(int) -> string")]),
    decl(
        "indexOf",
        Cost::Scan,
        index_of,
        &[
            ("string_index_of_string", "string.(string) -> int"),
            ("string_index_of_string_int", "string.(string, int) -> int"),
            ("list_a_index_of_int", "list(A).(A) -> int"),
        ],
    ),
    decl(
        "lastIndexOf",
        Cost::Scan,
        last_index_of,
        &[
            ("string_last_index_of_string", "string.(string) -> int"),
            ("string_last_index_of_string_int", "string.(string, int) -> int"),
            ("list_a_last_index_of_int", "list(A).(A) -> int"),
        ],
    ),
    decl("lowerAscii", Cost::Transform, lower, &[("string_lower_ascii", "string.() -> string")]),
    decl("upperAscii", Cost::Transform, upper, &[("string_upper_ascii", "string.() -> string")]),
    decl("trim", Cost::Transform, trim, &[("string_trim", "string.() -> string")]),
    decl(
        "substring",
        Cost::Transform,
        substring,
        &[
            ("string_substring_int", "string.(int) -> string"),
            ("string_substring_int_int", "string.(int, int) -> string"),
        ],
    ),
    decl(
        "replace",
        Cost::Replace,
        replace,
        &[
            ("string_replace_string_string", "string.(string, string) -> string"),
            ("string_replace_string_string_int", "string.(string, string, int) -> string"),
        ],
    ),
    decl(
        "split",
        Cost::Split,
        split,
        &[
            ("string_split_string", "string.(string) -> list(string)"),
            ("string_split_string_int", "string.(string, int) -> list(string)"),
        ],
    ),
    decl(
        "join",
        Cost::Join,
        join,
        &[
            ("list_join", "list(string).() -> string"),
            ("list_join_string", "list(string).(string) -> string"),
        ],
    ),
    decl("strings.quote", Cost::Quote, quote, &[("strings_quote", "(string) -> string")]),
];

fn starts_with<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::String(start)] => {
            context.bytes(start.len())?;
            Ok(Value::Bool(text.starts_with(&**start)))
        }
        _ => no_overload(),
    }
}

fn ends_with<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::String(end)] => {
            context.bytes(end.len())?;
            Ok(Value::Bool(text.ends_with(&**end)))
        }
        _ => no_overload(),
    }
}

fn contains<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::String(part)] => {
            context.bytes(text.len())?;
            Ok(Value::Bool(text.contains(&**part)))
        }
        _ => no_overload(),
    }
}

fn out_of_range<'a>(index: i64) -> Outcome<'a> {
    Err(EvalError::new(format!("index out of range: {index}")))
}

/// The byte at which a character begins; the end for the place behind the last.
fn byte_at(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    if index == 0 {
        return Some(0);
    }
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(index)
}

fn char_at<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text), Value::Int(index)] => {
            context.bytes(text.len())?;
            let Some(at) = byte_at(text, *index) else { return out_of_range(*index) };
            let width = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
            Ok(text.part(at..at + width))
        }
        _ => no_overload(),
    }
}

/// The character at which a byte stands.
fn place(text: &str, byte: usize) -> i64 {
    text.get(..byte).map_or(-1, |before| count(before.chars().count()))
}

fn index_of<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part, offset) = match args {
        [Value::List(list), item] => {
            for (index, one) in list.iter().enumerate() {
                if equal(context, &one?, item)? {
                    return Ok(Value::Int(count(index)));
                }
            }
            return Ok(Value::Int(-1));
        }
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, *offset),
        _ => return no_overload(),
    };
    context.bytes(text.len())?;
    if offset < 0 {
        return out_of_range(offset);
    }
    let length = count(text.chars().count());
    if part.is_empty() {
        return Ok(Value::Int(offset.min(length)));
    }
    let found = byte_at(text, offset).and_then(|from| {
        let at = text.get(from..)?.find(&**part)?;
        Some(place(text, from + at))
    });
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part, offset) = match args {
        [Value::List(list), item] => {
            for index in (0..list.len()).rev() {
                let Some(one) = list.get(index) else { break };
                if equal(context, &one?, item)? {
                    return Ok(Value::Int(count(index)));
                }
            }
            return Ok(Value::Int(-1));
        }
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(offset)] => (text, part, Some(*offset)),
        _ => return no_overload(),
    };
    context.bytes(text.len())?;
    if let Some(offset) = offset.filter(|offset| *offset < 0) {
        return out_of_range(offset);
    }
    let length = count(text.chars().count());
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(length).min(length)));
    }
    if offset.is_some_and(|offset| offset >= length) {
        return Ok(Value::Int(-1));
    }
    // The last place at which it may begin decides where the search ends.
    let end = match offset {
        None => text.len(),
        Some(offset) => {
            let end = byte_at(text, offset).map_or(text.len(), |from| from + part.len());
            (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len())
        }
    };
    let mut found = text.get(..end).and_then(|within| within.rfind(&**part)).map(|at| place(text, at));
    if let (Some(at), Some(offset)) = (found, offset) {
        // A boundary beyond the end may have let in one place more.
        if at > offset {
            found = text
                .get(..byte_at(text, offset).unwrap_or(0))
                .and_then(|within| within.rfind(&**part))
                .map(|at| place(text, at));
        }
    }
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn lower<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text)] => {
            context.make(text.len())?;
            Ok(text.to_ascii_lowercase().into())
        }
        _ => no_overload(),
    }
}

fn upper<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text)] => {
            context.make(text.len())?;
            Ok(text.to_ascii_uppercase().into())
        }
        _ => no_overload(),
    }
}

fn trim<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text)] => {
            context.make(text.len())?;
            let start = text.len() - text.trim_start().len();
            Ok(text.part(start..start + text.trim().len()))
        }
        _ => no_overload(),
    }
}

fn substring<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return no_overload(),
    };
    context.make(text.len())?;
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let Some(from) = byte_at(text, start) else { return out_of_range(start) };
    let to = match end {
        None => text.len(),
        Some(end) => match byte_at(text, end) {
            Some(to) => to,
            None => return out_of_range(end),
        },
    };
    Ok(text.part(from..to))
}

fn replace<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, old, new, most) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(most)] => {
            (text, old, new, *most)
        }
        _ => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    context.bytes(text.len())?;
    let places = if new.len() > old.len() { text.matches(&**old).count().min(most) } else { 0 };
    context.make(places.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(text.replacen(&**old, new, most).into())
}

fn split<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, separator, most) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(most)] => (text, separator, *most),
        _ => return no_overload(),
    };
    context.work(1 + crate::value::size(text.len()))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    // Each part has a place in the list and one of its own.
    let parts = if most == 1 { 1 } else { text.matches(&**separator).count() + 1 };
    context.items(parts.min(most).saturating_mul(2))?;
    context.make(text.len())?;
    let mut at = 0;
    let mut place = |part: &str, gap: usize| {
        let from = at;
        at += part.len() + gap;
        text.part(from..from + part.len())
    };
    let parts: Vec<Value<'a>> = if most == 0 {
        Vec::new()
    } else if separator.is_empty() {
        characters(text, most).map(|part| place(part, 0)).collect()
    } else {
        text.splitn(most, &**separator).map(|part| place(part, separator.len())).collect()
    };
    Ok(parts.into())
}

/// The characters, the last part holding what is left.
fn characters(text: &str, most: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut taken = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        taken += 1;
        let end = if taken >= most { rest.len() } else { rest.chars().next().map_or(0, char::len_utf8) };
        let (part, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(part)
    })
}

fn join<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return no_overload(),
    };
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let item = item?;
        let Value::String(text) = &item else {
            return Err(EvalError::new(format!("join: invalid input: {}", item.type_name())));
        };
        context.make(text.len() + separator.len())?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text);
    }
    Ok(joined.into())
}

fn quote<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.make(text.len().saturating_mul(2))?;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    Ok(out.into())
}
