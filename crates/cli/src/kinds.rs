//! The kinds that the server serves, and how the words that people type name them.

use anyhow::{Result, bail};
use client::Client;
use serde_json::Value;

use crate::request;

/// The aggregated form of discovery: everything in two answers.
const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// One kind of object, as discovery tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core one.
    pub group: String,
    /// Version that this entry is about.
    pub version: String,
    /// `Deployment`.
    pub kind: String,
    /// `deployments`.
    pub plural: String,
    /// `deployment`.
    pub singular: String,
    /// `deploy`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
}

/// All of them, the preferred versions first.
#[derive(Clone, Debug, Default)]
pub struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the server.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn discover(client: &Client) -> Result<Self> {
        let mut kinds = Vec::new();
        for path in ["/api", "/apis"] {
            read(&request::get(client, path, AGGREGATED).await?, &mut kinds);
        }
        Ok(Self(kinds))
    }

    /// The kind of a manifest.
    ///
    /// # Errors
    /// When the server has no such kind.
    pub fn of(&self, api_version: &str, kind: &str) -> Result<&Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let found = self.0.iter().find(|k| k.group == group && k.version == version && k.kind == kind);
        found.ok_or_else(|| anyhow::anyhow!("no matches for kind {kind:?} in version {api_version:?}"))
    }

    /// The kinds that a word means: a name in any of its forms (`deploy`, `deployments.apps`), or a category (`all`).
    ///
    /// # Errors
    /// When it means none.
    pub fn named(&self, word: &str) -> Result<Vec<&Kind>> {
        let word = word.to_lowercase();
        let (name, group) = word.split_once('.').map_or((word.as_str(), None), |(n, g)| (n, Some(g)));
        let fits = |k: &&Kind| {
            group.is_none_or(|g| k.group == g || format!("{}.{}", k.version, k.group) == g)
                && (k.plural == name
                    || k.singular == name
                    || k.kind.to_lowercase() == name
                    || k.short_names.iter().any(|s| s == name))
        };
        if let Some(kind) = self.0.iter().find(fits) {
            return Ok(vec![kind]);
        }
        let in_category: Vec<&Kind> = self.0.iter().filter(|k| k.categories.contains(&word)).collect();
        if in_category.is_empty() {
            bail!("the server doesn't have a resource type {word:?}");
        }
        Ok(in_category)
    }
}

impl Kind {
    /// `deployment.apps`, as kubectl names objects.
    #[must_use]
    pub fn qualified(&self) -> String {
        let name = if self.singular.is_empty() { self.kind.to_lowercase() } else { self.singular.clone() };
        if self.group.is_empty() { name } else { format!("{name}.{}", self.group) }
    }

    /// Path of the collection, in a namespace or in all.
    #[must_use]
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/{}/namespaces/{namespace}/{}", self.version, self.plural),
            None => format!("{root}/{}/{}", self.version, self.plural),
        }
    }
}

fn read(answer: &Value, kinds: &mut Vec<Kind>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| list(value).iter().map(text).collect::<Vec<_>>();
    for group in list(&answer["items"]) {
        for version in list(&group["versions"]) {
            for resource in list(&version["resources"]) {
                kinds.push(Kind {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: texts(&resource["shortNames"]),
                    categories: texts(&resource["categories"]),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kinds() -> Kinds {
        let mut kinds = Vec::new();
        read(
            &json!({"items": [
                {"versions": [{"version": "v1", "resources": [
                    {"resource": "pods", "singularResource": "pod", "shortNames": ["po"], "categories": ["all"],
                     "responseKind": {"kind": "Pod"}, "scope": "Namespaced"},
                    {"resource": "nodes", "singularResource": "node", "responseKind": {"kind": "Node"}, "scope": "Cluster"}]}]},
                {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                    {"resource": "deployments", "singularResource": "deployment", "shortNames": ["deploy"],
                     "categories": ["all"], "responseKind": {"kind": "Deployment"}, "scope": "Namespaced"}]}]}]}),
            &mut kinds,
        );
        Kinds(kinds)
    }

    #[test]
    fn every_form_of_a_name_finds_its_kind() {
        for (word, kind) in [
            ("po", "Pod"),
            ("Pods", "Pod"),
            ("deploy", "Deployment"),
            ("deployments.apps", "Deployment"),
            ("deployment.v1.apps", "Deployment"),
        ] {
            assert_eq!(kinds().named(word).map(|k| k[0].kind.clone()).ok().as_deref(), Some(kind), "{word}");
        }
        assert_eq!(kinds().named("all").map(|k| k.len()).ok(), Some(2));
        assert!(kinds().named("deployments.batch").is_err());
    }

    #[test]
    fn paths_follow_group_and_scope() {
        let kinds = kinds();
        let path = |word: &str, ns| kinds.named(word).map(|k| k[0].collection(ns)).unwrap_or_default();
        assert_eq!(path("po", Some("a")), "/api/v1/namespaces/a/pods");
        assert_eq!(path("po", None), "/api/v1/pods");
        assert_eq!(path("no", Some("a")), "");
        assert_eq!(path("node", Some("a")), "/api/v1/nodes");
        assert_eq!(path("deploy", Some("a")), "/apis/apps/v1/namespaces/a/deployments");
    }
}
