//! Names of kinds and resources: group, version, kind, plural.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A part of a name. Built-in kinds use literals, custom ones own their text.
pub type Name = Cow<'static, str>;

/// The text did not have the form `version` or `group/version`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unexpected GroupVersion string: {0}")]
pub struct GroupVersionError(pub String);

/// A group and version, written `apps/v1`, or `v1` for the legacy (core) group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// Empty for the core group.
    pub group: Name,
    /// For example `v1`.
    pub version: Name,
}

/// A kind in a group and version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    pub group: Name,
    /// For example `v1`.
    pub version: Name,
    /// For example `Deployment`.
    pub kind: Name,
}

/// A resource (plural, lower case) in a group and version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    pub group: Name,
    /// For example `v1`.
    pub version: Name,
    /// For example `deployments`.
    pub resource: Name,
}

/// A resource in a group, written `deployments.apps`, or `pods` in the core group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// Empty for the core group.
    pub group: Name,
    /// For example `deployments`.
    pub resource: Name,
}

/// A kind in a group, written `Deployment.apps`, or `Pod` in the core group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// Empty for the core group.
    pub group: Name,
    /// For example `Deployment`.
    pub kind: Name,
}

impl GroupVersion {
    /// From literals, usable in constants.
    pub const fn of(group: &'static str, version: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version) }
    }

    /// From anything that becomes text.
    pub fn new(group: impl Into<Name>, version: impl Into<Name>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// The kind of that name in this group and version.
    pub fn kind(&self, kind: impl Into<Name>) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }
}

impl GroupVersionKind {
    /// From literals, usable in constants.
    pub const fn of(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), version: Cow::Borrowed(version), kind: Cow::Borrowed(kind) }
    }

    /// From anything that becomes text.
    pub fn new(group: impl Into<Name>, version: impl Into<Name>, kind: impl Into<Name>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// Its group and version, as in an object's `apiVersion`.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    /// Without the version.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind { group: self.group.clone(), kind: self.kind.clone() }
    }

    /// The text of an object's `apiVersion`.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// From an object's `apiVersion` and `kind`.
    ///
    /// # Errors
    /// When `api_version` has more than one slash.
    pub fn parse(api_version: &str, kind: &str) -> Result<Self, GroupVersionError> {
        Ok(api_version.parse::<GroupVersion>()?.kind(kind.to_owned()))
    }
}

impl GroupVersionResource {
    /// From literals, usable in constants.
    pub const fn of(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// From anything that becomes text.
    pub fn new(group: impl Into<Name>, version: impl Into<Name>, resource: impl Into<Name>) -> Self {
        Self { group: group.into(), version: version.into(), resource: resource.into() }
    }
}

impl GroupResource {
    /// From literals, usable in constants.
    pub const fn of(group: &'static str, resource: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), resource: Cow::Borrowed(resource) }
    }

    /// From anything that becomes text.
    pub fn new(group: impl Into<Name>, resource: impl Into<Name>) -> Self {
        Self { group: group.into(), resource: resource.into() }
    }
}

impl GroupKind {
    /// From literals, usable in constants.
    pub const fn of(group: &'static str, kind: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), kind: Cow::Borrowed(kind) }
    }

    /// From anything that becomes text.
    pub fn new(group: impl Into<Name>, kind: impl Into<Name>) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

impl FromStr for GroupVersion {
    type Err = GroupVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            None => Ok(Self::new("", text.to_owned())),
            Some((_, version)) if version.contains('/') => Err(GroupVersionError(text.to_owned())),
            Some((group, version)) => Ok(Self::new(group.to_owned(), version.to_owned())),
        }
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.resource, &self.group)
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dotted(f, &self.kind, &self.group)
    }
}

fn dotted(f: &mut fmt::Formatter<'_>, name: &str, group: &str) -> fmt::Result {
    if group.is_empty() { f.write_str(name) } else { write!(f, "{name}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_versions_read_and_write_as_upstream() {
        for (text, group, version) in [("v1", "", "v1"), ("apps/v1", "apps", "v1"), ("", "", "")] {
            let parsed: GroupVersion = text.parse().unwrap();
            assert_eq!(parsed, GroupVersion::of(group, version));
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(
            "a/b/c".parse::<GroupVersion>().unwrap_err().to_string(),
            "unexpected GroupVersion string: a/b/c"
        );
    }

    #[test]
    fn names_are_dotted_only_with_a_group() {
        assert_eq!(GroupResource::of("apps", "deployments").to_string(), "deployments.apps");
        assert_eq!(GroupResource::of("", "pods").to_string(), "pods");
        assert_eq!(GroupKind::of("apps", "Deployment").to_string(), "Deployment.apps");
        assert_eq!(GroupVersionKind::of("", "v1", "Pod").to_string(), "/v1, Kind=Pod");
    }
}
