//! The operations on kinds, with the parameters that clients look for.

use apimachinery::schema::OpenApi;
use registry::Kind;
use serde_json::{Map, Value, json};

use super::{GVK, definition_name, reference, review_name};
use crate::review::Review;

const WRITE: [(&str, &str); 4] =
    [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("pretty", "string")];
const PATCH: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];
const LIST: [(&str, &str); 9] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// One operation: its verb in discovery, its HTTP method, upstream's name for it, and its parameters.
struct Verb {
    verb: &'static str,
    method: &'static str,
    action: &'static str,
    of_collection: bool,
    parameters: &'static [(&'static str, &'static str)],
}

const fn verb(
    verb: &'static str,
    method: &'static str,
    action: &'static str,
    of_collection: bool,
    parameters: &'static [(&'static str, &'static str)],
) -> Verb {
    Verb { verb, method, action, of_collection, parameters }
}

const VERBS: [Verb; 7] = [
    verb("list", "get", "list", true, &LIST),
    verb("create", "post", "post", true, &WRITE),
    verb("deletecollection", "delete", "deletecollection", true, &DELETE),
    verb("get", "get", "get", false, &[("pretty", "string")]),
    verb("update", "put", "put", false, &WRITE),
    verb("patch", "patch", "patch", false, &PATCH),
    verb("delete", "delete", "delete", false, &DELETE),
];

pub(super) fn render(kinds: &[&Kind], reviews: &[&Review], dialect: OpenApi) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in kinds {
        let collection = collection_path(&kind.group, &kind.version, kind.namespaced, &kind.plural);
        let gvk = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let body = reference(&definition_name(kind), dialect);
        let operation = Operation { kind: &kind.kind, gvk, body, dialect, strategic: !kind.custom };
        add(&mut paths, &collection, kind.namespaced, true, |verb| kind.verbs.contains(verb), &operation);
        let item = format!("{collection}/{{name}}");
        add(&mut paths, &item, kind.namespaced, false, |verb| kind.verbs.contains(verb), &operation);
        for subresource in &kind.subresources {
            let path = format!("{item}/{}", subresource.name);
            let own = (kind.group.as_str(), kind.version.as_str());
            let (group, version) = subresource.group_version.unwrap_or(own);
            let operation = Operation {
                kind: &format!("{}{}", kind.kind, capital(subresource.name)),
                gvk: json!({"group": group, "version": version, "kind": subresource.kind}),
                body: if subresource.kind == kind.kind {
                    operation.body.clone()
                } else {
                    json!({"type": "object"})
                },
                dialect,
                strategic: !kind.custom,
            };
            add(
                &mut paths,
                &path,
                kind.namespaced,
                false,
                |verb| subresource.verbs.contains(verb),
                &operation,
            );
        }
    }
    for review in reviews {
        let path = collection_path(review.group, review.version, review.namespaced, review.plural);
        let gvk = json!({"group": review.group, "version": review.version, "kind": review.kind});
        let body = reference(&review_name(review), dialect);
        let operation = Operation { kind: review.kind, gvk, body, dialect, strategic: false };
        add(&mut paths, &path, review.namespaced, true, |verb| *verb == "create", &operation);
    }
    paths
}

fn collection_path(group: &str, version: &str, namespaced: bool, plural: &str) -> String {
    let prefix =
        if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let namespace = if namespaced { "/namespaces/{namespace}" } else { "" };
    format!("{prefix}{namespace}/{plural}")
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

struct Operation<'a> {
    kind: &'a str,
    gvk: Value,
    body: Value,
    dialect: OpenApi,
    strategic: bool,
}

fn add(
    paths: &mut Map<String, Value>,
    path: &str,
    namespaced: bool,
    of_collection: bool,
    serves: impl Fn(&&str) -> bool,
    operation: &Operation<'_>,
) {
    let mut item = Map::new();
    for verb in VERBS.iter().filter(|verb| verb.of_collection == of_collection && serves(&verb.verb)) {
        item.insert(verb.method.into(), operation.render(verb, path));
    }
    if item.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if namespaced {
        parameters.push(operation.parameter("namespace", "path", "string"));
    }
    if !of_collection {
        parameters.push(operation.parameter("name", "path", "string"));
    }
    item.insert("parameters".into(), parameters.into());
    paths.insert(path.to_owned(), item.into());
}

impl Operation<'_> {
    fn parameter(&self, name: &str, place: &str, type_: &str) -> Value {
        let mut parameter = match self.dialect {
            OpenApi::V2 => json!({"name": name, "in": place, "type": type_}),
            OpenApi::V3 => json!({"name": name, "in": place, "schema": {"type": type_}}),
        };
        // In v2 a parameter of a path is required by definition, but must say so.
        if place == "path" {
            parameter["required"] = json!(true);
        }
        parameter
    }

    fn render(&self, verb: &Verb, path: &str) -> Value {
        let query = verb.parameters.iter();
        let mut parameters: Vec<Value> =
            query.map(|(name, type_)| self.parameter(name, "query", type_)).collect();
        let scope = if path.contains("{namespace}") { "Namespaced" } else { "" };
        let group = self.gvk["group"].as_str().unwrap_or_default().split('.').next().unwrap_or_default();
        let group = if group.is_empty() { "core" } else { group };
        let version = self.gvk["version"].as_str().unwrap_or_default();
        let id = format!("{}{}{}{scope}{}", verb.verb, capital(group), capital(version), self.kind);
        let mut operation = json!({
            "operationId": id,
            "x-kubernetes-action": verb.action,
            GVK: self.gvk,
        });
        let has_body = matches!(verb.method, "post" | "put" | "patch");
        let patches = if self.strategic { &PATCHES[..] } else { &PATCHES[..3] };
        let consumes =
            if verb.method == "patch" { patches } else { &["application/json", "application/yaml"][..] };
        // What a patch holds depends on its media type, so nothing is promised of it.
        let body = if verb.method == "patch" { json!({"type": "object"}) } else { self.body.clone() };
        match self.dialect {
            OpenApi::V2 => {
                if has_body {
                    parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": body}));
                    operation["consumes"] = json!(consumes);
                }
                operation["produces"] = json!(["application/json", "application/yaml"]);
                operation["responses"] = json!({"200": {"description": "OK", "schema": self.body}});
            }
            OpenApi::V3 => {
                let content = |types: &[&str], schema: &Value| -> Map<String, Value> {
                    types.iter().map(|each| ((*each).to_owned(), json!({"schema": schema}))).collect()
                };
                if has_body {
                    operation["requestBody"] = json!({"required": true, "content": content(consumes, &body)});
                }
                let answer = content(&["application/json", "application/yaml"], &self.body);
                operation["responses"] = json!({"200": {"description": "OK", "content": answer}});
            }
        }
        operation["parameters"] = parameters.into();
        operation
    }
}
