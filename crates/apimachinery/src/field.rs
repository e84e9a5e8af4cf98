//! Paths to fields and what may be wrong there, in upstream's words.

use std::fmt;

use serde_json::Value;

/// Where in an object something is: `spec.containers[0].ports[0].name`, `metadata.labels[a/b]`.
///
/// A path is a chain of borrowed segments on the stack; text is made only when an error needs it, so walking a valid
/// object allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    Empty,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path that begins with that field.
    pub const fn new(field: &'a str) -> Self {
        Self { parent: None, segment: Segment::Field(field) }
    }

    /// The path of the object itself.
    pub const fn empty() -> Self {
        Self { parent: None, segment: Segment::Empty }
    }

    /// A named field below.
    pub const fn child(&'a self, field: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Field(field) }
    }

    /// An item of the list here.
    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Index(index) }
    }

    /// An entry of the map here.
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(key) }
    }

    /// As decoders name fields that they do not know: map keys as if they were fields.
    pub(crate) fn dotted(&self) -> String {
        self.join(|segment| !matches!(segment, Segment::Empty))
    }

    /// As decoders name fields of the wrong type: fields only.
    pub(crate) fn fields_only(&self) -> String {
        self.join(|segment| matches!(segment, Segment::Field(_)))
    }

    fn join(&self, wanted: fn(&Segment<'_>) -> bool) -> String {
        let mut text = self.parent.map(|parent| parent.join(wanted)).unwrap_or_default();
        if wanted(&self.segment) {
            match self.segment {
                Segment::Empty => {}
                Segment::Field(name) | Segment::Key(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Segment::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// Whether this is the object itself.
    pub const fn is_empty(&self) -> bool {
        self.parent.is_none() && matches!(self.segment, Segment::Empty)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.segment {
            Segment::Empty => Ok(()),
            Segment::Field(name) => match self.parent {
                Some(parent) if !parent.is_empty() => write!(f, ".{name}"),
                _ => f.write_str(name),
            },
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A value that another object should have does not exist.
    NotFound,
    /// A value must be given.
    Required,
    /// A value that must be unique is there twice.
    Duplicate,
    /// A malformed or out of range value.
    Invalid,
    /// Not one of the values that are known.
    NotSupported,
    /// A value that may not be set here or now.
    Forbidden,
    /// Too long a text.
    TooLong,
    /// Too many items.
    TooMany,
    /// The check itself failed.
    Internal,
    /// A value of another type.
    TypeInvalid,
}

impl ErrorKind {
    /// The machine-readable reason in `status.details.causes`.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One finding about one field. Displays as `spec.replicas: Invalid value: -1: must be …`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {}", self.body())]
pub struct FieldError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Where, as text.
    pub field: String,
    /// The offending value, where showing it helps.
    pub value: Option<Value>,
    /// The sentence after the value; may be empty.
    pub detail: String,
}

/// Findings, in the order of the checks.
pub type ErrorList = Vec<FieldError>;

impl FieldError {
    fn build(kind: ErrorKind, path: &Path<'_>, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    /// The value is malformed.
    pub fn invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Invalid, path, Some(value.into()), detail)
    }

    /// The value is malformed, and too much to be shown.
    pub fn invalid_unshown(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Invalid, path, None, detail)
    }

    /// The value has another type than it must have.
    pub fn type_invalid(path: &Path<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// The value is missing.
    pub fn required(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Required, path, None, detail)
    }

    /// The value is there twice.
    pub fn duplicate(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::build(ErrorKind::Duplicate, path, Some(value.into()), "")
    }

    /// The value is not among `supported`.
    pub fn not_supported<S: AsRef<str>>(path: &Path<'_>, value: impl Into<Value>, supported: &[S]) -> Self {
        let mut detail = String::new();
        for value in supported {
            detail.push_str(if detail.is_empty() { "supported values: " } else { ", " });
            detail.push_str(&quote(value.as_ref()));
        }
        Self::build(ErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    /// The value may not be set.
    pub fn forbidden(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Forbidden, path, None, detail)
    }

    /// What the value names does not exist.
    pub fn not_found(path: &Path<'_>, value: impl Into<Value>) -> Self {
        Self::build(ErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// More than `max` bytes.
    pub fn too_long(path: &Path<'_>, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::build(ErrorKind::TooLong, path, None, format!("may not be more than {max} {unit}"))
    }

    /// More than `max` items.
    pub fn too_many(path: &Path<'_>, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        let actual = u64::try_from(actual).unwrap_or(u64::MAX);
        Self::build(ErrorKind::TooMany, path, Some(actual.into()), format!("must have at most {max} {unit}"))
    }

    /// The check failed for a reason of its own.
    pub fn internal(path: &Path<'_>, detail: impl Into<String>) -> Self {
        Self::build(ErrorKind::Internal, path, None, detail)
    }

    /// The text without the field's name.
    pub fn body(&self) -> String {
        let mut text = self.kind.words().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            match value {
                Value::String(value) => text.push_str(&quote(value)),
                Value::Null => text.push_str("\"null\""),
                other => text.push_str(&other.to_string()),
            }
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

/// All findings as one text, the way upstream joins them: one alone as it is, several in brackets, repeated ones once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.swap_remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// Text in double quotes with Go's escapes for what cannot be shown.
pub fn quote(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7f => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_render_as_upstream() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        assert_eq!(first.child("name").to_string(), "spec.containers[0].name");
        let metadata = Path::new("metadata");
        let labels = metadata.child("labels");
        assert_eq!(labels.key("a/b").to_string(), "metadata.labels[a/b]");
        let root = Path::empty();
        assert_eq!(root.child("spec").child("x").to_string(), "spec.x");
        assert_eq!(root.to_string(), "");
    }

    #[test]
    fn errors_render_as_upstream() {
        let spec = Path::new("spec");
        let at = spec.child("replicas");
        let check = |error: FieldError, expected: &str| assert_eq!(error.to_string(), expected);
        check(
            FieldError::invalid(&at, -1, "must be greater than or equal to 0"),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        );
        check(FieldError::invalid_unshown(&at, "no"), "spec.replicas: Invalid value: no");
        check(FieldError::required(&at, ""), "spec.replicas: Required value");
        check(
            FieldError::not_supported(&at, "x", &["a", "b"]),
            "spec.replicas: Unsupported value: \"x\": supported values: \"a\", \"b\"",
        );
        check(FieldError::duplicate(&at, "n"), "spec.replicas: Duplicate value: \"n\"");
        check(FieldError::forbidden(&at, "no"), "spec.replicas: Forbidden: no");
        check(FieldError::too_long(&at, 63), "spec.replicas: Too long: may not be more than 63 bytes");
        check(FieldError::too_many(&at, 3, 1), "spec.replicas: Too many: 3: must have at most 1 item");
        check(FieldError::internal(&at, "oops"), "spec.replicas: Internal error: oops");
        check(FieldError::invalid(&at, Value::Null, "d"), "spec.replicas: Invalid value: \"null\": d");
        check(FieldError::not_found(&at, "x\n"), "spec.replicas: Not found: \"x\\n\"");
    }

    #[test]
    fn aggregates_say_each_thing_once() {
        let at = Path::new("a");
        let (one, two) = (FieldError::required(&at, ""), FieldError::forbidden(&at, "no"));
        assert_eq!(aggregate(std::slice::from_ref(&one)), "a: Required value");
        assert_eq!(aggregate(&[one.clone(), two, one]), "[a: Required value, a: Forbidden: no]");
    }
}
