//! A kind: one served version of one resource, and what is known about it.

use std::sync::Arc;

use crate::Head;
use crate::convert::Versions;
use crate::resource::Resource;
use crate::strategy::{Rules, Scale, Strategy};

/// A subresource, as discovery names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`, …
    pub name: &'static str,
    /// Group and version of what it takes and gives, where they are not the kind's own (`autoscaling/v1`).
    pub group_version: Option<(&'static str, &'static str)>,
    /// Kind of what it takes and gives.
    pub kind: String,
    /// Its verbs.
    pub verbs: &'static [&'static str],
}

/// One column of a Table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `date`, …
    pub type_: String,
    /// `name` for the name, else mostly empty.
    pub format: String,
    /// For `kubectl describe`-like readers.
    pub description: String,
    /// 0: always shown; more: `-o wide` only.
    pub priority: i64,
}

/// One served version of one resource. Cheap to share: the registry's snapshots hold them in `Arc`s.
pub struct Kind {
    /// API group; empty for the legacy group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind (`Pod`).
    pub kind: String,
    /// Kind of its lists (`PodList`).
    pub list_kind: String,
    /// The resource's name in paths (`pods`).
    pub plural: String,
    /// Singular name (`pod`).
    pub singular: String,
    /// Short names (`po`).
    pub short_names: Vec<String>,
    /// Categories (`all`).
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs, sorted as discovery shows them.
    pub verbs: &'static [&'static str],
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// What its objects look like; a custom resource without a schema has none.
    pub schema: Option<apimachinery::schema::Ref>,
    /// Whether a CustomResourceDefinition brought it.
    pub custom: bool,
    /// Whether this is the version that objects are stored in.
    pub storage: bool,
    /// For what is deprecated, the warning that requests get.
    pub deprecation: Option<String>,
    /// Group, version and kind.
    pub gvk: apimachinery::gvk::GroupVersionKind,
    /// Columns of its tables.
    pub columns: Vec<Column>,
    pub(crate) rules: Rules,
    pub(crate) scale: Option<Scale>,
    pub(crate) head: Head,
    pub(crate) list_head: Head,
    pub(crate) resource: Arc<Resource>,
    /// Number of this version within its resource, 0 being the storage version.
    pub(crate) slot: u16,
    /// Tells this form of this version from all others: what objects were converted to is kept by it.
    pub(crate) shape: u64,
    /// How a custom kind's objects get from one version to another.
    pub(crate) versions: Option<Versions>,
    pub(crate) strategy: Arc<dyn Strategy>,
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether a delete that removes an object is answered with its last state, and not with a Status.
    pub fn shows_deleted(&self) -> bool {
        self.rules.shows_deleted
    }

    /// `pods` or `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

impl Column {
    /// A column that is always shown.
    pub(crate) fn new(name: &str, type_: &str) -> Self {
        let format = if name == "Name" { "name" } else { "" };
        Self {
            name: name.into(),
            type_: type_.into(),
            format: format.into(),
            description: String::new(),
            priority: 0,
        }
    }

    /// Columns from `name` (always shown) or `name+` (wide only), with a type where it is not `string`: `Ready:integer`.
    pub(crate) fn parse(specs: &[&str]) -> Vec<Self> {
        let one = |spec: &&str| {
            let (name, type_) = spec.split_once(':').unwrap_or((spec, "string"));
            let wide = name.strip_suffix('+');
            Self { priority: i64::from(wide.is_some()), ..Self::new(wide.unwrap_or(name), type_) }
        };
        specs.iter().map(one).collect()
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, Kind={}", self.api_version(), self.kind)
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
