//! What plugins may ask about other objects.

use apimachinery::gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

/// How far a namespace's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespacePhase {
    /// It takes objects.
    Active,
    /// It is being deleted and takes no new ones.
    Terminating,
}

/// A version of a resource, and what its objects are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The resource.
    pub resource: GroupVersionResource,
    /// The kind; of the subresource, where it is asked for that.
    pub kind: GroupVersionKind,
}

impl Form {
    /// The resource, without the version.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.resource.group.clone(), resource: self.resource.resource.clone() }
    }
}

/// Where the objects of a kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind and its resource.
    pub form: Form,
    /// Whether they live in namespaces.
    pub namespaced: bool,
}

/// Other objects, as they are now, and the forms that objects have.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The object, or `None` if it does not exist. `namespace` is empty for cluster-scoped ones.
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status>;

    /// Every object of a resource in a namespace; in all, where `namespace` is empty.
    async fn list(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status>;

    /// The same as this server knows them, which may be a moment old; asks nobody. For what nearly every write looks at.
    async fn known(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        self.list(resource, namespace).await
    }

    /// Replaces the status of an object, unless it has changed since `object` was read: then nothing happens. Whether it was
    /// replaced.
    async fn replace_status(&self, resource: &GroupResource, object: Value) -> Result<bool, Status>;

    /// The namespace's phase, or `None` if it does not exist. Asked for nearly every write: worth a shortcut.
    async fn namespace_phase(&self, name: &str) -> Result<Option<NamespacePhase>, Status> {
        let found = self.get(&GroupResource::of("", "namespaces"), "", name).await?;
        Ok(found.map(|namespace| {
            let terminating = apimachinery::meta::is_deleting(&namespace);
            if terminating { NamespacePhase::Terminating } else { NamespacePhase::Active }
        }))
    }

    /// The namespace as an object, or `None` if it does not exist.
    async fn namespace(&self, name: &str) -> Result<Option<Value>, Status> {
        self.get(&GroupResource::of("", "namespaces"), "", name).await
    }

    /// The other forms under which the same objects are served, at that subresource.
    fn equivalents(&self, _resource: &GroupResource, _version: &str, _subresource: &str) -> Vec<Form> {
        Vec::new()
    }

    /// Where the objects of a kind are, if it is served.
    fn place_of(&self, _kind: &GroupVersionKind) -> Option<Place> {
        None
    }

    /// The object in another of its forms; as it is, if it has that already.
    async fn convert(&self, _object: Value, to: &Form) -> Result<Value, Status> {
        Err(Status::internal_error(format!("unable to convert to {}: unknown kind", to.kind)))
    }

    /// Brings what somebody made of an object back into the form of its kind: fields that it does not have go, what was left
    /// out is filled in. Fails where a field is of the wrong type.
    fn conform(&self, _kind: &GroupVersionKind, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }
}
