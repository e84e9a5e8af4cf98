//! OpenAPI: what kubectl validates against, explains from, and looks at to learn what the server can do.
//!
//! A document holds the definitions of its kinds and whatever these refer to, rendered from the very schemas that the
//! registry decodes with, and the operations on them.

mod paths;

use std::collections::BTreeMap;

use api::schemas::builtin;
use apimachinery::schema::{OpenApi, Ref};
use registry::{Kind, Kinds};
use serde_json::{Map, Value, json};

use super::hash;
use super::legacy::group_names;
use crate::review::{REVIEWS, Review};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const GVK: &str = "x-kubernetes-group-version-kind";

/// The one document of OpenAPI v2.
pub(super) fn v2(kinds: &Kinds) -> Value {
    let all: Vec<&Kind> = kinds.all().iter().map(|kind| &**kind).collect();
    let reviews: Vec<&Review> = REVIEWS.iter().collect();
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths::render(&all, &reviews, OpenApi::V2),
        "definitions": definitions(&all, &reviews, OpenApi::V2),
    })
}

/// The document of OpenAPI v3 for `api/v1` or `apis/GROUP/VERSION`; `None` where nothing is served there.
pub(super) fn v3(kinds: &Kinds, path: &str) -> Option<Value> {
    let (group, version) = group_version(path)?;
    let served: Vec<&Kind> = kinds.in_version(group, version).map(|kind| &**kind).collect();
    let answered = |review: &&Review| review.group == group && review.version == version;
    let reviews: Vec<&Review> = REVIEWS.iter().filter(answered).collect();
    if served.is_empty() && reviews.is_empty() {
        return None;
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths::render(&served, &reviews, OpenApi::V3),
        "components": {"schemas": definitions(&served, &reviews, OpenApi::V3)},
    }))
}

/// Where there are documents of OpenAPI v3.
pub(super) fn paths(kinds: &Kinds) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for group in std::iter::once("").chain(group_names(kinds)) {
        for version in super::legacy::versions(kinds, group) {
            paths.push(if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            });
        }
    }
    paths
}

/// What identifies the content of a document of OpenAPI v3 without rendering it: it follows from this build and, for
/// custom kinds, from their schemas.
pub(super) fn identity(kinds: &Kinds, path: &str) -> String {
    let mut content = format!("{} {path}", env!("CARGO_PKG_VERSION"));
    let (group, version) = group_version(path).unwrap_or_default();
    for kind in kinds.in_version(group, version) {
        content.push_str(&format!("\n{} {:?}", kind.plural, kind.subresources));
        if let Some(schema) = kind.schema.as_ref().filter(|_| kind.custom) {
            content.push_str(&schema.get().to_openapi(OpenApi::V3).to_string());
        }
    }
    hash(content.as_bytes())
}

fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.strip_prefix("apis/") {
        Some(rest) => rest.split_once('/'),
        None => path.strip_prefix("api/").map(|version| ("", version)),
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": concat!("v1.36.0+monoplane.", env!("CARGO_PKG_VERSION"))})
}

/// The name of a kind's definition.
fn definition_name(kind: &Kind) -> String {
    match kind.schema.as_ref().and_then(Ref::name) {
        Some(name) => name.to_owned(),
        // As upstream names those of custom kinds: the group backwards.
        None => {
            let group: Vec<&str> = kind.group.split('.').rev().collect();
            format!("{}.{}.{}", group.join("."), kind.version, kind.kind)
        }
    }
}

fn review_name(review: &Review) -> String {
    let group = if review.group.is_empty() { "core" } else { review.group.trim_end_matches(".k8s.io") };
    format!("io.k8s.api.{group}.{}.{}", review.version, review.kind)
}

fn reference(name: &str, dialect: OpenApi) -> Value {
    json!({"$ref": format!("{}{name}", prefix(dialect))})
}

fn prefix(dialect: OpenApi) -> &'static str {
    match dialect {
        OpenApi::V2 => "#/definitions/",
        OpenApi::V3 => "#/components/schemas/",
    }
}

/// The definitions of these kinds and of all that they refer to.
fn definitions(kinds: &[&Kind], reviews: &[&Review], dialect: OpenApi) -> Map<String, Value> {
    let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
    let mut roots: Vec<String> = reviews.iter().map(|review| review_name(review)).collect();
    roots.push(OBJECT_META.to_owned());
    for kind in kinds {
        let name = definition_name(kind);
        if kind.custom {
            definitions.insert(name, custom(kind, dialect));
        } else {
            roots.push(name);
        }
    }
    for name in builtin().closure(roots.iter().map(String::as_str)) {
        if let Some(definition) = builtin().openapi(name, dialect) {
            definitions.insert(name.to_owned(), definition);
        }
    }
    definitions.into_iter().collect()
}

/// A custom kind's schema with what every object has and a CustomResourceDefinition need not say.
fn custom(kind: &Kind, dialect: OpenApi) -> Value {
    let mut definition = match &kind.schema {
        Some(schema) => schema.get().to_openapi(dialect),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    for field in ["apiVersion", "kind"] {
        if definition["properties"].get(field).is_none() {
            definition["properties"][field] = json!({"type": "string"});
        }
    }
    definition["properties"]["metadata"] = match dialect {
        OpenApi::V2 => reference(OBJECT_META, dialect),
        OpenApi::V3 => json!({"allOf": [reference(OBJECT_META, dialect)]}),
    };
    definition[GVK] = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
    definition
}
