//! Which component has which route: what each claims, since when, and the table that follows.
//!
//! A claim of a host counts from when it was first seen, not from when the object was made: an old component that names
//! somebody's host does not take it. The times are kept in the objects' status, and so in the snapshot.

use std::collections::BTreeMap;

use api::monoplane::v1alpha1::{ClaimedHost, Component, component_reason as reason};
use client::ObjectKey;
use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::Controller;
use super::deploy::Record;
use super::translate::Refusal;
use crate::routing::claims::{Claim, Claimant, Kind};
use crate::routing::{HostPattern, PathPrefix, Route};

/// A component as one that claims.
pub(super) fn claimant(key: &ObjectKey) -> Claimant {
    Claimant { namespace: key.namespace.clone(), name: key.name.clone(), kind: Kind::Component }
}

/// The times of claims as a status has them.
pub(super) fn recorded(since: &BTreeMap<HostPattern, Timestamp>) -> Vec<ClaimedHost> {
    let claimed = since.iter().map(|(host, since)| (host.to_string(), MicroTime(*since)));
    claimed.map(|(host, claimed_at)| ClaimedHost { host, claimed_at }).collect()
}

/// When a component began to claim a host, as far as its object says.
fn since(object: &Component, host: &HostPattern, created: Timestamp) -> Option<Timestamp> {
    let status = object.status.as_ref();
    let hosts = status.and_then(|status| status.hosts.as_ref());
    let name = host.to_string();
    let found = hosts.and_then(|hosts| hosts.iter().find(|claimed| claimed.host == name));
    // One that was never changed claims what it did when it was made; so does one of which an edge from before these
    // times were kept has told.
    let from_the_start = object.metadata.generation == Some(1) || (status.is_some() && hosts.is_none());
    found.map(|claimed| claimed.claimed_at.0).or_else(|| from_the_start.then_some(created))
}

impl Controller {
    /// Takes the component's routes, though it may not answer on them yet.
    pub(super) fn claim(&self, key: &ObjectKey, object: &Component, routes: Vec<(HostPattern, PathPrefix)>) {
        let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        let now = self.setup.ambient.clock.now();
        // As exact as it will be read back.
        let now = now.round(Unit::Microsecond).unwrap_or(now);
        {
            let mut records = self.records();
            let held = records.get(key);
            if held.is_some_and(|held| held.routes == routes && held.created == created) {
                return;
            }
            let mut claimed = BTreeMap::new();
            for (host, _) in &routes {
                let own = held.and_then(|held| held.since.get(host).copied());
                let own = own.or_else(|| since(object, host, created));
                // What its namespace has claimed before stays the namespace's.
                let siblings = records.iter().filter(|(other, _)| other.namespace == key.namespace);
                let inherited = siblings.filter_map(|(_, sibling)| sibling.since.get(host).copied()).min();
                let time = own.or(inherited).unwrap_or(now);
                claimed.insert(host.clone(), inherited.map_or(time, |inherited| inherited.min(time)));
            }
            let record = records.entry(key.clone()).or_insert_with(|| Record::new(key));
            (record.created, record.routes, record.since) = (created, routes, claimed);
        }
        self.swap_table();
    }

    /// Says anew what components claim. Those whose conflicts change are looked at.
    pub(super) fn swap_table(&self) {
        // Held until the board has it, so that an older word never replaces a newer one.
        let records = self.records();
        let claims = records.iter().map(|(key, record)| {
            let route = |(host, path): &(HostPattern, PathPrefix)| Route {
                host: host.clone(),
                path: path.clone().into(),
                target: record.target.clone(),
            };
            Claim {
                claimant: claimant(key),
                created: record.created,
                since: record.since.clone(),
                routes: record.routes.iter().map(route).collect(),
            }
        });
        self.edge.board.set(Kind::Component, claims.collect());
    }

    pub(super) fn conflict(&self, key: &ObjectKey) -> Option<Refusal> {
        let conflicts = self.edge.board.conflicts(&claimant(key));
        (!conflicts.is_empty()).then(|| Refusal::new(reason::ROUTE_CONFLICT, conflicts.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use api::monoplane::v1alpha1::ComponentStatus;

    use super::*;

    #[test]
    fn a_claim_counts_from_when_it_was_made() {
        let second = |n| Timestamp::from_second(n).unwrap();
        let host = |name| HostPattern::parse(Some(name)).unwrap();
        let mut object = Component::default();
        object.metadata.generation = Some(1);
        assert_eq!(since(&object, &host("a.test"), second(1)), Some(second(1)));
        // It was changed: nobody knows since when, unless somebody has written it down.
        object.metadata.generation = Some(2);
        assert_eq!(since(&object, &host("a.test"), second(1)), None);
        object.status = Some(ComponentStatus::default());
        assert_eq!(since(&object, &host("a.test"), second(1)), Some(second(1)));
        let kept = recorded(&[(host("a.test"), second(5))].into());
        object.status = Some(ComponentStatus { hosts: Some(kept), ..ComponentStatus::default() });
        assert_eq!(since(&object, &host("a.test"), second(1)), Some(second(5)));
        assert_eq!(since(&object, &host("b.test"), second(1)), None);
    }
}
