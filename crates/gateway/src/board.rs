//! Where everything that claims hosts and paths says so: the table that requests are looked up in follows from all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::request::Target;
use crate::routing::claims::{Claim, Claimant, Kind, Owners, decide};
use crate::routing::{HostPattern, Table};

/// Told that the conflicts of one of its claims are other ones than before. Called under the board's lock: it may only
/// put something into a queue.
type Told = Box<dyn Fn(&Claimant) + Send + Sync>;

/// See the module.
#[derive(Default)]
pub(crate) struct Board {
    /// The table that is swapped as claims change.
    pub(crate) routes: ArcSwap<Table<Arc<Target>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    claims: BTreeMap<Kind, Vec<Claim<Arc<Target>>>>,
    /// Since when each namespace claims its hosts.
    since: BTreeMap<String, BTreeMap<HostPattern, Timestamp>>,
    conflicts: BTreeMap<Claimant, Vec<String>>,
    owners: Arc<Owners>,
    told: BTreeMap<Kind, Told>,
}

impl Board {
    /// Has somebody told of changed conflicts of a kind's claims.
    pub(crate) fn tell(&self, kind: Kind, told: impl Fn(&Claimant) + Send + Sync + 'static) {
        self.state().told.insert(kind, Box::new(told));
    }

    /// Makes these all the claims of their kind, and decides anew who has which route.
    pub(crate) fn set(&self, kind: Kind, claims: Vec<Claim<Arc<Target>>>) {
        let mut state = self.state();
        state.claims.insert(kind, claims);
        let all: Vec<_> = state.claims.values().flatten().cloned().collect();
        state.since = since(&all);
        let decision = decide(&all);
        let said = |conflicts: Vec<_>| conflicts.iter().map(ToString::to_string).collect::<Vec<String>>();
        let conflicts: BTreeMap<_, _> =
            decision.conflicts.into_iter().map(|(claimant, conflicts)| (claimant, said(conflicts))).collect();
        let known: BTreeSet<&Claimant> = state.conflicts.keys().chain(conflicts.keys()).collect();
        for claimant in known {
            if state.conflicts.get(claimant) != conflicts.get(claimant)
                && let Some(told) = state.told.get(&claimant.kind)
            {
                told(claimant);
            }
        }
        state.conflicts = conflicts;
        state.owners = Arc::new(decision.owners);
        // Under the lock, so that an older decision never replaces a newer one.
        self.routes.store(Arc::new(decision.table));
    }

    /// Why routes of an object do not stand.
    pub(crate) fn conflicts(&self, claimant: &Claimant) -> Vec<String> {
        self.state().conflicts.get(claimant).cloned().unwrap_or_default()
    }

    /// Who owns which host now.
    pub(crate) fn owners(&self) -> Arc<Owners> {
        self.state().owners.clone()
    }

    /// Since when a namespace claims a host.
    pub(crate) fn since(&self, namespace: &str, host: &HostPattern) -> Option<Timestamp> {
        self.state().since.get(namespace)?.get(host).copied()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The earliest of several objects of a namespace counts.
fn since<T>(claims: &[Claim<T>]) -> BTreeMap<String, BTreeMap<HostPattern, Timestamp>> {
    let mut found: BTreeMap<String, BTreeMap<HostPattern, Timestamp>> = BTreeMap::new();
    for claim in claims {
        let of_namespace = found.entry(claim.claimant.namespace.clone()).or_default();
        for (host, since) in &claim.since {
            let earliest = of_namespace.entry(host.clone()).or_insert(*since);
            *earliest = (*earliest).min(*since);
        }
    }
    found
}
