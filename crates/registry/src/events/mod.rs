//! The group `events.k8s.io`: the events of the legacy group under newer names.

pub(crate) mod event;
