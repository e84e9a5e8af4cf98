//! Values of expressions. Those that come from JSON borrow it; nothing is copied until an expression makes something new.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use apimachinery::quantity::Quantity;
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::authorizer::Check;
use crate::cel_type;
use crate::context::Context;
use crate::decl::{self, DYN, DeclType, ListKind, Object};
use crate::error::EvalError;
use crate::json::from_json;
use crate::library::format::NamedFormat;
use crate::library::semver::Version;
use crate::library::url::Url;

/// A value, or why there is none.
pub type Outcome<'a> = Result<Value<'a>, EvalError>;

/// A value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A length of time, in nanoseconds.
    Duration(i64),
    /// A moment.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map, or an object.
    Map(Map<'a>),
    /// A type, by name.
    Type(Arc<str>),
    /// A value that may not be there.
    Optional(Option<Arc<Value<'a>>>),
    /// A value of one of Kubernetes' libraries.
    Library(Library<'a>),
}

/// Values of Kubernetes' libraries.
#[derive(Debug, Clone)]
pub enum Library<'a> {
    /// A URL.
    Url(Arc<Url>),
    /// An address.
    Ip(IpAddr),
    /// A network: its address as given and the length of its prefix.
    Cidr(IpAddr, u8),
    /// An amount.
    Quantity(Quantity),
    /// A version.
    Semver(Arc<Version>),
    /// A format that text may have.
    Format(&'static NamedFormat),
    /// A question to the authorizer, or a part of one.
    Check(Arc<Check<'a>>),
}

/// Text, borrowed or shared.
#[derive(Debug, Clone)]
pub enum Text<'a> {
    /// Of the data or the program.
    Borrowed(&'a str),
    /// Made by the expression.
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> Text<'a> {
    /// A part of the text, by bytes; it borrows what the text borrows.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Value<'a> {
        match self {
            Self::Borrowed(text) => Value::from(text.get(range).unwrap_or_default()),
            Self::Shared(text) => Value::from(text.get(range).unwrap_or_default().to_owned()),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Shared(text.into()))
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<Vec<Value<'a>>> for Value<'a> {
    fn from(items: Vec<Value<'a>>) -> Self {
        Self::List(List(Items::Shared(Arc::new(items))))
    }
}

/// A count as a CEL number.
pub(crate) fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// A size for costs.
pub(crate) fn size(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

impl<'a> Value<'a> {
    /// The value of JSON, as declared.
    ///
    /// # Errors
    /// Where the JSON is not what was declared.
    pub fn from_json(json: &'a Json, decl: &'a DeclType) -> Outcome<'a> {
        from_json(json, decl)
    }

    /// The value of JSON about which nothing is declared.
    ///
    /// # Errors
    /// None for now.
    pub fn dynamic(json: &'a Json) -> Outcome<'a> {
        from_json(json, &DYN)
    }

    /// An optional value.
    pub fn optional(inner: Option<Value<'a>>) -> Self {
        Self::Optional(inner.map(Arc::new))
    }

    pub(crate) fn ip(address: IpAddr) -> Self {
        Self::Library(Library::Ip(address))
    }

    /// Its text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is true; none if it is no Boolean.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The name of its type, as `type()` gives it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => cel_type::OPTIONAL,
            Self::Library(of) => of.type_name(),
        }
    }

    /// What `size()` gives, and 1 for what has none: what costs are reckoned with.
    pub(crate) fn cost_size(&self) -> u64 {
        match self {
            Self::String(text) => size(text.chars().count()),
            Self::Bytes(bytes) => size(bytes.len()),
            Self::List(list) => size(list.len()),
            Self::Map(map) => size(map.len()),
            Self::Optional(Some(inner)) => inner.cost_size(),
            Self::Library(Library::Ip(address)) => {
                if address.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Self::Library(Library::Cidr(_, prefix)) => u64::from(prefix.div_ceil(8)),
            _ => 1,
        }
    }
}

impl Library<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => cel_type::URL,
            Self::Ip(_) => cel_type::IP,
            Self::Cidr(..) => cel_type::CIDR,
            Self::Quantity(_) => cel_type::QUANTITY,
            Self::Semver(_) => cel_type::SEMVER,
            Self::Format(_) => cel_type::FORMAT,
            Self::Check(check) => check.type_name(),
        }
    }
}

/// A list: of JSON, of values, or two lists one after the other.
#[derive(Debug, Clone)]
pub struct List<'a>(pub(crate) Items<'a>);

#[derive(Debug, Clone)]
pub(crate) enum Items<'a> {
    Json { items: &'a [Json], decl: Option<&'a decl::List> },
    Shared(Arc<Vec<Value<'a>>>),
    Joined(Arc<Joined<'a>>),
}

/// Two lists, one after the other.
#[derive(Debug)]
pub(crate) struct Joined<'a> {
    one: List<'a>,
    other: List<'a>,
    len: usize,
    depth: u8,
}

/// How deep lists may be joined before their items are put into one: what goes through them goes that deep.
const MAX_JOINED: u8 = 32;

