//! Addresses that this machine has just given to pods.
//!
//! The API learns a pod's address only after the pod has it. What judges and balances packets learns it here, before the
//! pod's first process runs: whoever attaches a pod waits until the pod's policies are in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Ambient;
use tokio::sync::{Notify, watch};

/// How long the API may take to tell of a pod whose sandbox is being made. Beyond it the pod is taken for one that the API
/// does not know, and that no policy can select.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// How long policies may take to be in force.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(5);

/// A pod, and the addresses that its sandbox has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The pod's UID on this machine; the kubelet's own for a pod that it took from a file.
    pub uid: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Policies are not in force yet: the pod must not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("network policies are not known yet: the API has not answered since this node started")]
pub struct NotInForce;

/// What is in force, and of which sandboxes the pods were known.
#[derive(Clone, Debug, Default)]
struct InForce {
    /// Changes of placements that have been taken into account; 0 before the first time.
    changes: u64,
    known: BTreeSet<String>,
}

#[derive(Default)]
struct Placed {
    changes: u64,
    by_sandbox: BTreeMap<String, Placement>,
}

/// The placements of one machine, by sandbox.
#[derive(Default)]
pub struct Placements {
    placed: Mutex<Placed>,
    listeners: Mutex<Vec<Arc<Notify>>>,
    in_force: watch::Sender<InForce>,
}

impl Placements {
    /// Takes note of a sandbox's addresses.
    pub fn add(&self, sandbox: &str, placement: Placement) {
        self.change(|placed| placed.insert(sandbox.to_owned(), placement));
    }

    /// The sandbox has its addresses no more.
    pub fn remove(&self, sandbox: &str) {
        self.change(|placed| placed.remove(sandbox));
    }

    /// Only these sandboxes are left.
    pub fn retain(&self, sandboxes: &[String]) {
        self.change(|placed| placed.retain(|sandbox, _| sandboxes.contains(sandbox)));
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Placement>) -> T) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        placed.changes += 1;
        change(&mut placed.by_sandbox);
        drop(placed);
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener.notify_one();
        }
    }

    /// Returns once the policies of the pod in a sandbox that was added are in force.
    ///
    /// # Errors
    /// When nobody knows the policies in time.
    pub async fn in_force(&self, sandbox: &str, ambient: &Ambient) -> Result<(), NotInForce> {
        let since = self.placed.lock().unwrap_or_else(PoisonError::into_inner).changes;
        let mut state = self.in_force.subscribe();
        let applied = {
            let applied = state.wait_for(|state| state.changes >= since);
            tokio::select! {
                applied = applied => applied.is_ok(),
                () = ambient.clock.sleep(IN_FORCE_WITHIN) => false,
            }
        };
        if !applied {
            return Err(NotInForce);
        }
        tokio::select! {
            _ = state.wait_for(|state| state.known.contains(sandbox)) => {}
            () = ambient.clock.sleep(KNOWN_WITHIN) => {
                tracing::info!(sandbox, "the API knows no such pod: no policy selects it");
            }
        }
        Ok(())
    }

    pub(crate) fn listen(&self, listener: &Arc<Notify>) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener.clone());
    }

    /// All of them, and how many changes there have been.
    pub(crate) fn snapshot(&self) -> (BTreeMap<String, Placement>, u64) {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        (placed.by_sandbox.clone(), placed.changes)
    }

    /// The policies of a snapshot are in force.
    pub(crate) fn enforced(&self, changes: u64, known: BTreeSet<String>) {
        self.in_force.send_replace(InForce { changes: changes.max(1), known });
    }
}
