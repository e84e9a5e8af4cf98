//! Objects are made in namespaces that exist and stay; the first namespaces are never deleted.

use apimachinery::gvk::GroupResource;
use apimachinery::status::{Cause, Status};
use async_trait::async_trait;
use serde_json::Value;

use crate::{Attributes, Lookup, NamespacePhase, Operation, Plugin};

/// Namespaces without which a cluster does not work.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];
const NAMESPACES: GroupResource = GroupResource::of("", "namespaces");

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceLifecycle;

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Delete => attributes.is("", "namespaces"),
            Operation::Create => !attributes.namespace.is_empty() && !is_question(attributes),
            // What is updated or connected to exists, and so does its namespace.
            Operation::Update | Operation::Connect => false,
        }
    }

    /// Before any other plugin looks for something in a namespace that is not there.
    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        _object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        takes_content(attributes, lookup).await
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        _object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        match attributes.operation {
            Operation::Delete if IMMORTAL.contains(&attributes.name) => {
                Err(attributes.forbid("this namespace may not be deleted"))
            }
            Operation::Delete => Ok(()),
            // Once more: what came between may have taken its time.
            _ => takes_content(attributes, lookup).await,
        }
    }
}

async fn takes_content(attributes: &Attributes<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let namespace = attributes.namespace;
    match lookup.namespace_phase(namespace).await? {
        Some(NamespacePhase::Active) => Ok(()),
        Some(NamespacePhase::Terminating) => {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let mut status = attributes.forbid(why);
            status.details.get_or_insert_default().causes.push(Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".to_owned(),
            });
            Err(status)
        }
        None => Err(Status::not_found(&NAMESPACES, namespace)),
    }
}

/// Reviews are answered, not stored.
fn is_question(attributes: &Attributes<'_>) -> bool {
    attributes.is("authorization.k8s.io", "localsubjectaccessreviews")
}