impl<'a> List<'a> {
    /// How many items there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Items::Json { items, .. } => items.len(),
            Items::Shared(items) => items.len(),
            Items::Joined(joined) => joined.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place.
    pub fn get(&self, index: usize) -> Option<Outcome<'a>> {
        match &self.0 {
            Items::Json { items, decl } => {
                items.get(index).map(|item| from_json(item, decl.map_or(&DYN, |decl| &decl.items)))
            }
            Items::Shared(items) => items.get(index).cloned().map(Ok),
            Items::Joined(joined) => match index.checked_sub(joined.one.len()) {
                Some(beyond) => joined.other.get(beyond),
                None => joined.one.get(index),
            },
        }
    }

    /// The items, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// Both, one after the other.
    ///
    /// # Errors
    /// When there is no place for so many.
    pub(crate) fn join(self, context: &mut Context, other: Self) -> Result<Self, EvalError> {
        if self.is_empty() {
            return Ok(other);
        }
        if other.is_empty() {
            return Ok(self);
        }
        let depth = self.depth().max(other.depth()) + 1;
        let len = self.len().saturating_add(other.len());
        if depth > MAX_JOINED {
            context.items(len)?;
            let items: Result<Vec<_>, _> = self.iter().chain(other.iter()).collect();
            return Ok(Self(Items::Shared(Arc::new(items?))));
        }
        context.items(2)?;
        Ok(Self(Items::Joined(Arc::new(Joined { one: self, other, len, depth }))))
    }

    fn depth(&self) -> u8 {
        match &self.0 {
            Items::Joined(joined) => joined.depth,
            _ => 0,
        }
    }

    /// How its items belong together, and the keys of a list of kind map.
    pub(crate) fn kind(&self) -> (ListKind, &'a [String]) {
        match &self.0 {
            Items::Json { decl: Some(decl), .. } => (decl.kind, &decl.keys),
            _ => (ListKind::Atomic, &[]),
        }
    }
}

/// A map, or an object: of JSON or of values.
#[derive(Debug, Clone)]
pub struct Map<'a>(pub(crate) Entries<'a>);

#[derive(Debug, Clone)]
pub(crate) enum Entries<'a> {
    Json {
        map: &'a serde_json::Map<String, Json>,
        decl: MapDecl<'a>,
    },
    /// Keys in their order, each with the value that it was written as.
    Shared(Arc<BTreeMap<Key, (Value<'a>, Value<'a>)>>),
}

/// What is known about the entries of a JSON object.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MapDecl<'a> {
    Values(&'a DeclType),
    Object(&'a Object),
}

/// A key of a map. Numbers that are equal are one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    Number(i128),
    String(Arc<str>),
}

impl Key {
    /// The key that a value is; none if it cannot be one.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Number(i128::from(*value)),
            Value::Uint(value) => Self::Number(i128::from(*value)),
            Value::String(Text::Shared(text)) => Self::String(text.clone()),
            Value::String(text) => Self::String((**text).into()),
            // A double finds the key of the same number.
            #[allow(clippy::cast_possible_truncation, clippy::float_cmp)]
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e19 => {
                Self::Number(*value as i128)
            }
            _ => return None,
        })
    }
}

impl<'a> Map<'a> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Json { map, .. } => map.len(),
            Entries::Shared(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a text key; of an object, of the field with that identifier.
    pub fn get(&self, name: &str) -> Option<Outcome<'a>> {
        match &self.0 {
            Entries::Json { map, decl: MapDecl::Values(decl) } => {
                map.get(name).map(|json| from_json(json, decl))
            }
            Entries::Json { map, decl: MapDecl::Object(object) } => {
                let field = object.fields.get(name)?;
                map.get(&field.name).map(|json| from_json(json, &field.decl))
            }
            Entries::Shared(entries) => {
                entries.get(&Key::String(name.into())).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    /// The value of any key. Keys that cannot be in a map are in none.
    pub(crate) fn find(&self, key: &Value<'_>) -> Option<Outcome<'a>> {
        match (&self.0, key) {
            (_, Value::String(name)) => self.get(name),
            (Entries::Json { .. }, _) => None,
            (Entries::Shared(entries), key) => {
                entries.get(&Key::of(key)?).map(|(_, value)| Ok(value.clone()))
            }
        }
    }

    /// The keys, in order; of an object, the identifiers of the fields that are there.
    pub(crate) fn keys(&self) -> Box<dyn Iterator<Item = Value<'a>> + '_> {
        match &self.0 {
            Entries::Json { map, decl: MapDecl::Values(_) } => {
                Box::new(map.keys().map(|name| Value::from(name.as_str())))
            }
            Entries::Json { map, decl: MapDecl::Object(object) } => {
                let there = object.fields.iter().filter(|(_, field)| map.contains_key(&field.name));
                Box::new(there.map(|(identifier, _)| Value::from(identifier.as_str())))
            }
            Entries::Shared(entries) => Box::new(entries.values().map(|(key, _)| key.clone())),
        }
    }

    /// The entries, by key.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Value<'a>, Outcome<'a>)> + '_ {
        self.keys().filter_map(|key| {
            let value = self.find(&key)?;
            Some((key, value))
        })
    }
}
