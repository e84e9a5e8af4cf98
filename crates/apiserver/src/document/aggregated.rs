//! Discovery in one document (`apidiscovery.k8s.io/v2`).

use serde_json::{Value, json};

use super::View;
use super::legacy::{group_names, versions};
use super::resources::{Served, in_version};
use crate::aggregation::Remote;

/// The legacy group's document (`/api`), or that of all others (`/apis`).
pub(super) fn render(view: View<'_>, legacy: bool) -> Value {
    let groups = if legacy { vec![""] } else { group_names(view, is_any) };
    let items: Vec<Value> = groups.iter().map(|group| item(view, group)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

/// What a server served that is not there now is still told, as something that may have changed.
fn is_any(_: &Remote) -> bool {
    true
}

fn item(view: View<'_>, group: &str) -> Value {
    let versions: Vec<Value> = versions(view, group, is_any)
        .iter()
        .map(|version| {
            if let Some(remote) = view.table.remote(group, version) {
                return of_remote(remote);
            }
            let resources: Vec<Value> =
                in_version(view.kinds, group, version).map(|served| resource(&served)).collect();
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

/// A version that another server serves, from its plain discovery.
fn of_remote(remote: &Remote) -> Value {
    let entries = remote.fetched.as_ref().map(|fetched| fetched.resources.as_slice()).unwrap_or_default();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let kind_of = |entry: &Value| {
        let or = |given: String, own: &str| if given.is_empty() { own.to_owned() } else { given };
        let (group, version) =
            (or(text(entry, "group"), &remote.group), or(text(entry, "version"), &remote.version));
        json!({"group": group, "version": version, "kind": entry["kind"]})
    };
    let mut resources: Vec<(String, Value)> = Vec::new();
    for entry in entries {
        let name = text(entry, "name");
        let Some((name, subresource)) = name.split_once('/') else {
            let mut resource = json!({
                "resource": name,
                "responseKind": kind_of(entry),
                "scope": scope(entry["namespaced"] == true),
                "singularResource": text(entry, "singularName"),
                "verbs": entry["verbs"],
            });
            for list in ["shortNames", "categories"] {
                if let Some(names) = entry[list].as_array().filter(|names| !names.is_empty()) {
                    resource[list] = json!(names);
                }
            }
            resources.push((name, resource));
            continue;
        };
        let below =
            json!({"subresource": subresource, "responseKind": kind_of(entry), "verbs": entry["verbs"]});
        // One whose resource is served elsewhere stands under that resource's name alone, as upstream shows it.
        let at = resources.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            let scope = scope(entry["namespaced"] == true);
            let empty = json!({"group": "", "version": "", "kind": ""});
            let resource =
                json!({"resource": name, "responseKind": empty, "scope": scope, "singularResource": "", "verbs": []});
            resources.push((name.to_owned(), resource));
            resources.len() - 1
        });
        if let Some((_, resource)) = resources.get_mut(at) {
            match resource["subresources"].as_array_mut() {
                Some(subresources) => subresources.push(below),
                None => resource["subresources"] = json!([below]),
            }
        }
    }
    let freshness = if remote.available && remote.fetched.is_some() { "Current" } else { "Stale" };
    let resources: Vec<Value> = resources.into_iter().map(|(_, resource)| resource).collect();
    json!({"version": remote.version, "freshness": freshness, "resources": resources})
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
