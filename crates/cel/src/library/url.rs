//! URLs, read as Go's `net/url` does where it asks for absolute ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use apimachinery::field::quote;

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Entries, Key, Library, Map, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl("url", Cost::Once, url, &[("string_to_url", "(string) -> URL")]),
    decl("isURL", Cost::One, is_url, &[("is_url_string", "(string) -> bool")]),
    decl("getScheme", Cost::One, scheme, &[("url_get_scheme", "URL.() -> string")]),
    decl("getHost", Cost::One, host, &[("url_get_host", "URL.() -> string")]),
    decl("getHostname", Cost::One, hostname, &[("url_get_hostname", "URL.() -> string")]),
    decl("getPort", Cost::One, port, &[("url_get_port", "URL.() -> string")]),
    decl("getEscapedPath", Cost::One, escaped_path, &[("url_get_escaped_path", "URL.() -> string")]),
    decl("getQuery", Cost::One, query, &[("url_get_query", "URL.() -> map(string, list(string))")]),
];

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    user: Option<String>,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            write!(f, "{}:", self.scheme)?;
        }
        if !self.scheme.is_empty() || !self.host.is_empty() || self.user.is_some() {
            f.write_str("//")?;
        }
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}{}", self.host, self.path)?;
        if !self.query.is_empty() {
            write!(f, "?{}", self.query)?;
        }
        if self.fragment.is_empty() { Ok(()) } else { write!(f, "#{}", self.fragment) }
    }
}

/// An absolute URL or an absolute path.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let fault = |why: &str| format!("parse {}: {why}", quote(text));
    if text.is_empty() {
        return Err(fault("empty url"));
    }
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(fault("net/url: invalid control character in URL"));
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = split_scheme(rest).map_err(|why| fault(&why))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) =
        match rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
            Some(after) if !scheme.is_empty() => {
                after.split_at_checked(after.find('/').unwrap_or(after.len())).unwrap_or((after, ""))
            }
            _ => ("", rest),
        };
    if scheme.is_empty() && !path.starts_with('/') {
        return Err(fault("invalid URI for request"));
    }
    let opaque = !scheme.is_empty() && !rest.starts_with('/');
    if opaque && rest.is_empty() {
        return Err(fault("invalid URI for request"));
    }
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, authority),
    };
    check_host(host).map_err(|why| fault(&why))?;
    check_escapes(path).map_err(|why| fault(&why))?;
    check_escapes(fragment).map_err(|why| fault(&why))?;
    Ok(Url {
        scheme: scheme.to_ascii_lowercase(),
        user,
        host: host.to_owned(),
        path: if opaque { String::new() } else { path.to_owned() },
        query: query.to_owned(),
        fragment: fragment.to_owned(),
    })
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, character) in text.char_indices() {
        match character {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default())),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
        host.get(end + 1..).unwrap_or_default()
    } else {
        host.rfind(':').and_then(|at| host.get(at..)).unwrap_or_default()
    };
    let digits = port.strip_prefix(':');
    let valid =
        port.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !valid {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    if let Some(bad) = host.chars().find(|character| " \"<>^`{|}\\".contains(*character)) {
        return Err(format!("invalid character {} in host name", quote(&bad.to_string())));
    }
    check_escapes(host)
}

/// Every percent sign stands before two hexadecimal digits.
fn check_escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let end = (at + 3).min(bytes.len());
            let shown = String::from_utf8_lossy(bytes.get(at..end).unwrap_or_default()).into_owned();
            return Err(format!("invalid URL escape {}", quote(&shown)));
        }
    }
    Ok(())
}

fn url<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    match parse(text) {
        Ok(url) => Ok(Value::Library(Library::Url(Arc::new(url)))),
        Err(why) => Err(EvalError::new(format!("URL parse error during conversion from string: {why}"))),
    }
}

fn is_url<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    context.bytes(text.len())?;
    Ok(Value::Bool(parse(text).is_ok()))
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Url) -> String) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Url(url))] => Ok(of(url).into()),
        _ => no_overload(),
    }
}

fn scheme<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |url| url.scheme.clone())
}

fn host<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |url| decode(&url.host, false))
}

/// The name without brackets, and the port.
fn split_host(host: &str) -> (&str, &str) {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.trim_start_matches(':')),
        None => host.rsplit_once(':').unwrap_or((host, "")),
    }
}

fn hostname<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |url| decode(split_host(&url.host).0, false))
}

fn port<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |url| split_host(&url.host).1.to_owned())
}

/// The path with everything escaped that has to be.
fn escaped_path<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |url| {
        use std::fmt::Write as _;
        let mut out = String::with_capacity(url.path.len());
        for byte in url.path.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*%[]".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

/// Text without its escapes; in queries a plus is a space.
fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 2;
            }
            (b'+', _) if query => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn query<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Library(Library::Url(url))] = args else { return no_overload() };
    context.work(1 + crate::value::size(url.query.len()))?;
    context.make(url.query.len())?;
    let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if check_escapes(key).is_ok() && check_escapes(value).is_ok() {
            context.entries(1)?;
            found.entry(decode(key, true)).or_default().push(decode(value, true).into());
        }
    }
    let entries = found.into_iter().map(|(key, values)| {
        let text: Arc<str> = key.into();
        let shown = Value::String(crate::value::Text::Shared(text.clone()));
        (Key::String(text), (shown, Value::from(values)))
    });
    Ok(Value::Map(Map(Entries::Shared(Arc::new(entries.collect())))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = parse("https://user@example.com:80/a%20b/c?x=1&y=2#f").unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str()), ("https", "example.com:80"));
        assert_eq!((url.path.as_str(), url.query.as_str()), ("/a%20b/c", "x=1&y=2"));
        assert_eq!(split_host("[::1]:80"), ("::1", "80"));
        assert_eq!(split_host("a"), ("a", ""));
        assert_eq!(url.to_string(), "https://user@example.com:80/a%20b/c?x=1&y=2#f");
        assert_eq!(parse("/absolute").unwrap().path, "/absolute");
        for bad in
            ["", "relative", "http://a:b/", "http://a b/", "://x", "http://a/%zz", "a\u{1}b", "http://[::1"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
