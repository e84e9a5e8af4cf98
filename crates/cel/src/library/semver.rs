//! Versions (<https://semver.org>).

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Library, Outcome, Value};

pub(super) const TABLE: &[Decl] = &[
    decl(
        "semver",
        Cost::Once,
        semver,
        &[("string_to_semver", "(string) -> Semver"), ("string_bool_to_semver", "(string, bool) -> Semver")],
    ),
    decl(
        "isSemver",
        Cost::Once,
        is_semver,
        &[("is_semver_string", "(string) -> bool"), ("is_semver_string_bool", "(string, bool) -> bool")],
    ),
    decl("major", Cost::One, major, &[("semver_major", "Semver.() -> int")]),
    decl("minor", Cost::One, minor, &[("semver_minor", "Semver.() -> int")]),
    decl("patch", Cost::One, patch, &[("semver_patch", "Semver.() -> int")]),
];

/// A version. Builds do not count in comparisons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<Identifier>,
}

/// An identifier of a pre-release: numbers come before names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Name(String),
}

impl Version {
    pub(crate) fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(numbers, pre)| (numbers, Some(pre)));
        let parts: Vec<&str> = numbers.splitn(3, '.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let numbers = [number(major, "major")?, number(minor, "minor")?, number(patch, "patch")?];
        let pre = pre.map(|pre| pre.split('.').map(identifier).collect()).transpose()?.unwrap_or_default();
        for part in build.into_iter().flat_map(|build| build.split('.')) {
            if part.is_empty() {
                return Err("Build meta data is empty".to_owned());
            }
            if !part.bytes().all(is_identifier) {
                return Err(format!("Invalid character(s) found in build meta data \"{part}\""));
            }
        }
        Ok(Self { numbers, pre })
    }
}

const fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn number(text: &str, which: &str) -> Result<u64, String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.is_empty() {
        return Err(format!("Invalid character(s) found in {which} number \"{text}\""));
    }
    if text.len() > 1 && text.starts_with('0') {
        let which = format!(
            "{}{}",
            which.get(..1).unwrap_or_default().to_uppercase(),
            which.get(1..).unwrap_or_default()
        );
        return Err(format!("{which} number must not contain leading zeroes \"{text}\""));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": value out of range"))
}

fn identifier(text: &str) -> Result<Identifier, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes \"{text}\""));
        }
        let number = text.parse();
        return number.map(Identifier::Number).map_err(|_| format!("Invalid pre release number \"{text}\""));
    }
    if text.bytes().all(is_identifier) {
        return Ok(Identifier::Name(text.to_owned()));
    }
    Err(format!("Invalid character(s) found in prerelease \"{text}\""))
}

/// The version in its plain form: without `v`, with three numbers, none with zeros before it.
fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in parts.iter_mut().filter(|part| part.len() > 1) {
        let stripped = part.trim_start_matches('0');
        let begins_with_digit = stripped.starts_with(|c: char| c.is_ascii_digit());
        *part = if begins_with_digit { stripped.to_owned() } else { format!("0{stripped}") };
    }
    if parts.len() < 3 {
        if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
    }
    Ok(parts.join("."))
}

fn read(context: &mut Context, args: &[Value<'_>]) -> Result<Result<Version, String>, EvalError> {
    let (text, normalize) = match args {
        [Value::String(text)] => (text, false),
        [Value::String(text), Value::Bool(normalize)] => (text, *normalize),
        _ => return Err(EvalError::overload()),
    };
    context.bytes(text.len())?;
    Ok(if normalize { normalized(text).and_then(|text| Version::parse(&text)) } else { Version::parse(text) })
}

fn semver<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    let version = read(context, args)?.map_err(EvalError::new)?;
    Ok(Value::Library(Library::Semver(Arc::new(version))))
}

fn is_semver<'a>(context: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(read(context, args)?.is_ok()))
}

fn part<'a>(args: &[Value<'a>], of: impl Fn([u64; 3]) -> u64) -> Outcome<'a> {
    match args {
        [Value::Library(Library::Semver(version))] => {
            Ok(Value::Int(i64::try_from(of(version.numbers)).unwrap_or(i64::MAX)))
        }
        _ => no_overload(),
    }
}

fn major<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |[major, _, _]| major)
}

fn minor<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |[_, minor, _]| minor)
}

fn patch<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    part(args, |[_, _, patch]| patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let order =
            ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0"];
        for pair in order.windows(2) {
            let [one, other] = pair else { continue };
            let less = Version::parse(one).unwrap().cmp(&Version::parse(other).unwrap());
            assert_eq!(less, Ordering::Less, "{pair:?}");
        }
        assert!(Version::parse("1.0.0+a.b").unwrap().cmp(&Version::parse("1.0.0").unwrap()).is_eq());
        for bad in ["", "1", "1.2", "1.2.x", "01.2.3", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3-a_b"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        let check =
            |text: &str, expected: &str| assert_eq!(normalized(text).as_deref(), Ok(expected), "{text}");
        check("v1.0", "1.0.0");
        check("01.02.03", "1.2.3");
        check("1.01.0-a", "1.1.0-a");
        assert!(normalized("1.0-a").is_err());
    }
}
