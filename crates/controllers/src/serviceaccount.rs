//! A `default` service account in every namespace.

use crate::ownership::is_terminating;
use crate::plan::{Plan, create};
use crate::{Controller, World};
use client::kube::ResourceExt;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The controller; see the module. Keys are names of namespaces.
pub struct ServiceAccounts {
    namespaces: Reader<Namespace>,
    accounts: Reader<ServiceAccount>,
}

/// What it looks at.
pub struct View {
    /// Whether the namespace is there to stay.
    pub active: bool,
    /// Whether it has its account.
    pub has_account: bool,
}

impl Controller for ServiceAccounts {
    const NAME: &'static str = "service-account-controller";
    type Key = String;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let (namespaces, accounts) = (world.reader::<Namespace>(), world.reader::<ServiceAccount>());
        let add = queue.clone();
        namespaces.informer().on_change(move |change| add.add(change.object().name_any()));
        let add = queue.clone();
        accounts.informer().on_change(move |change| {
            if change.after().is_none() && change.object().name_any() == "default" {
                add.add(change.object().namespace().unwrap_or_default());
            }
        });
        Self { namespaces, accounts }
    }

    fn view(&self, namespace: &String) -> View {
        let found = self.namespaces.get(&ObjectKey::cluster(namespace));
        let active = found.is_some_and(|namespace| !is_terminating(&*namespace));
        View { active, has_account: self.accounts.get(&ObjectKey::new(namespace, "default")).is_some() }
    }

    fn plan(namespace: &String, view: &View, (): &(), _now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        if view.active && !view.has_account {
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    name: Some("default".to_owned()),
                    namespace: Some(namespace.clone()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            let mut create = create(&account);
            create.unless_exists = true;
            plan.then(create);
        }
        plan
    }
}
