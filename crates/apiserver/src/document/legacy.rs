//! Discovery as it always was: groups, their versions, and the resources of each.

use registry::Kinds;
use serde_json::{Value, json};

use super::hash;
use super::resources::{Served, in_version};
use crate::review::REVIEWS;

/// The document at a path; `None` where there is none.
pub(super) fn render(kinds: &Kinds, path: &str, advertise: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": versions(kinds, ""),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": advertise}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = group_names(kinds).iter().map(|name| group(kinds, name)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => group_names(kinds).contains(name).then(|| {
            let mut document = group(kinds, name);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            document
        }),
        ["api", version] => resources(kinds, "", version),
        ["apis", group, version] => resources(kinds, group, version),
        _ => None,
    }
}

/// The names of all groups but the legacy one.
pub(super) fn group_names(kinds: &Kinds) -> Vec<&str> {
    let mut names: Vec<&str> = kinds.all().iter().map(|kind| kind.group.as_str()).collect();
    names.extend(REVIEWS.iter().map(|review| review.group));
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    // The groups that everybody wants first come first, as upstream sorts them by priority.
    names.sort_by_key(|name| PRIORITY.iter().position(|first| first == name).unwrap_or(PRIORITY.len()));
    names
}

const PRIORITY: [&str; 17] = [
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
];

/// The versions of a group, the preferred one first.
pub(super) fn versions<'a>(kinds: &'a Kinds, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> =
        kinds.groups().into_iter().filter(|each| each.name == group).flat_map(|each| each.versions).collect();
    for review in REVIEWS.iter().filter(|review| review.group == group) {
        if !versions.contains(&review.version) {
            versions.push(review.version);
        }
    }
    versions
}

fn group(kinds: &Kinds, name: &str) -> Value {
    let versions: Vec<Value> = versions(kinds, name)
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for served in in_version(kinds, group, version) {
        resource(&served, &mut resources);
    }
    if resources.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }))
}

fn resource(served: &Served<'_>, into: &mut Vec<Value>) {
    let mut resource = json!({
        "name": served.plural,
        "singularName": served.singular,
        "namespaced": served.namespaced,
        "kind": served.kind,
        "verbs": served.verbs,
    });
    if served.is_stored {
        resource["storageVersionHash"] = json!(storage_version_hash(served));
    }
    for (name, list) in served.lists.iter().filter(|(_, list)| !list.is_empty()) {
        resource[name] = json!(list);
    }
    into.push(resource);
    for subresource in served.subresources {
        let mut entry = json!({
            "name": format!("{}/{}", served.plural, subresource.name),
            "singularName": "",
            "namespaced": served.namespaced,
            "kind": subresource.kind,
            "verbs": subresource.verbs,
        });
        if let Some((group, version)) = subresource.group_version {
            entry["group"] = json!(group);
            entry["version"] = json!(version);
        }
        into.push(entry);
    }
}

/// Changes when objects come to be stored in another version.
fn storage_version_hash(served: &Served<'_>) -> String {
    hash(format!("{}/{}", served.group, served.kind).as_bytes()).chars().take(16).collect()
}
