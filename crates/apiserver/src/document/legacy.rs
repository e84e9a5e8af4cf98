//! Discovery as it always was: groups, their versions, and the resources of each.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use registry::defaults::group_priority;
use registry::{Kinds, version_order};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::View;
use super::resources::{Served, in_version};
use crate::aggregation::Remote;
use crate::review::REVIEWS;

/// The document at a path; `None` where there is none.
pub(super) fn render(view: View<'_>, path: &str, advertise: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": local_versions(view.kinds, ""),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": advertise}],
        })),
        ["apis"] => {
            let groups: Vec<Value> =
                group_names(view, is_available).iter().map(|name| group(view, name)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => group_names(view, is_available).contains(name).then(|| {
            let mut document = group(view, name);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            document
        }),
        ["api", version] => resources(view.kinds, "", version),
        ["apis", group, version] => resources(view.kinds, group, version),
        _ => None,
    }
}

/// Whether the server of a group version is there.
fn is_available(remote: &Remote) -> bool {
    remote.available
}

/// The names of the groups that this server serves itself, but for the legacy one.
pub(super) fn local_group_names(kinds: &Kinds) -> Vec<&str> {
    let mut names: Vec<&str> = kinds.all().iter().map(|kind| kind.group.as_str()).collect();
    names.extend(REVIEWS.iter().map(|review| review.group));
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}

/// The names of all groups but the legacy one, with those that others serve where these count: the groups that everybody
/// wants first come first.
pub(super) fn group_names<'a>(view: View<'a>, counts: fn(&Remote) -> bool) -> Vec<&'a str> {
    let mut names = local_group_names(view.kinds);
    names.extend(view.table.all().filter(|remote| counts(remote)).map(|remote| remote.group.as_str()));
    names.sort_unstable();
    names.dedup();
    let custom = |name: &str| {
        let mut kinds = view.kinds.all().iter().filter(|kind| kind.group == name).peekable();
        kinds.peek().is_some() && kinds.all(|kind| kind.custom)
    };
    names.sort_by_cached_key(|name| {
        let remote = view.table.of_group(name).map(|remote| remote.group_priority).max();
        let local = local_group_names(view.kinds).contains(name);
        let own = local.then(|| if custom(name) { CUSTOM } else { group_priority(name) });
        std::cmp::Reverse(own.max(remote))
    });
    names
}

/// How custom resources' groups come before others, as upstream's do.
const CUSTOM: i64 = 1000;
/// How a custom resource's version comes before others of its group.
const VERSION: i64 = 100;

/// The versions of a group that this server serves itself, the preferred one first.
pub(super) fn local_versions<'a>(kinds: &'a Kinds, group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> =
        kinds.groups().into_iter().filter(|each| each.name == group).flat_map(|each| each.versions).collect();
    for review in REVIEWS.iter().filter(|review| review.group == group) {
        if !versions.contains(&review.version) {
            versions.push(review.version);
        }
    }
    versions
}

/// The versions of a group with those that others serve where these count, the preferred one first.
pub(super) fn versions<'a>(view: View<'a>, group: &'a str, counts: fn(&Remote) -> bool) -> Vec<&'a str> {
    let local = local_versions(view.kinds, group);
    let mut versions: Vec<(i64, &str)> = local
        .into_iter()
        .filter(|version| view.table.remote(group, version).is_none())
        .map(|version| (VERSION, version))
        .collect();
    let remote = view.table.of_group(group).filter(|remote| counts(remote));
    versions.extend(remote.map(|remote| (remote.version_priority, remote.version.as_str())));
    versions.sort_by_cached_key(|(priority, version)| std::cmp::Reverse((*priority, version_order(version))));
    versions.into_iter().map(|(_, version)| version).collect()
}

fn group(view: View<'_>, name: &str) -> Value {
    let versions: Vec<Value> = versions(view, name, is_available)
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
    if let Some(stored_in) = served.stored_in {
        resource["storageVersionHash"] = json!(storage_version_hash(stored_in, served.kind));
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

/// Changes when objects come to be stored in another version. Computed as upstream does: some who migrate stored objects compare.
fn storage_version_hash(stored_in: (&str, &str), kind: &str) -> String {
    let (group, version) = stored_in;
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    BASE64_STANDARD.encode(digest.get(..8).unwrap_or(&digest))
}
