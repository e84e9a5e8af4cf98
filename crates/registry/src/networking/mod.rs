//! The group `networking.k8s.io`.

pub(crate) mod network_policy;
