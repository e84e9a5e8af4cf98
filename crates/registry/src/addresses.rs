//! IPAddresses of Services: each address that a Service has is an object, which the Service's own transaction makes and takes
//! away. What people do to these objects by hand is put right here.
//!
//! The objects are the truth about who has which address: their keys are the claims on the addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use apimachinery::meta;
use apimachinery::status::Status;
use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use store::{Range, Txn, Write};
use tracing::warn;

use crate::core::service_claims;
use crate::networking::ip_address;
use crate::write::unavailable;
use crate::{DeleteOptions, Kind, Registry};

/// How often they are looked through.
const EVERY: Duration = Duration::from_secs(60);
/// An address of no Service goes when it is as old: before, its Service may just be on its way. Upstream's number.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);
/// How many are written at the same time: they share the store's group commit.
const AT_ONCE: usize = 32;
/// Where releases before this one kept the claims on addresses.
const FORMER_CLAIMS: &[u8] = b"/allocations/service-addresses/";

/// Looks through them, again and again until the registry is gone.
pub(crate) async fn run(registry: Weak<Registry>) {
    while let Some(clock) = registry.upgrade().map(|registry| registry.options.clock.clone()) {
        clock.sleep(EVERY).await;
        let Some(registry) = registry.upgrade() else { return };
        if let Err(status) = registry.repair_addresses().await {
            warn!(%status, "addresses of Services could not be repaired; trying again later");
        }
    }
}

/// What is to be done about one address.
enum Repair {
    /// It is made for the Service of this namespace and name.
    Make(IpAddr, String, String),
    /// It is of nobody.
    Remove(String),
}

impl Registry {
    /// Brings what an earlier release stored into the form of this one. What fails is left to [`run`], and addresses are
    /// claimed twice until then.
    pub(crate) async fn adopt_addresses(&self) -> Result<(), Status> {
        self.repair_addresses().await?;
        loop {
            let range = Range { prefix: Bytes::from_static(FORMER_CLAIMS), limit: 64, ..Range::default() };
            let page = self.store.range(range).await.map_err(unavailable)?;
            if page.entries.is_empty() {
                return Ok(());
            }
            let writes = page.entries.into_iter().map(|entry| Write::Delete(entry.key)).collect();
            self.store
                .commit(Txn { expect: Vec::new(), writes, ..Txn::default() })
                .await
                .map_err(unavailable)?;
        }
    }

    pub(crate) async fn repair_addresses(&self) -> Result<(), Status> {
        let kinds = self.kinds();
        let (Some(services), Some(addresses)) =
            (kinds.lookup("", "v1", "services"), kinds.lookup("networking.k8s.io", "v1", "ipaddresses"))
        else {
            return Ok(());
        };
        let repairs = faults(services, addresses, self.options.clock.now());
        // Boxed, because the compiler cannot tell otherwise that they may move between threads.
        let repairs: Vec<BoxFuture<'_, Result<(), Status>>> =
            repairs.into_iter().map(|repair| self.repair(addresses, repair).boxed()).collect();
        let done = stream::iter(repairs).buffer_unordered(AT_ONCE);
        done.fold(Ok(()), |all: Result<(), Status>, one| ready(all.and(one))).await
    }

    async fn repair(&self, kind: &Arc<Kind>, repair: Repair) -> Result<(), Status> {
        let cx = self.own_context();
        let name = match &repair {
            Repair::Make(address, ..) => address.to_string(),
            Repair::Remove(name) => name.clone(),
        };
        match self.delete_one(&cx, kind, "", &name, &DeleteOptions::default()).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
        let Repair::Make(address, namespace, service) = repair else {
            warn!(address = name, "the address was of no Service, and is free again");
            return Ok(());
        };
        match self.write_new(&cx, kind, "", ip_address::of_service(address, &namespace, &service)).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()), // Where it exists already, another server was faster.
        }
    }
}

/// Compares Services with addresses. Of two Services with one address the one that it names keeps it, and people are told.
fn faults(services: &Kind, addresses: &Kind, now: Timestamp) -> Vec<Repair> {
    let mut repairs = Vec::new();
    let mut owners: BTreeMap<IpAddr, Vec<(String, String)>> = BTreeMap::new();
    for item in services.resource.hub.view().items.values() {
        let Ok(service) = item.tree() else { continue };
        let (namespace, name) = item.names();
        for address in service_claims::addresses_of(&service) {
            owners.entry(address).or_default().push((namespace.to_owned(), name.to_owned()));
        }
    }
    let known = addresses.resource.hub.view();
    for (address, owners) in &owners {
        let found = known.items.get(&*address.to_string()).and_then(|item| item.tree().ok());
        let named = found.as_ref().and_then(ip_address::service);
        let is_named = |owner: &&(String, String)| {
            named.is_some_and(|(namespace, name)| (owner.0.as_str(), owner.1.as_str()) == (namespace, name))
        };
        let keeps = owners.iter().find(is_named);
        if owners.len() > 1 {
            warn!(%address, ?owners, "the address was assigned to multiple Services; please recreate all but one");
        }
        let is_right =
            keeps.is_some() && found.as_ref().is_some_and(|found| ip_address::is_labelled(found, *address));
        if let Some((namespace, name)) = keeps.or(owners.first()).filter(|_| !is_right) {
            repairs.push(Repair::Make(*address, namespace.clone(), name.clone()));
        }
    }
    let trees = known.items.values().filter_map(|item| item.tree().ok());
    let orphans = trees.filter(|tree| ip_address::is_ours(tree) && is_old(tree, now));
    let orphans = orphans.map(|tree| meta::name(&tree).to_owned());
    let is_owned = |name: &String| name.parse::<IpAddr>().is_ok_and(|address| owners.contains_key(&address));
    repairs.extend(orphans.filter(|name| !is_owned(name)).map(Repair::Remove));
    repairs
}

fn is_old(tree: &Value, now: Timestamp) -> bool {
    let made = tree.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let made = made.and_then(|text| apimachinery::time::parse(text).ok());
    made.is_none_or(|made| now.duration_since(made) > YOUNG)
}
