//! `cargo xtask paths`: what Kubernetes serves, as a compact table: a line a resource or subresource of the stable versions,
//! with its kind, its scope and its verbs.
//!
//! The knowledge comes from upstream's published Python client, which is generated from the API server's own description: each
//! of its functions names one path and one method. Only names are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::wheel;

const PACKAGE: &str = "kubernetes==36.0.3";
const MODULES: &str = "kubernetes/client/api";
const TABLE: &str = "contracts/kubernetes/v1.36.txt";

/// Writes the table, or with `check` fails if the committed one differs.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let folder = wheel::unpacked(root, "paths", PACKAGE, MODULES)?.join(MODULES);
    let mut operations = Vec::new();
    for entry in std::fs::read_dir(&folder).context("reading the client's modules")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // This one takes any group for an argument.
        if name.ends_with("_api.py") && name != "custom_objects_api.py" {
            operations.extend(operations_of(&std::fs::read_to_string(&path)?));
        }
    }
    let table = render(&operations);
    ensure!(table.lines().count() > 100, "the client's modules are not of the form that is expected");
    let path = root.join(TABLE);
    if check {
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        ensure!(committed == table, "{TABLE} is not what `cargo xtask paths` makes");
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(&path, table).with_context(|| format!("writing {}", path.display()))
}

/// A function of the client: a path, a method, and the type of the answer.
#[derive(Debug, PartialEq)]
struct Operation {
    path: String,
    method: String,
    answer: String,
}

fn operations_of(module: &str) -> Vec<Operation> {
    // Each function ends in the types of its answers by code, and the call.
    let functions = module.split("response_types_map = {").skip(1);
    let operation = |function: &str| {
        let (types, call) = function.split_once("call_api(")?;
        let answer = types.split("20").nth(1).and_then(|rest| rest.split('"').nth(1)).unwrap_or_default();
        let mut quoted = call.split('\'').skip(1).step_by(2);
        Some(Operation {
            path: quoted.next()?.to_owned(),
            method: quoted.next()?.to_owned(),
            answer: answer.to_owned(),
        })
    };
    functions.filter_map(operation).collect()
}

/// Where an operation belongs, and the verb that discovery has for it.
#[derive(Debug, PartialEq)]
struct Place {
    group_version: String,
    resource: String,
    namespaced: bool,
    verb: &'static str,
}

/// `None` for what is no resource of a stable version.
fn place(operation: &Operation) -> Option<Place> {
    let parts: Vec<&str> = operation.path.trim_matches('/').split('/').collect();
    let (group_version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => (version.to_owned(), rest),
        ["apis", group, version, ref rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return None,
    };
    let version = group_version.rsplit('/').next().unwrap_or_default();
    let is_stable =
        version.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let (namespaced, rest) = match *rest {
        ["namespaces", "{namespace}", ref rest @ ..] => (true, rest),
        _ => (false, rest),
    };
    let (resource, of_collection) = match *rest {
        [resource] => (resource.to_owned(), true),
        [resource, "{name}"] => (resource.to_owned(), false),
        [resource, "{name}", subresource] => (format!("{resource}/{subresource}"), false),
        // What follows a proxy's name is not the API's.
        _ => return None,
    };
    let verb = match (operation.method.as_str(), of_collection) {
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        _ => return None,
    };
    is_stable.then_some(Place { group_version, resource, namespaced, verb })
}

/// The kind in the name of a type of the client: `V1Pod`, `EventsV1Event`.
fn kind(answer: &str) -> &str {
    let digits = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let version = answer.match_indices('V').find(|(at, _)| digits(&answer[at + 1..]));
    version.map_or("", |(at, _)| answer[at + 1..].trim_start_matches(|first: char| first.is_ascii_digit()))
}

#[derive(Default)]
struct Row {
    kind: String,
    namespaced: bool,
    verbs: BTreeSet<&'static str>,
}

fn render(operations: &[Operation]) -> String {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for operation in operations {
        let Some(place) = place(operation) else { continue };
        let row = rows.entry((place.group_version, place.resource)).or_default();
        row.namespaced |= place.namespaced;
        row.verbs.insert(place.verb);
        // A list's type is the list's, and a deletion may answer with a Status.
        if matches!(place.verb, "get" | "update") || row.kind.is_empty() && place.verb == "create" {
            row.kind = kind(&operation.answer).to_owned();
        }
    }
    let mut table = String::from(
        "# Made by `cargo xtask paths`; do not edit. Group and version, resource, kind, scope, verbs.\n",
    );
    for ((group_version, resource), mut row) in rows {
        // A parameter of the list, not a path: what can be created can be watched.
        if row.verbs.contains("list") && row.verbs.contains("create") {
            row.verbs.insert("watch");
        }
        let kind = if row.kind.is_empty() { "-" } else { &row.kind };
        let scope = if row.namespaced { "namespaced" } else { "cluster" };
        let verbs: Vec<&str> = row.verbs.into_iter().collect();
        table.push_str(&format!("{group_version} {resource} {kind} {scope} {}\n", verbs.join(",")));
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn at(path: &str, method: &str) -> Option<(String, String, bool, &'static str)> {
        let operation = Operation { path: path.into(), method: method.into(), answer: String::new() };
        place(&operation).map(|place| (place.group_version, place.resource, place.namespaced, place.verb))
    }

    #[test]
    fn functions_of_the_client_are_read() {
        let module = "x\n response_types_map = {\n 200: \"V1Pod\",\n 201: \"V1Pod\",\n 401: None,\n }\n\n return \
                      self.api_client.call_api(\n '/api/v1/namespaces/{namespace}/pods', 'POST',\n path_params,\n";
        let read = operations_of(module);
        assert_eq!((&*read[0].path, &*read[0].method), ("/api/v1/namespaces/{namespace}/pods", "POST"));
        assert_eq!((read.len(), kind(&read[0].answer)), (1, "Pod"));
        assert_eq!(
            [kind("EventsV1Event"), kind("V2HorizontalPodAutoscaler"), kind("str")],
            ["Event", "HorizontalPodAutoscaler", ""]
        );
    }

    #[test]
    fn paths_have_a_place() {
        let of =
            |resource: &str, namespaced, verb| Some(("v1".to_owned(), resource.to_owned(), namespaced, verb));
        assert_eq!(at("/api/v1/pods", "GET"), of("pods", false, "list"));
        assert_eq!(at("/api/v1/namespaces/{namespace}/pods/{name}/log", "GET"), of("pods/log", true, "get"));
        assert_eq!(at("/api/v1/namespaces/{name}", "DELETE"), of("namespaces", false, "delete"));
        assert_eq!(at("/api/v1/namespaces/{name}/status", "PUT"), of("namespaces/status", false, "update"));
        let none = [
            ("/apis/batch/v1beta1/jobs", "GET"),
            ("/apis/batch/", "GET"),
            ("/version/", "GET"),
            ("/api/v1/nodes/{name}/proxy/{path}", "GET"),
            ("/api/v1/nodes/{name}/proxy", "HEAD"),
        ];
        assert!(none.iter().all(|(path, method)| at(path, method).is_none()));
    }
}
