//! Discovery in one document (`apidiscovery.k8s.io/v2`).

use registry::Kinds;
use serde_json::{Value, json};

use super::legacy::{group_names, versions};
use super::resources::{Served, in_version};

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
            let resources: Vec<Value> =
                in_version(kinds, group, version).map(|served| resource(&served)).collect();
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

fn resource(served: &Served<'_>) -> Value {
    let mut resource = json!({
        "resource": served.plural,
        "responseKind": {"group": served.group, "version": served.version, "kind": served.kind},
        "scope": scope(served.namespaced),
        "singularResource": served.singular,
        "verbs": served.verbs,
    });
    for (name, list) in served.lists.iter().filter(|(_, list)| !list.is_empty()) {
        resource[name] = json!(list);
    }
    let subresources = served.subresources.iter().map(|subresource| {
        let own = (served.group, served.version);
        let (group, version) = subresource.group_version.unwrap_or(own);
        json!({
            "subresource": subresource.name,
            "responseKind": {"group": group, "version": version, "kind": subresource.kind},
            "verbs": subresource.verbs,
        })
    });
    if !served.subresources.is_empty() {
        resource["subresources"] = subresources.collect();
    }
    resource
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}
