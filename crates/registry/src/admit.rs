//! The narrow door through which admission enters a write.

use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::{Kind, Warnings};

/// What a write does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a created subresource such as a pod's binding.
    Create,
    /// A changed object; patches too.
    Update,
    /// A deleted object.
    Delete,
}

/// What admission is told about a write.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// What happens.
    pub operation: Operation,
    /// To an object of which kind.
    pub kind: &'a Kind,
    /// Name of the subresource, or empty.
    pub subresource: &'a str,
    /// Its namespace, or empty.
    pub namespace: &'a str,
    /// Its name; empty while `generateName` has not been resolved.
    pub name: &'a str,
    /// What it was: given for update and delete.
    pub old: Option<&'a Value>,
    /// Nothing will be committed.
    pub dry_run: bool,
    /// Where warnings go.
    pub warnings: &'a Warnings,
}

/// One request's admission: made per request by whoever knows the user. `object` is the tree with apiVersion and kind as
/// the client wrote it, defaults filled in. Deletes have no object.
#[async_trait]
pub trait Admit: Send + Sync {
    /// Changes the object, or refuses it. Not called for deletes.
    async fn mutate(&self, attributes: Attributes<'_>, object: &mut Value) -> Result<(), Status>;
    /// Refuses the write, or lets it pass, after the registry's own validation. May run again when a concurrent write got
    /// in between.
    async fn validate(&self, attributes: Attributes<'_>, object: Option<&Value>) -> Result<(), Status>;
}

/// Lets everything pass: for tests, benchmarks and the registry's own writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admit for AdmitAll {
    async fn mutate(&self, _: Attributes<'_>, _: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    async fn validate(&self, _: Attributes<'_>, _: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}
