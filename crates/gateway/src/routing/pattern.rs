//! The two halves of a route.

use std::fmt;

/// Why a route cannot be one. The first field is the path of the field within the route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: Invalid value: {value:?}: {why}")]
pub struct InvalidRoute {
    /// `host` or `path`.
    pub field: &'static str,
    /// What stood there.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Which hosts a route answers on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This one, in lower case.
    Exact(Box<str>),
    /// Those that end so; begins with a dot.
    Wildcard(Box<str>),
    /// Those that are one label and end so, as an Ingress means its wildcards; begins with a dot.
    Label(Box<str>),
    /// Those that nobody claims more specifically.
    Any,
}

impl HostPattern {
    /// Reads a route's host: a name, `*.` and a name, or nothing.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(host: Option<&str>) -> Result<Self, InvalidRoute> {
        let Some(host) = host else { return Ok(Self::Any) };
        let name = host.strip_prefix("*.").unwrap_or(host);
        let label = |label: &str| {
            let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            label.len() <= 63 && inner && edge(label.as_bytes().first()) && edge(label.as_bytes().last())
        };
        if name.len() > 253 || !name.split('.').all(label) {
            let why = "must be a DNS name without a port, or one after \"*.\"";
            return Err(InvalidRoute { field: "host", value: host.to_owned(), why });
        }
        let name = name.to_ascii_lowercase();
        Ok(if name.len() == host.len() {
            Self::Exact(name.into())
        } else {
            Self::Wildcard(format!(".{name}").into())
        })
    }

    /// The same, with a wildcard that stands for one label.
    #[must_use]
    pub fn of_one_label(self) -> Self {
        match self {
            Self::Wildcard(suffix) => Self::Label(suffix),
            other => other,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) | Self::Label(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A path and everything below it. `/a` covers `/a`, `/a/` and `/a/b`, but not `/ab`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPrefix(Box<str>);

impl PathPrefix {
    /// Reads a route's path.
    ///
    /// # Errors
    /// When it is not absolute, or has a query, a fragment or an element that a client could not send.
    pub fn parse(path: &str) -> Result<Self, InvalidRoute> {
        let invalid = |why| Err(InvalidRoute { field: "path", value: path.to_owned(), why });
        if !path.starts_with('/') {
            return invalid("must be an absolute path");
        }
        if path.len() > 1024 {
            return invalid("may not be longer than 1024 bytes");
        }
        if path.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#')) {
            return invalid("must consist of visible ASCII characters without '?' and '#'");
        }
        if path.contains("//") || path.split('/').any(|element| matches!(element, "." | "..")) {
            return invalid("may not contain empty, \".\" or \"..\" elements");
        }
        Ok(Self(path.trim_end_matches('/').into()))
    }

    /// Whether the path lies at or below this one.
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Which paths of its host a route takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathMatch {
    /// This one.
    Exact(Box<str>),
    /// This one and everything below it.
    Prefix(PathPrefix),
    /// What no other route of the host takes.
    Rest,
}

impl From<PathPrefix> for PathMatch {
    fn from(prefix: PathPrefix) -> Self {
        Self::Prefix(prefix)
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Rest => f.write_str("/"),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_wildcards() {
        assert_eq!(HostPattern::parse(None), Ok(HostPattern::Any));
        assert_eq!(HostPattern::parse(Some("Shop.Test")), Ok(HostPattern::Exact("shop.test".into())));
        assert_eq!(HostPattern::parse(Some("*.Test")), Ok(HostPattern::Wildcard(".test".into())));
        for host in ["", "*", "a:80", "a..b", "*.", "-a", "a-", "a_b", "*.*.a", "a.", "b\u{fc}cher"] {
            assert!(HostPattern::parse(Some(host)).is_err(), "{host}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert_eq!(PathPrefix::parse("/a/").unwrap().to_string(), "/a");
        assert_eq!(PathPrefix::parse("/").unwrap().to_string(), "/");
        for path in ["", "a", "/a?b", "/a#b", "/a b", "//", "/a/../b", "/./"] {
            let error = PathPrefix::parse(path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("path: Invalid value: {path:?}: ")), "{error}");
        }
    }
}
