use serde::{Deserialize, Serialize};

use crate::{Attributes, Resource, Target};

/// One rule of a role, as `rbac.authorization.k8s.io/v1` writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyRule {
    /// API groups; `*` is all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Paths that are not resources; a trailing `*` stands for any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// Names of objects; none listed is all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Resources as `plural` or `plural/subresource`; `*` is all of them, `*/subresource` that one of all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Verbs; `*` is all of them.
    pub verbs: Vec<String>,
}

impl PolicyRule {
    /// Whether the rule allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        has(&self.verbs, attributes.verb)
            && match &attributes.target {
                Target::Path(path) => self.allows_path(path),
                Target::Resource(resource) => self.allows_resource(resource),
            }
    }

    fn allows_resource(&self, wanted: &Resource<'_>) -> bool {
        has(&self.api_groups, wanted.group)
            && self.resources.iter().any(|rule| matches_resource(rule, wanted.resource, wanted.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == wanted.name))
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|rule| matches_path(rule, path))
    }
}

/// Whether the list holds the word, or `*`.
pub(super) fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == word)
}

/// Whether `plural`, `plural/subresource`, `*/subresource` or `*` matches.
pub(super) fn matches_resource(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    match rule.split_once('/') {
        Some((of, sub)) => sub == subresource && (of == "*" || of == resource),
        None => false,
    }
}

/// Whether a path, or a prefix that ends in `*`, matches.
pub(super) fn matches_path(rule: &str, path: &str) -> bool {
    rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources() {
        let cases = [
            ("*", "pods", "", true),
            ("*", "pods", "log", true),
            ("pods", "pods", "", true),
            ("pods", "pods", "log", false),
            ("pods/log", "pods", "log", true),
            ("pods/log", "pods", "", false),
            ("pods/*", "pods", "log", false),
            ("*/log", "pods", "log", true),
            ("*/log", "pods", "", false),
            ("*/scale", "deployments", "status", false),
        ];
        for (rule, resource, subresource, expected) in cases {
            assert_eq!(
                matches_resource(rule, resource, subresource),
                expected,
                "{rule} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn paths() {
        let cases = [
            ("*", "/version", true),
            ("/api", "/api", true),
            ("/api", "/api/", false),
            ("/api/*", "/api/v1", true),
            ("/api/*", "/api", false),
            ("/healthz*", "/healthz/etcd", true),
            ("/a*b", "/axb", false),
        ];
        for (rule, path, expected) in cases {
            assert_eq!(matches_path(rule, path), expected, "{rule} {path}");
        }
    }
}
