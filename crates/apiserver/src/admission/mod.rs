//! What every write must pass beside the registry's own validation: the plugins, told who asks, and the rule that nobody
//! grants what they do not have.

mod certificates;
mod escalation;
mod lookup;
mod options;
mod policies;
mod webhooks;

use std::borrow::Cow;
use std::sync::Arc;

use admission::Attributes;
use apimachinery::gvk::{GroupResource, GroupVersionKind};
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::{Authorizer, Decision, Target, UserInfo};
use registry::{Admit, Kind, Operation, Warnings};
use serde_json::Value;

pub(crate) use options::Said;
pub(crate) use policies::start as start_policies;
pub(crate) use webhooks::start as start_webhooks;

use crate::ApiServer;
use crate::server::forbidden;
use lookup::Objects;

/// The admission of one request.
pub(crate) struct OfRequest {
    user: Arc<UserInfo>,
    server: Arc<ApiServer>,
    /// The request was authorized to create.
    may_create: bool,
    /// What it says beside its object.
    said: Said,
}

impl OfRequest {
    pub(crate) fn new(user: Arc<UserInfo>, server: Arc<ApiServer>, may_create: bool, said: Said) -> Self {
        Self { user, server, may_create, said }
    }

    /// Admits a stream: `options` are those of it, as an object, which webhooks may change.
    pub(crate) async fn connect(
        &self,
        kind: &Kind,
        (namespace, name, subresource): (&str, &str, &str),
        options: &mut Value,
        warnings: &Warnings,
    ) -> Result<(), Status> {
        let attributes = registry::Attributes {
            operation: Operation::Update,
            kind,
            subresource,
            namespace,
            name,
            old: None,
            dry_run: false,
            warnings,
        };
        let words = Words::of(&attributes);
        let told = Attributes { operation: admission::Operation::Connect, ..self.told(&attributes, &words) };
        let (chain, objects) = (&self.server.admission, Objects(&self.server.registry));
        chain.mutate(&told, options, &objects).await?;
        chain.validate(&told, Some(options), &objects).await
    }

    fn told<'a>(&'a self, attributes: &registry::Attributes<'a>, words: &'a Words<'a>) -> Attributes<'a> {
        let operation = match attributes.operation {
            Operation::Create => admission::Operation::Create,
            Operation::Update => admission::Operation::Update,
            Operation::Delete => admission::Operation::Delete,
        };
        Attributes {
            operation,
            resource: &words.resource,
            version: &attributes.kind.version,
            kind: &words.kind,
            subresource: attributes.subresource,
            namespace: attributes.namespace,
            name: attributes.name,
            user: &self.user,
            old: attributes.old,
            warnings: attributes.warnings,
            dry_run: attributes.dry_run,
            options: &self.said,
        }
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
        let words = Words::of(&attributes);
        let told = self.told(&attributes, &words);
        self.server.admission.mutate(&told, object, &Objects(&self.server.registry)).await
    }

    async fn validate(
        &self,
        attributes: registry::Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        self.authorize_create(&attributes)?;
        certificates::check(&self.server, &self.user, &attributes, object)?;
        escalation::check(&self.server, &self.user, &attributes, object)?;
        let words = Words::of(&attributes);
        let told = self.told(&attributes, &words);
        self.server.admission.validate(&told, object, &Objects(&self.server.registry)).await
    }
}

/// What attributes are told in, where the registry has it in other words.
struct Words<'a> {
    resource: GroupResource,
    kind: Cow<'a, GroupVersionKind>,
}

impl<'a> Words<'a> {
    fn of(attributes: &registry::Attributes<'a>) -> Self {
        let kind = attributes.kind;
        let resource = GroupResource::new(kind.group.clone(), kind.plural.clone());
        Self { resource, kind: kind_at(kind, attributes.subresource) }
    }
}

/// The kind of what is sent to a subresource: often one of its own.
fn kind_at<'a>(kind: &'a Kind, subresource: &str) -> Cow<'a, GroupVersionKind> {
    match kind.subresource(subresource) {
        Some(part) if part.group_version.is_some() || part.kind != kind.kind => {
            let (group, version) = part.group_version.unwrap_or((&kind.group, &kind.version));
            let (group, version) = (group.to_owned(), version.to_owned());
            Cow::Owned(GroupVersionKind::new(group, version, part.kind.clone()))
        }
        _ => Cow::Borrowed(&kind.gvk),
    }
}
