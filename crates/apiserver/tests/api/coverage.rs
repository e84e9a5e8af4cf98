//! What upstream serves and what we do, resource by resource and verb by verb; and the part of docs/kubernetes.md that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

/// Upstream's resources; made by `cargo xtask paths`.
pub const UPSTREAM: &str = include_str!("../../../../contracts/kubernetes/v1.36.txt");
/// The form of discovery that says everything at once.
pub const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// What a stored kind can be asked for.
const ALL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// What is served of a resource or subresource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub kind: String,
    pub namespaced: bool,
    pub verbs: BTreeSet<String>,
}

/// By group and version, and resource (`pods`, `pods/log`).
pub type Resources = BTreeMap<(String, String), Served>;

/// Reads the table.
pub fn upstream() -> Resources {
    let lines = UPSTREAM.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &str| {
        let [group_version, resource, kind, scope, verbs] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("not a line of the table: {line}")
        };
        let verbs = verbs.split(',').map(str::to_owned).collect();
        let served = Served { kind: kind.to_owned(), namespaced: scope == "namespaced", verbs };
        ((group_version.to_owned(), resource.to_owned()), served)
    };
    lines.map(row).collect()
}

/// Reads aggregated discovery: that of `/api` and that of `/apis`.
pub fn discovered(documents: &[Value]) -> Resources {
    let mut found = Resources::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for group in documents.iter().flat_map(|document| list(&document["items"])) {
        for version in list(&group["versions"]) {
            let name = text(&group["metadata"]["name"]);
            let slash = if name.is_empty() { "" } else { "/" };
            let group_version = format!("{name}{slash}{}", text(&version["version"]));
            for resource in list(&version["resources"]) {
                let namespaced = resource["scope"] == "Namespaced";
                let mut add = |name: String, of: &Value| {
                    let verbs = list(&of["verbs"]).iter().map(text).collect();
                    let served = Served { kind: text(&of["responseKind"]["kind"]), namespaced, verbs };
                    found.insert((group_version.clone(), name), served);
                };
                let plural = text(&resource["resource"]);
                add(plural.clone(), &resource);
                for subresource in list(&resource["subresources"]) {
                    add(format!("{plural}/{}", text(&subresource["subresource"])), &subresource);
                }
            }
        }
    }
    found
}

/// What is upstream's and not ours, in words; the other way around with `theirs` and `ours` exchanged.
pub fn lacking(theirs: &Resources, ours: &Resources) -> Vec<String> {
    let mut lacking = Vec::new();
    for ((group_version, resource), wanted) in theirs {
        let place = format!("{group_version} {resource}");
        match ours.get(&(group_version.clone(), resource.clone())) {
            None => lacking.push(place),
            Some(found) => {
                let missing = wanted.verbs.difference(&found.verbs);
                lacking.extend(missing.map(|verb| format!("{place}: {verb}")));
                if found.namespaced != wanted.namespaced {
                    lacking.push(format!("{place}: scope"));
                }
            }
        }
    }
    lacking
}

/// The section: a row a kind.
pub fn section(theirs: &Resources, ours: &Resources) -> String {
    let mut text = String::from("| group | kind | verbs and subresources | lacking |\n|---|---|---|---|\n");
    for ((group_version, resource), served) in theirs.iter().filter(|((_, name), _)| !name.contains('/')) {
        let mut said = vec![verbs(&served.verbs)];
        let mut missing = Vec::new();
        let own = ours.get(&(group_version.clone(), resource.clone()));
        match own {
            None => missing.push("all of it".to_owned()),
            Some(own) => missing.extend(served.verbs.difference(&own.verbs).cloned()),
        }
        let prefix = format!("{resource}/");
        let parts = theirs.iter().filter(|((of, name), _)| of == group_version && name.starts_with(&prefix));
        for ((_, name), part) in parts {
            let short = name.trim_start_matches(&prefix);
            said.push(format!("`{short}`: {}", verbs(&part.verbs)));
            let found = ours.get(&(group_version.clone(), name.clone()));
            let known = found.map(|found| found.verbs.clone()).unwrap_or_default();
            let lost: BTreeSet<String> = part.verbs.difference(&known).cloned().collect();
            if own.is_some() && !lost.is_empty() {
                missing.push(format!("`{short}`: {}", verbs(&lost)));
            }
        }
        let kind = &served.kind;
        let missing = missing.join("; ");
        let _ =
            writeln!(text, "| {group_version} | {kind} (`{resource}`) | {} | {missing} |", said.join("; "));
    }
    text
}

fn verbs(verbs: &BTreeSet<String>) -> String {
    if verbs.iter().eq(ALL.iter()) {
        return "all".to_owned();
    }
    verbs.iter().cloned().collect::<Vec<_>>().join(" ")
}
