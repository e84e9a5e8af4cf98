//! The shape of a plugin.

use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::status::Status;
use apimachinery::warnings::Warnings;
use async_trait::async_trait;
use auth::UserInfo;
use serde_json::Value;

use crate::Lookup;

/// What a write does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed one.
    Update,
    /// A deleted one.
    Delete,
    /// A stream to one, such as a command in a pod: what is judged are the options of that. Only what administrators bring in
    /// themselves is asked about it, webhooks and policies; no plugin is.
    Connect,
}

impl Operation {
    /// As rules of webhooks and policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What a request says beside its object.
pub trait Options: std::fmt::Debug + Sync {
    /// As an object: `CreateOptions`, `UpdateOptions` or `DeleteOptions` of `meta.k8s.io/v1`, as the operation has it; null
    /// where there are none. It is made when somebody asks for it, which for most writes nobody does.
    fn object(&self, operation: Operation) -> Value;

    /// Whether the request is a patch: what is otherwise told as the update that it comes to.
    fn is_patch(&self) -> bool {
        false
    }
}

/// No options.
#[derive(Clone, Copy, Debug)]
pub struct NoOptions;

impl Options for NoOptions {
    fn object(&self, _: Operation) -> Value {
        Value::Null
    }
}

/// What a plugin is told about a write.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// What happens.
    pub operation: Operation,
    /// To an object of which resource.
    pub resource: &'a GroupResource,
    /// In which version.
    pub version: &'a str,
    /// What kind the object is of, as the request has it: a subresource has often one of its own.
    pub kind: &'a GroupVersionKind,
    /// Name of the subresource, or empty.
    pub subresource: &'a str,
    /// The object's namespace, or empty.
    pub namespace: &'a str,
    /// The object's name; empty while it is to be generated.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// What the object was, for updates and deletes.
    pub old: Option<&'a Value>,
    /// Where warnings go.
    pub warnings: &'a Warnings,
    /// Nothing will be written.
    pub dry_run: bool,
    /// What the request says beside the object.
    pub options: &'a dyn Options,
}

impl Attributes<'_> {
    /// Whether the write is of that resource itself, not of a subresource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, plural)
    }

    /// Whether the write is of that resource or one of its subresources.
    pub fn is_any(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.resource == plural
    }

    /// The 403 that refuses this write.
    pub fn forbid(&self, why: impl std::fmt::Display) -> Status {
        Status::forbidden(self.resource, self.name, why)
    }
}

/// One reason to change or refuse writes.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name of it.
    fn name(&self) -> &'static str;

    /// Whether it has anything to do with such writes: asked before everything else, and cheap.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes the object, or refuses it. Not called for deletes.
    async fn mutate(
        &self,
        _attributes: &Attributes<'_>,
        _object: &mut Value,
        _lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the write, or lets it pass. Deletes have no object.
    async fn validate(
        &self,
        _attributes: &Attributes<'_>,
        _object: Option<&Value>,
        _lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        Ok(())
    }
}
