//! Types that the checker reasons with, and how they are written in messages.

use std::fmt;
use std::sync::Arc;

use crate::decl::Object;

/// A CEL type.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Anything; checked when it is evaluated.
    Dyn,
    /// The same of what nobody can know before, as a device's attributes are: unlike [`Type::Dyn`] it is no range.
    Any,
    /// The type of what could not be checked.
    Error,
    /// `null`.
    Null,
    /// True or false.
    Bool,
    /// A signed 64-bit number.
    Int,
    /// An unsigned 64-bit number.
    Uint,
    /// A 64-bit floating-point number.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A length of time.
    Duration,
    /// A moment.
    Timestamp,
    /// A list of one type.
    List(Arc<Type>),
    /// A map of one type to another.
    Map(Arc<(Type, Type)>),
    /// An object with declared fields.
    Object(Arc<Object>),
    /// An object of Kubernetes' libraries, without fields: `kubernetes.Quantity`.
    Library(&'static str),
    /// A type known by name and parameters: `optional_type(T)`, `net.IP`.
    Opaque(&'static str, Vec<Type>),
    /// A type as a value: `type(int)`.
    Of(Option<Arc<Type>>),
    /// A type that the checker has still to find.
    Param(u32),
}

/// The name of optional types.
pub(crate) const OPTIONAL: &str = "optional_type";
/// The names of the types of Kubernetes' libraries.
pub(crate) const URL: &str = "kubernetes.URL";
pub(crate) const QUANTITY: &str = "kubernetes.Quantity";
pub(crate) const SEMVER: &str = "kubernetes.Semver";
pub(crate) const FORMAT: &str = "kubernetes.NamedFormat";
pub(crate) const IP: &str = "net.IP";
pub(crate) const CIDR: &str = "net.CIDR";
pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

impl Type {
    /// A list of that.
    pub fn list(items: Type) -> Self {
        Self::List(Arc::new(items))
    }

    /// A map of these. What has types within is no key of any map, and counts as `dyn`: types are chains, and no trees in which
    /// each level is twice as large as the one below.
    pub fn map(key: Type, value: Type) -> Self {
        let key = match key {
            Self::List(_) | Self::Map(_) | Self::Opaque(..) | Self::Of(_) => Self::Dyn,
            key => key,
        };
        Self::Map(Arc::new((key, value)))
    }

    /// An optional value of that.
    pub fn optional(inner: Type) -> Self {
        Self::Opaque(OPTIONAL, vec![inner])
    }

    /// What an optional type may hold; nothing for other types.
    pub(crate) fn unwrap_optional(&self) -> Option<&Type> {
        match self {
            Self::Opaque(OPTIONAL, parameters) => parameters.first(),
            _ => None,
        }
    }

    pub(crate) const fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any | Self::Error)
    }

    /// Whether values of the type are of one size, whatever they are.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            other => other.unwrap_optional().is_some_and(Self::is_scalar),
        }
    }

    /// The type that an identifier names (`int`, `google.protobuf.Timestamp`, `net.IP`).
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "bytes" => Self::Bytes,
            "double" => Self::Double,
            "int" => Self::Int,
            "list" => Self::list(Self::Dyn),
            "map" => Self::map(Self::Dyn, Self::Dyn),
            "null_type" => Self::Null,
            "string" => Self::String,
            "type" => Self::Of(None),
            "uint" => Self::Uint,
            "google.protobuf.Duration" => Self::Duration,
            "google.protobuf.Timestamp" => Self::Timestamp,
            "optional_type" => Self::optional(Self::Dyn),
            "net.IP" => Self::Opaque(IP, Vec::new()),
            "net.CIDR" => Self::Opaque(CIDR, Vec::new()),
            _ => return None,
        })
    }

    /// The name of values of the type, as `type()` gives it.
    pub(crate) fn runtime_name(&self) -> &str {
        match self {
            Self::Dyn | Self::Error | Self::Param(_) => "dyn",
            Self::Any => "any",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) | Self::Object(_) => "map",
            Self::Library(name) | Self::Opaque(name, _) => name,
            Self::Of(_) => "type",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(items) => write!(f, "list({items})"),
            Self::Map(pair) => write!(f, "map({}, {})", pair.0, pair.1),
            Self::Object(object) => f.write_str(&object.name),
            Self::Opaque(name, parameters) if parameters.is_empty() => f.write_str(name),
            Self::Opaque(name, parameters) => {
                let parameters: Vec<String> = parameters.iter().map(ToString::to_string).collect();
                write!(f, "{name}({})", parameters.join(", "))
            }
            Self::Of(Some(inner)) => write!(f, "type({inner})"),
            Self::Param(number) => write!(f, "_var{number}"),
            other => f.write_str(other.runtime_name()),
        }
    }
}
