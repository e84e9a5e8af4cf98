//! Plugins in order, and among them what administrators bring in: webhooks and policies.

use std::sync::Arc;

use apimachinery::status::Status;
use auth::Authorizer;
use clock::{Clock, Random};
use serde_json::Value;

use crate::plugins::{
    DefaultIngressClass, DefaultStorageClass, DefaultTolerationSeconds, DeviceAdminAccess, LimitRanger,
    NamespaceLifecycle, NodeRestriction, PersistentVolumeClaimResize, PodSecurity, Priority,
    ResourceClaimStatus, ResourceQuota, RuntimeClass, ServiceAccount, StorageObjectInUseProtection,
    TaintNodesByCondition,
};
use crate::policy::Policies;
use crate::webhook::{Round, Webhooks};
use crate::{Attributes, Lookup, Operation, Plugin};

/// Plugins that each write passes one after the other; the first refusal counts.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    webhooks: Option<Arc<Webhooks>>,
    policies: Option<Arc<Policies>>,
    /// Nothing that may still refuse the write comes after what these reserve.
    last: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// A chain of these.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins, webhooks: None, policies: None, last: Vec::new() }
    }

    /// The plugins that kube-apiserver has on by default, as far as their kinds exist here, in its order,
    /// NodeRestriction, which every cluster with a node authorizer needs, and what its registry asks of other objects.
    /// `random` is for names that plugins make up, `clock` for what is overdue.
    pub fn standard(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let mut chain = Self::new(vec![
            Box::new(NamespaceLifecycle),
            Box::new(NodeRestriction),
            Box::new(TaintNodesByCondition),
            Box::new(LimitRanger),
            Box::new(ServiceAccount::new(random)),
            Box::new(PodSecurity),
            Box::new(Priority),
            Box::new(DefaultTolerationSeconds),
            Box::new(DefaultStorageClass),
            Box::new(StorageObjectInUseProtection),
            Box::new(PersistentVolumeClaimResize),
            Box::new(RuntimeClass),
            Box::new(DefaultIngressClass),
            Box::new(DeviceAdminAccess),
        ]);
        chain.last.push(Box::new(ResourceQuota::new(clock)));
        chain
    }

    /// The same that asks who may write which part of a status, where that takes a permission of its own.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.plugins.push(Box::new(ResourceClaimStatus::new(authorizer)));
        self
    }

    /// The same with webhooks in their place: after what changes and judges by itself, before what reserves.
    #[must_use]
    pub fn with_webhooks(mut self, webhooks: Arc<Webhooks>) -> Self {
        self.webhooks = Some(webhooks);
        self
    }

    /// The same with policies in their place: just before the webhooks that judge.
    #[must_use]
    pub fn with_policies(mut self, policies: Arc<Policies>) -> Self {
        self.policies = Some(policies);
        self
    }

    /// Lets each plugin change the object, and then the webhooks. Where a webhook has changed it and an earlier one wants to
    /// see that, all of it happens once more. Deletes pass untouched: there is nothing to change.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            return Ok(());
        }
        change(&self.plugins, attributes, object, lookup).await?;
        if let Some(webhooks) = &self.webhooks {
            let mut round = Round::default();
            webhooks.mutate(attributes, Some(&mut *object), lookup, &mut round).await?;
            if round.goes_on(object) {
                change(&self.plugins, attributes, object, lookup).await?;
                webhooks.mutate(attributes, Some(&mut *object), lookup, &mut round).await?;
            }
        }
        change(&self.last, attributes, object, lookup).await
    }

    /// Asks each plugin, policy and webhook whether the write may happen. Those that change objects are asked about a deletion
    /// here, too: they may refuse it.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        judge(&self.plugins, attributes, object, lookup).await?;
        if let Some(webhooks) = self.webhooks.as_ref().filter(|_| attributes.operation == Operation::Delete) {
            webhooks.mutate(attributes, None, lookup, &mut Round::default()).await?;
        }
        if let Some(policies) = &self.policies {
            policies.validate(attributes, object, lookup).await?;
        }
        if let Some(webhooks) = &self.webhooks {
            webhooks.validate(attributes, object, lookup).await?;
        }
        judge(&self.last, attributes, object, lookup).await
    }
}

fn handling<'a>(
    plugins: &'a [Box<dyn Plugin>],
    attributes: &'a Attributes<'_>,
) -> impl Iterator<Item = &'a dyn Plugin> {
    let is_theirs = attributes.operation != Operation::Connect;
    plugins
        .iter()
        .map(AsRef::as_ref)
        .filter(move |plugin: &&dyn Plugin| is_theirs && plugin.handles(attributes))
}

async fn change(
    plugins: &[Box<dyn Plugin>],
    attributes: &Attributes<'_>,
    object: &mut Value,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    for plugin in handling(plugins, attributes) {
        plugin.mutate(attributes, object, lookup).await?;
    }
    Ok(())
}

async fn judge(
    plugins: &[Box<dyn Plugin>],
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    for plugin in handling(plugins, attributes) {
        plugin.validate(attributes, object, lookup).await?;
    }
    Ok(())
}
