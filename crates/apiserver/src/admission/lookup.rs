//! What admission sees of other objects and of kinds: the registry.

use admission::{Form, Lookup, NamespacePhase, Place};
use apimachinery::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
use apimachinery::meta;
use apimachinery::status::Status;
use async_trait::async_trait;
use registry::{Kind, ListOptions, Part, Registry};
use serde_json::Value;

use super::kind_at;

/// Other objects, from the registry's cache.
pub(super) struct Objects<'a>(pub(super) &'a Registry);

impl Objects<'_> {
    async fn listed(
        &self,
        resource: &GroupResource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Vec<Value>, Status> {
        let kinds = self.0.kinds();
        let versions = kinds.versions_of(&resource.group, &resource.resource);
        let Some(kind) = versions.iter().find(|kind| kind.storage).or(versions.first()) else {
            return Ok(Vec::new());
        };
        let list = self.0.list(kind, namespace, options).await?;
        Ok(list.objects().map(|object| object.tree()).collect())
    }
}

#[async_trait]
impl Lookup for Objects<'_> {
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        let kinds = self.0.kinds();
        let versions = kinds.versions_of(&resource.group, &resource.resource);
        let Some(kind) = versions.iter().find(|kind| kind.storage).or(versions.first()) else {
            return Ok(None);
        };
        match self.0.get(kind, namespace, name, Part::Whole).await {
            Ok(object) => Ok(Some(object.tree())),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn list(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        self.listed(resource, namespace, &ListOptions::default()).await
    }

    async fn known(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        let any = ListOptions { resource_version: "0".into(), ..ListOptions::default() };
        self.listed(resource, namespace, &any).await
    }

    async fn replace_status(&self, resource: &GroupResource, object: Value) -> Result<bool, Status> {
        let kinds = self.0.kinds();
        let versions = kinds.versions_of(&resource.group, &resource.resource);
        let Some(kind) = versions.iter().find(|kind| kind.storage) else { return Ok(false) };
        let (namespace, name) = (meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
        match self.0.update_own(kind, &namespace, &name, Part::Status, object).await {
            Ok(_) => Ok(true),
            Err(status) if status.is_conflict() || status.is_not_found() => Ok(false),
            Err(status) => Err(status),
        }
    }

    async fn namespace_phase(&self, name: &str) -> Result<Option<NamespacePhase>, Status> {
        let kinds = self.0.kinds();
        let Some(kind) = kinds.lookup("", "v1", "namespaces") else { return Ok(None) };
        Ok(self.0.field(kind, "", name, "status.phase").map(|phase| {
            if phase == "Terminating" { NamespacePhase::Terminating } else { NamespacePhase::Active }
        }))
    }

    async fn namespace(&self, name: &str) -> Result<Option<Value>, Status> {
        let kinds = self.0.kinds();
        let known = kinds.lookup("", "v1", "namespaces").and_then(|kind| self.0.known(kind, "", name));
        match known {
            Some(object) => Ok(Some(object.tree())),
            // It may have come a moment ago.
            None => self.get(&GroupResource::of("", "namespaces"), "", name).await,
        }
    }

    fn equivalents(&self, resource: &GroupResource, version: &str, subresource: &str) -> Vec<Form> {
        let kinds = self.0.kinds();
        let Some(kind) = kinds.lookup(&resource.group, version, &resource.resource) else {
            return Vec::new();
        };
        let others = kinds.equivalents(kind);
        let serving =
            others.filter(|other| subresource.is_empty() || other.subresource(subresource).is_some());
        serving.map(|other| form_of(other, subresource)).collect()
    }

    fn place_of(&self, kind: &GroupVersionKind) -> Option<Place> {
        let kinds = self.0.kinds();
        let found = kinds.by_kind(&kind.group, &kind.version, &kind.kind)?;
        Some(Place { form: form_of(found, ""), namespaced: found.namespaced })
    }

    async fn convert(&self, object: Value, to: &Form) -> Result<Value, Status> {
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let from = GroupVersionKind::parse(&text("apiVersion"), &text("kind"));
        let from = from.map_err(Status::internal_error)?;
        if from == to.kind {
            // A subresource that is the same in every version.
            return Ok(object);
        }
        let kinds = self.0.kinds();
        let find = |gvk: &GroupVersionKind| kinds.by_kind(&gvk.group, &gvk.version, &gvk.kind);
        match (find(&from), find(&to.kind)) {
            (Some(from), Some(to)) => from.in_form(object, to).await,
            _ => Err(Status::internal_error(format!("unable to convert to {}: unknown kind", to.kind))),
        }
    }

    fn conform(&self, kind: &GroupVersionKind, object: &mut Value) -> Result<(), Status> {
        self.0.kinds().conform(kind, object)
    }
}

fn form_of(kind: &Kind, subresource: &str) -> Form {
    let resource = GroupVersionResource::new(kind.group.clone(), kind.version.clone(), kind.plural.clone());
    Form { resource, kind: kind_at(kind, subresource).into_owned() }
}
