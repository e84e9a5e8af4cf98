//! From a definition to the kinds that it brings.

use std::sync::Arc;

use apimachinery::field::Path;
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::schema::{Ref, Schema};
use serde_json::Value;

use super::JsonPath;
use super::columns;
use super::conversion::Webhook;
use super::rules::RuleSet;
use super::strategy::Custom;
use crate::builtin::VERBS;
use crate::cache::Field;
use crate::kind::api_version;
use crate::resource::Resource;
use crate::strategy::{Generation, Rules, Scale};
use crate::tree::{at, is_true, items, text};
use crate::{Head, Kind, Limits, convert, table};

/// Verbs of a kind whose definition is being deleted: nothing new comes.
const TERMINATING_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Storage for the objects of a definition.
pub(super) fn resource_of(crd: &Value, limits: Limits) -> Resource {
    let spec = &crd["spec"];
    let name =
        GroupResource::new(text(spec, &["group"]).to_owned(), text(spec, &["names", "plural"]).to_owned());
    let namespaced = text(spec, &["scope"]) == "Namespaced";
    Resource::new(name, text(spec, &["names", "kind"]), namespaced, selectable(crd), limits)
}

/// The selectable fields of all versions: objects are extracted once.
fn selectable(crd: &Value) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for version in items(crd, &["spec", "versions"]) {
        for field in items(version, &["selectableFields"]) {
            let Ok(path) = JsonPath::parse(text(field, &["jsonPath"])) else { continue };
            let Some(names) = path.fields() else { continue };
            let name = names.join(".");
            if fields.iter().all(|known| known.name != name) {
                fields.push(Field { name, aliases: Vec::new(), paths: vec![names], default: "" });
            }
        }
    }
    fields
}

/// Whether the resource that was made of an earlier form of the definition still serves.
pub(super) fn fits(resource: &Resource, crd: &Value) -> bool {
    let names = |fields: &[Field]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
    resource.namespaced == (text(crd, &["spec", "scope"]) == "Namespaced")
        && *resource.kind.kind == *text(crd, &["spec", "names", "kind"])
        && names(&resource.fields) == names(&selectable(crd))
}

/// A definition's versions as kinds.
pub(super) struct Versions {
    /// The one that objects are stored in, whether it is served or not.
    pub(super) stored: Option<Arc<Kind>>,
    pub(super) served: Vec<Arc<Kind>>,
}

pub(super) fn versions_of(
    crd: &Value,
    resource: &Arc<Resource>,
    webhook: Option<&Arc<Webhook>>,
    terminating: bool,
) -> Versions {
    let versions = items(crd, &["spec", "versions"]);
    let mut made = Versions { stored: None, served: Vec::new() };
    for (index, version) in versions.iter().enumerate() {
        let slot =
            if is_true(version, &["storage"]) { 0 } else { u16::try_from(index + 1).unwrap_or(u16::MAX) };
        let others = others_of(crd, version, webhook);
        let kind = Arc::new(kind_of(crd, version, resource, Shape { others, slot, terminating }));
        if is_true(version, &["served"]) {
            made.served.push(kind.clone());
        }
        if kind.storage {
            made.stored = Some(kind);
        }
    }
    made
}

/// The schema of a version as it is written.
fn written(version: &Value) -> Option<&Value> {
    at(version, &["schema", "openAPIV3Schema"])
}

/// What a version makes of objects of the others.
fn others_of(crd: &Value, version: &Value, webhook: Option<&Arc<Webhook>>) -> convert::Versions {
    let versions = items(crd, &["spec", "versions"]);
    let group = text(crd, &["spec", "group"]);
    let named = |version: &Value| api_version(group, text(version, &["name"]));
    let own = written(version);
    let storage = versions.iter().find(|version| is_true(version, &["storage"]));
    let is_alike = |other: &&Value| match webhook {
        Some(_) => other["name"] == version["name"],
        None => written(other) == own,
    };
    convert::Versions {
        storage: storage.map(named).unwrap_or_default(),
        storage_schema: storage.and_then(schema_of),
        alike: versions.iter().filter(is_alike).map(named).collect(),
        webhook: webhook.cloned(),
    }
}

struct Shape {
    others: convert::Versions,
    slot: u16,
    terminating: bool,
}

fn kind_of(crd: &Value, version: &Value, resource: &Arc<Resource>, shape: Shape) -> Kind {
    let spec = &crd["spec"];
    let names = &spec["names"];
    let of = |field: &str| text(names, &[field]).to_owned();
    let list =
        |field: &str| items(names, &[field]).iter().filter_map(Value::as_str).map(String::from).collect();
    let (group, name) = (text(spec, &["group"]).to_owned(), text(version, &["name"]).to_owned());
    let (kind, list_kind) = (of("kind"), of("listKind"));
    let schema = schema_of(version);
    let rules = at(version, &["schema", "openAPIV3Schema"]).and_then(RuleSet::of);
    let (columns, printers) = columns::of_version(version);
    let status = at(version, &["subresources", "status"]).is_some();
    let scale = at(version, &["subresources", "scale"]).and_then(scale_of);
    let mut subresources = Vec::new();
    if scale.is_some() {
        subresources.push(table::scale());
    }
    if status {
        subresources.push(table::status(&kind));
    }
    let own = api_version(&group, &name);
    Kind {
        gvk: GroupVersionKind::new(group.clone(), name.clone(), kind.clone()),
        head: Head::new(&own, &kind),
        list_head: Head::new(&own, &list_kind),
        singular: of("singular"),
        plural: of("plural"),
        short_names: list("shortNames"),
        categories: list("categories"),
        namespaced: resource.namespaced,
        verbs: if shape.terminating { TERMINATING_VERBS } else { VERBS },
        subresources,
        custom: true,
        storage: shape.slot == 0,
        deprecation: deprecation(version, &own, &kind),
        columns,
        rules: Rules {
            generation: Generation::AllButMetadata,
            status,
            status_metadata: false,
            create_on_update: false,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        scale,
        resource: resource.clone(),
        slot: shape.slot,
        // Each generation of a definition may have other schemas or another webhook.
        shape: apimachinery::meta::generation(crd).unsigned_abs() << 16 | u64::from(shape.slot),
        versions: Some(shape.others),
        strategy: Arc::new(Custom { schema: schema.clone(), rules, printers }),
        schema,
        group,
        version: name,
        kind,
        list_kind,
    }
}

fn schema_of(version: &Value) -> Option<Ref> {
    let schema = at(version, &["schema", "openAPIV3Schema"])?;
    // Checked when the definition was written.
    Schema::from_crd(schema, api::schemas::builtin().object_meta(), &Path::empty()).ok().map(Ref::from)
}

fn scale_of(scale: &Value) -> Option<Scale> {
    let path = |field: &str| JsonPath::parse(text(scale, &[field])).ok().and_then(|path| path.fields());
    let selector = Some(text(scale, &["labelSelectorPath"])).filter(|path| !path.is_empty());
    Some(Scale {
        spec_replicas: path("specReplicasPath")?,
        status_replicas: path("statusReplicasPath")?,
        selector: selector.and_then(|_| path("labelSelectorPath")),
    })
}

fn deprecation(version: &Value, api_version: &str, kind: &str) -> Option<String> {
    is_true(version, &["deprecated"]).then(|| match text(version, &["deprecationWarning"]) {
        "" => format!("{api_version} {kind} is deprecated"),
        warning => warning.to_owned(),
    })
}
