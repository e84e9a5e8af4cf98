//! OpenAPI: what kubectl validates against, explains from, and looks at to learn what the server can do.
//!
//! A document holds the definitions of its kinds and whatever these refer to, rendered from the very schemas that the
//! registry decodes with, and the operations on them.

mod operations;
mod paths;

use std::collections::BTreeMap;

use api::descriptions::Descriptions;
use api::schemas::builtin;
use apimachinery::gvk::GroupVersionKind;
use apimachinery::schema::{OpenApi, Ref};
use registry::{Kind, Kinds};
use serde_json::{Map, Value, json};

use super::legacy::{local_group_names, local_versions};
use super::{View, hash};
use crate::review::{REVIEWS, Review};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
const RESOURCES: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
/// What every document refers to.
const EVERYWHERE: [&str; 6] = [OBJECT_META, LIST_META, DELETE_OPTIONS, STATUS, WATCH_EVENT, RESOURCES];
/// A kind whose words for what all objects have are given to custom kinds.
const ANY_KIND: &str = "io.k8s.api.core.v1.ConfigMap";
const GVK: &str = "x-kubernetes-group-version-kind";

/// The one document of OpenAPI v2: what this server serves, and what others do. Of two definitions of the same name ours
/// counts.
pub(super) fn v2(view: View<'_>) -> Value {
    let own = |kind: &&Kind| view.table.remote(&kind.group, &kind.version).is_none();
    let all: Vec<&Kind> = view.kinds.all().iter().map(|kind| &**kind).filter(own).collect();
    let reviews: Vec<&Review> = REVIEWS.iter().collect();
    let mut paths = paths::render(&all, &reviews, OpenApi::V2);
    let mut definitions = definitions(&all, &reviews, OpenApi::V2);
    for remote in view.table.all() {
        let part = remote.fetched.as_ref().and_then(|fetched| fetched.openapi_v2.as_ref());
        // It was written by this server.
        let Some(Ok(mut part)) = part.map(|part| serde_json::from_slice::<Value>(part)) else { continue };
        for (field, into) in [("paths", &mut paths), ("definitions", &mut definitions)] {
            if let Value::Object(map) = part[field].take() {
                for (name, value) in map {
                    into.entry(name).or_insert(value);
                }
            }
        }
    }
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
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

/// Where there are documents of OpenAPI v3 that this server renders.
pub(super) fn paths(view: View<'_>) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for group in std::iter::once("").chain(local_group_names(view.kinds)) {
        let own = |version: &&str| view.table.remote(group, version).is_none();
        for version in local_versions(view.kinds, group).into_iter().filter(own) {
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

/// The name of the definition of a kind's lists.
fn list_name(kind: &Kind) -> String {
    let definition = definition_name(kind);
    let package = definition.rsplit_once('.').map_or("", |(package, _)| package);
    format!("{package}.{}", kind.list_kind)
}

/// The definition of what a subresource takes and gives, if it is one of ours.
fn subresource_body(group: &str, version: &str, kind: &str) -> Option<String> {
    let gvk = GroupVersionKind::new(group.to_owned(), version.to_owned(), kind.to_owned());
    builtin().definition_name(&gvk).map(str::to_owned)
}

/// A group version in the names of operations.
struct Names {
    /// `RbacAuthorizationV1`.
    joined: String,
    /// `rbacAuthorization_v1`.
    tag: String,
}

fn names_of(group: &str, version: &str) -> Names {
    let group = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
    let capital = |word: &str| {
        let mut characters = word.chars();
        let first = characters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(characters).collect::<String>()
    };
    let words: Vec<&str> = group.split(['.', '-']).collect();
    let joined: String = words.iter().map(|word| capital(word)).collect();
    let rest: String = words.iter().skip(1).map(|word| capital(word)).collect();
    let tag = format!("{}{rest}_{version}", words.first().copied().unwrap_or_default());
    Names { joined: joined + &capital(version), tag }
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
    let said = Descriptions::unpack();
    let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
    let mut roots: Vec<String> = reviews.iter().map(|review| review_name(review)).collect();
    roots.extend(EVERYWHERE.map(str::to_owned));
    for kind in kinds {
        let name = definition_name(kind);
        definitions.insert(list_name(kind), list(kind, &name, dialect, &said));
        if kind.custom {
            definitions.insert(name, custom(kind, dialect, &said));
        } else {
            roots.push(name);
        }
        for subresource in &kind.subresources {
            let own = (kind.group.as_str(), kind.version.as_str());
            let (group, version) = subresource.group_version.unwrap_or(own);
            roots.extend(subresource_body(group, version, &subresource.kind));
        }
    }
    for name in builtin().closure(roots.iter().map(String::as_str)) {
        if let Some(definition) = builtin().openapi(name, dialect, &said) {
            definitions.insert(name.to_owned(), definition);
        }
    }
    definitions.into_iter().collect()
}

/// A reference with words of its own.
fn described(name: &str, said: &str, dialect: OpenApi) -> Value {
    match dialect {
        OpenApi::V2 => json!({"$ref": format!("{}{name}", prefix(dialect)), "description": said}),
        OpenApi::V3 => json!({"allOf": [reference(name, dialect)], "description": said}),
    }
}

/// The words for what every object has: apiVersion, kind and metadata.
fn of_every_object<'a>(said: &'a Descriptions, field: &str) -> std::borrow::Cow<'a, str> {
    said.of(ANY_KIND).fields.remove(field).unwrap_or_default()
}

/// A list of objects of a kind.
fn list(kind: &Kind, of: &str, dialect: OpenApi, said: &Descriptions) -> Value {
    let text = |field: &str| json!({"type": "string", "description": of_every_object(said, field)});
    json!({
        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("apiVersion"),
            "kind": text("kind"),
            "metadata": described(LIST_META, "Standard list metadata.", dialect),
            "items": {
                "type": "array",
                "description": format!("List of {}.", kind.plural),
                "items": reference(of, dialect),
            },
        },
        GVK: [{"group": kind.group, "version": kind.version, "kind": kind.list_kind}],
    })
}

/// A custom kind's schema with what every object has and a CustomResourceDefinition need not say.
fn custom(kind: &Kind, dialect: OpenApi, said: &Descriptions) -> Value {
    let mut definition = match &kind.schema {
        Some(schema) => schema.get().to_openapi(dialect),
        None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
    };
    for field in ["apiVersion", "kind"] {
        definition["properties"][field] =
            json!({"type": "string", "description": of_every_object(said, field)});
    }
    definition["properties"]["metadata"] =
        described(OBJECT_META, &of_every_object(said, "metadata"), dialect);
    definition[GVK] = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
    definition
}
