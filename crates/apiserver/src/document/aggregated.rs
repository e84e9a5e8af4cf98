//! Discovery in one document (`apidiscovery.k8s.io/v2`).

use registry::{Kind, Kinds};
use serde_json::{Value, json};

use super::legacy::{group_names, versions};
use crate::review::{REVIEWS, Review};

/// The legacy group's document (`/api`), or that of all others (`/apis`).
pub(super) fn render(kinds: &Kinds, legacy: bool) -> Value {
    let groups = if legacy { vec![""] } else { group_names(kinds) };
    let items: Vec<Value> = groups.iter().map(|group| item(kinds, group)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn item(kinds: &Kinds, group: &str) -> Value {
    let versions: Vec<Value> = versions(kinds, group)
        .iter()
        .map(|version| {
            let stored = kinds.in_version(group, version).map(|kind| resource(kind));
            let of_version = |review: &&Review| review.group == group && review.version == *version;
            let answered = REVIEWS.iter().filter(of_version).map(of_review);
            let resources: Vec<Value> = stored.chain(answered).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata = if group.is_empty() {
        json!({"creationTimestamp": null})
    } else {
        json!({"name": group, "creationTimestamp": null})
    };
    json!({"metadata": metadata, "versions": versions})
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": scope(kind.namespaced),
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    for (name, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            resource[name] = json!(list);
        }
    }
    let subresources = kind.subresources.iter().map(|subresource| {
        let own = (kind.group.as_str(), kind.version.as_str());
        let (group, version) = subresource.group_version.unwrap_or(own);
        json!({
            "subresource": subresource.name,
            "responseKind": {"group": group, "version": version, "kind": subresource.kind},
            "verbs": subresource.verbs,
        })
    });
    if !kind.subresources.is_empty() {
        resource["subresources"] = subresources.collect();
    }
    resource
}

fn of_review(review: &Review) -> Value {
    json!({
        "resource": review.plural,
        "responseKind": {"group": review.group, "version": review.version, "kind": review.kind},
        "scope": scope(review.namespaced),
        "singularResource": review.kind.to_lowercase(),
        "verbs": ["create"],
    })
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}
