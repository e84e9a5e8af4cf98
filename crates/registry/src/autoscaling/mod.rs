//! The group `autoscaling`: one kind in two versions. `v2` is what is stored; `v1` says in annotations what it has no
//! fields for.

pub(crate) mod horizontal_pod_autoscaler;
pub(crate) mod horizontal_pod_autoscaler_v1;
mod metrics_cell;
mod metrics_v1;
mod metrics_validation;
mod validation;
