//! What every write must pass beside the registry's own validation: the plugins, told who asks, and the rule that nobody
//! grants what they do not have.

mod certificates;
mod escalation;

use std::sync::Arc;

use admission::{Attributes, Lookup, NamespacePhase};
use apimachinery::gvk::GroupResource;
use apimachinery::meta;
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::{Authorizer, Decision, Target, UserInfo};
use registry::{Admit, ListOptions, Operation, Part, Registry};
use serde_json::Value;

use crate::ApiServer;
use crate::server::forbidden;

/// The admission of one request.
pub(crate) struct OfRequest {
    user: Arc<UserInfo>,
    server: Arc<ApiServer>,
    /// The request was authorized to create.
    may_create: bool,
}

impl OfRequest {
    pub(crate) fn new(user: Arc<UserInfo>, server: Arc<ApiServer>, may_create: bool) -> Self {
        Self { user, server, may_create }
    }

    /// An update of an object that is not there may become a creation. That takes the right to create, too.
    fn authorize_create(&self, attributes: &registry::Attributes<'_>) -> Result<(), Status> {
        if self.may_create || attributes.operation != Operation::Create {
            return Ok(());
        }
        let target = auth::Resource {
            group: &attributes.kind.group,
            version: &attributes.kind.version,
            resource: &attributes.kind.plural,
            subresource: attributes.subresource,
            namespace: attributes.namespace,
            name: attributes.name,
            field_selector: "",
        };
        let create = auth::Attributes { user: &self.user, verb: "create", target: Target::Resource(target) };
        match self.server.authorization.authorize(&create) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(&create, &reason)),
        }
    }
}

#[async_trait]
impl Admit for OfRequest {
    async fn mutate(&self, attributes: registry::Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        certificates::stamp(&self.user, &attributes, object);
        let resource = resource_of(&attributes);
        let attributes = told(&attributes, &resource, &self.user);
        self.server.admission.mutate(&attributes, object, &Objects(&self.server.registry)).await
    }

    async fn validate(
        &self,
        attributes: registry::Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        self.authorize_create(&attributes)?;
        let resource = resource_of(&attributes);
        let of_plugins = told(&attributes, &resource, &self.user);
        self.server.admission.validate(&of_plugins, object, &Objects(&self.server.registry)).await?;
        certificates::check(&self.server, &self.user, &attributes, object)?;
        escalation::check(&self.server, &self.user, &attributes, object)
    }
}

fn resource_of(attributes: &registry::Attributes<'_>) -> GroupResource {
    GroupResource::new(attributes.kind.group.clone(), attributes.kind.plural.clone())
}

fn told<'a>(
    attributes: &registry::Attributes<'a>,
    resource: &'a GroupResource,
    user: &'a UserInfo,
) -> Attributes<'a> {
    let operation = match attributes.operation {
        Operation::Create => admission::Operation::Create,
        Operation::Update => admission::Operation::Update,
        Operation::Delete => admission::Operation::Delete,
    };
    Attributes {
        operation,
        resource,
        subresource: attributes.subresource,
        namespace: attributes.namespace,
        name: attributes.name,
        user,
        old: attributes.old,
        dry_run: attributes.dry_run,
    }
}

/// Other objects, from the registry's cache.
struct Objects<'a>(&'a Registry);

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
}
