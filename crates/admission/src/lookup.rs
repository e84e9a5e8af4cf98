//! What plugins may ask about other objects.

use apimachinery::gvk::GroupResource;
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

/// Other objects, as they are now.
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
}
