//! In-place resize: by what a run's limits differ from those that it should have, and what is told of it.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{Container, Pod, ResourceRequirements};
use api::k8s::apimachinery::pkg::api::resource::Quantity as Written;
use apimachinery::quantity::Quantity;
use runtime::{ContainerStatus, Resources};

use crate::resources;

/// What of a run's limits is not as the pod says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    cpu: bool,
    memory: bool,
}

/// The limits that a run should have, where they differ from those it has.
pub(crate) fn difference(
    pod: &Pod,
    container: &Container,
    run: &ContainerStatus,
) -> Option<(Difference, Resources)> {
    // A runtime that does not say what it set cannot be held to it.
    run.resources.cpu_shares?;
    // Whom the kernel kills first stays as it was, so the node's memory has no part in it.
    let wanted = resources::of_container(pod, container, 0);
    fn differs<T: PartialEq>(wanted: &Option<T>, is: &Option<T>) -> bool {
        wanted.is_some() && wanted != is
    }
    let has = &run.resources;
    let difference = Difference {
        cpu: differs(&wanted.cpu_shares, &has.cpu_shares) || differs(&wanted.cpu_quota, &has.cpu_quota),
        memory: differs(&wanted.memory_limit, &has.memory_limit),
    };
    (difference.cpu || difference.memory).then_some((difference, wanted))
}

impl Difference {
    /// Whether the container wants to be started again for it.
    pub(crate) fn restarts(&self, container: &Container) -> bool {
        container.resize_policy.iter().flatten().any(|policy| {
            let concerned = match policy.resource_name.as_str() {
                "cpu" => self.cpu,
                "memory" => self.memory,
                _ => false,
            };
            concerned && policy.restart_policy == "RestartContainer"
        })
    }
}

/// The resources that a run really has, written as in the pod where they are the same.
pub(crate) fn actual(container: &Container, run: Option<&ContainerStatus>) -> ResourceRequirements {
    let mut told = container.resources.clone().unwrap_or_default();
    let Some(run) = run.filter(|run| run.resources.cpu_shares.is_some()) else { return told };
    let has = &run.resources;
    let mut put = |list: fn(&mut ResourceRequirements) -> &mut Option<BTreeMap<String, Written>>,
                   name: &str,
                   amount: Quantity| {
        let list = list(&mut told).get_or_insert_default();
        list.insert(name.to_owned(), Written(amount.to_string()));
    };
    if let Some(shares) = has.cpu_shares {
        let asked = resources::request(container, "cpu").or(resources::limit(container, "cpu"));
        let same = asked.map_or(0, |asked| asked.milli_value());
        if resources::shares(same) != shares {
            put(|told| &mut told.requests, "cpu", Quantity::from_milli(resources::milli_of_shares(shares)));
        }
    }
    if let (Some(quota), Some(period)) = (has.cpu_quota, has.cpu_period) {
        let limit = resources::limit(container, "cpu").map(|limit| resources::quota(limit.milli_value()));
        if limit != Some(quota) {
            let milli = resources::milli_of_quota(quota, period);
            put(|told| &mut told.limits, "cpu", Quantity::from_milli(milli));
        }
    }
    if let Some(memory) = has.memory_limit
        && resources::limit(container, "memory").map(|limit| limit.value()) != Some(memory)
    {
        put(|told| &mut told.limits, "memory", Quantity::from_bytes(memory));
    }
    told
}
