//! Plugins in order.

use std::sync::Arc;

use apimachinery::status::Status;
use clock::{Clock, Random};
use serde_json::Value;

use crate::plugins::{
    DefaultIngressClass, DefaultStorageClass, DefaultTolerationSeconds, LimitRanger, NamespaceLifecycle,
    NodeRestriction, PersistentVolumeClaimResize, Priority, ResourceQuota, RuntimeClass, ServiceAccount,
    StorageObjectInUseProtection,
};
use crate::{Attributes, Lookup, Operation, Plugin};

/// Plugins that each write passes one after the other; the first refusal counts.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Chain {
    /// A chain of these.
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    /// The plugins that kube-apiserver has on by default, as far as their kinds exist here, in its order, and
    /// NodeRestriction, which every cluster with a node authorizer needs.
    /// `random` is for names that plugins make up, `clock` for what is overdue.
    pub fn standard(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self::new(vec![
            Box::new(NamespaceLifecycle),
            Box::new(NodeRestriction),
            Box::new(LimitRanger),
            Box::new(ServiceAccount::new(random)),
            Box::new(Priority),
            Box::new(DefaultTolerationSeconds),
            Box::new(DefaultStorageClass),
            Box::new(StorageObjectInUseProtection),
            Box::new(PersistentVolumeClaimResize),
            Box::new(RuntimeClass),
            Box::new(DefaultIngressClass),
            // Last: nothing that may still refuse the write comes after what it reserves.
            Box::new(ResourceQuota::new(clock)),
        ])
    }

    /// Names of the plugins, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.plugins.iter().map(|plugin| plugin.name())
    }

    fn handling<'a>(&'a self, attributes: &'a Attributes<'_>) -> impl Iterator<Item = &'a dyn Plugin> {
        self.plugins.iter().map(AsRef::as_ref).filter(|plugin: &&dyn Plugin| plugin.handles(attributes))
    }

    /// Lets each plugin change the object. Deletes pass untouched.
    pub async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if attributes.operation == Operation::Delete {
            return Ok(());
        }
        for plugin in self.handling(attributes) {
            plugin.mutate(attributes, object, lookup).await?;
        }
        Ok(())
    }

    /// Asks each plugin whether the write may happen.
    pub async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        for plugin in self.handling(attributes) {
            plugin.validate(attributes, object, lookup).await?;
        }
        Ok(())
    }
}
