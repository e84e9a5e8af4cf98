//! The controllers: each turns what is into what should be, for one kind of thing, through the API alone.
//!
//! Owns: one [`Controller`] a file (or folder), in one shape: a pure `plan(key, &View, &Memory, now) -> Plan`, and the
//! runner that does the queueing, the back-off, the writing and the leader election for all of them ([`run`]).
//!
//! Never does: keep state of record (a restart or another leader loses nothing), talk to anything but the API, or decide
//! anything outside a plan. It runs as well against an upstream API server.
//!
//! Begin with [`Controller`] and [`plan`], then read [`replicaset`]: it is the smallest that has everything.

mod actor;
pub mod bootstrap;
pub mod certificates;
pub mod cluster_dns;
pub mod clusterroles;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslicemirroring;
pub mod ephemeral;
pub mod garbage;
mod history;
pub mod horizontalpodautoscaler;
mod instruments;
pub mod job;
mod merge;
pub mod namespace;
pub mod nodeipam;
pub mod nodelifecycle;
mod ownership;
mod percent;
pub mod plan;
pub mod pod;
pub mod podgc;
mod pods;
pub mod protection;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod root_ca;
mod run;
mod runner;
mod selected;
pub mod serviceaccount;
pub mod serviceaccounttoken;
pub mod servicecidrs;
#[cfg(test)]
mod stage;
pub mod statefulset;
mod taints;
mod template;
mod topology;
pub mod ttl;
pub mod ttlafterfinished;
pub mod validatingadmissionpolicystatus;
pub mod volume;
mod world;

pub use crate::instruments::Instruments;
pub use run::{Options, run};
pub use runner::Controller;
pub use world::{Settings, World};
