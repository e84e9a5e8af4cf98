//! Requests and limits, as the kernel understands them. Numbers and rounding are upstream's.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{Container, Pod};
use api::k8s::apimachinery::pkg::api::resource::Quantity as Written;
use apimachinery::quantity::Quantity;
use runtime::Resources;

use crate::pod::containers::{self, Kind, PodContainer};

/// Length of a CPU period in microseconds.
const PERIOD: u64 = 100_000;
const MIN_QUOTA: i64 = 1_000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// What a pod that must not be killed for memory gets.
const GUARANTEED_SCORE: i64 = -997;

/// How a pod is treated when the node runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        // What is added to look at a pod has no part in it.
        let containers: Vec<_> = containers::all(pod).filter(|found| found.kind != Kind::Ephemeral).collect();
        let amounts = |container: &PodContainer<'_>| {
            ["cpu", "memory"].map(|name| (request(&container.spec, name), limit(&container.spec, name)))
        };
        let set = |amount: &Option<Quantity>| amount.is_some_and(|amount| !amount.is_zero());
        let any =
            containers.iter().any(|c| amounts(c).iter().any(|(request, limit)| set(request) || set(limit)));
        if !any {
            return Qos::BestEffort;
        }
        let guaranteed = |(request, limit): &(Option<Quantity>, Option<Quantity>)| {
            set(limit) && (request.is_none() || request == limit)
        };
        if containers.iter().all(|container| amounts(container).iter().all(guaranteed)) {
            Qos::Guaranteed
        } else {
            Qos::Burstable
        }
    }
}

fn amount(from: Option<&BTreeMap<String, Written>>, name: &str) -> Option<Quantity> {
    from?.get(name)?.0.parse().ok()
}

/// What a container asks for.
pub(crate) fn request(container: &Container, name: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.requests.as_ref(), name)
}

/// What a container may use.
pub(crate) fn limit(container: &Container, name: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.limits.as_ref(), name)
}

fn shares(milli: i64) -> u64 {
    let milli = u64::try_from(milli).unwrap_or(0);
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD as i64) / 1000).max(MIN_QUOTA)
}

fn resources(cpu_request: i64, cpu_limit: Option<i64>, memory_limit: Option<i64>) -> Resources {
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota: cpu_limit.map(quota),
        cpu_period: cpu_limit.map(|_| PERIOD),
        memory_limit,
        pids_limit: None,
        oom_score_adj: 0,
    }
}

fn positive(amount: i64) -> Option<i64> {
    (amount > 0).then_some(amount)
}

/// The limits of one container's cgroup. `memory_capacity` is the node's, in bytes.
pub(crate) fn of_container(pod: &Pod, container: &Container, memory_capacity: i64) -> Resources {
    let milli = |amount: Option<Quantity>| amount.map(|amount| amount.milli_value());
    let limit_cpu = milli(limit(container, "cpu")).and_then(positive);
    let request_cpu = milli(request(container, "cpu")).and_then(positive).or(limit_cpu).unwrap_or(0);
    let memory = limit(container, "memory").map(|amount| amount.value()).and_then(positive);
    let oom_score_adj = oom_score(pod, container, memory_capacity);
    Resources { oom_score_adj, ..resources(request_cpu, limit_cpu, memory) }
}

/// The limits of a pod's own cgroup: what its containers may use together, where each of them has a limit.
pub(crate) fn of_pod(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let of = |container: &Container, name: &str, value: fn(&Quantity) -> i64| {
        (request(container, name).as_ref().map(value), limit(container, name).as_ref().map(value))
    };
    let together = |name: &str, value: fn(&Quantity) -> i64| {
        let apps: Vec<_> = spec.containers.iter().map(|container| of(container, name, value)).collect();
        let inits: Vec<_> =
            spec.init_containers.iter().flatten().map(|container| of(container, name, value)).collect();
        let requests = apps.iter().filter_map(|(request, limit)| request.or(*limit)).sum::<i64>();
        let first = inits.iter().filter_map(|(request, limit)| request.or(*limit)).max().unwrap_or(0);
        let limits: Option<i64> = apps.iter().map(|(_, limit)| limit.and_then(positive)).sum();
        let first_limits: Option<Vec<i64>> =
            inits.iter().map(|(_, limit)| limit.and_then(positive)).collect();
        let limits = limits.zip(first_limits).map(|(apps, inits)| inits.into_iter().fold(apps, i64::max));
        (requests.max(first), limits)
    };
    let (cpu_request, cpu_limit) = together("cpu", Quantity::milli_value);
    let (_, memory_limit) = together("memory", Quantity::value);
    resources(cpu_request, cpu_limit, memory_limit)
}

fn oom_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref())
        == Some("system-node-critical");
    match Qos::of(pod) {
        _ if critical => GUARANTEED_SCORE,
        Qos::Guaranteed => GUARANTEED_SCORE,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = request(container, "memory").map_or(0, |amount| amount.value());
            let score = 1000 - request.saturating_mul(1000) / memory_capacity.max(1);
            // Never as safe as a guaranteed pod, never as exposed as one that asked for nothing.
            score.clamp(1000 + GUARANTEED_SCORE, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        let check = |resources: serde_json::Value, class: &str| {
            let pod = pod(json!([{"name": "a", "resources": resources}]));
            assert_eq!(Qos::of(&pod).name(), class, "{resources}");
        };
        check(json!({}), "BestEffort");
        check(json!({"requests": {"cpu": "0"}}), "BestEffort");
        check(json!({"requests": {"ephemeral-storage": "1Gi"}}), "BestEffort");
        check(json!({"requests": {"cpu": "1"}}), "Burstable");
        check(json!({"limits": {"cpu": "1"}}), "Burstable");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed");
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}), "Guaranteed");
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}),
            "Burstable",
        );
        let mixed = pod(
            json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}, {"name": "b"}]),
        );
        assert_eq!(Qos::of(&mixed), Qos::Burstable);
    }

    #[test]
    fn a_containers_numbers() {
        let check = |resources: serde_json::Value, shares, quota, memory, score| {
            let pod = pod(json!([{"name": "a", "resources": resources}]));
            let found = of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], 10 << 30);
            let expected = (Some(shares), quota, memory, score);
            assert_eq!(
                (found.cpu_shares, found.cpu_quota, found.memory_limit, found.oom_score_adj),
                expected,
                "{resources}"
            );
        };
        check(json!({}), 2, None, None, 1000);
        check(json!({"requests": {"cpu": "500m", "memory": "1Gi"}}), 512, None, None, 900);
        check(json!({"limits": {"cpu": "250m"}}), 256, Some(25_000), None, 999);
        check(json!({"limits": {"cpu": "1m"}}), 2, Some(1000), None, 999);
        check(json!({"limits": {"cpu": "2", "memory": "1Gi"}}), 2048, Some(200_000), Some(1 << 30), -997);
        check(json!({"requests": {"memory": "100Gi"}}), 2, None, None, 3);
    }

    #[test]
    fn a_pod_is_limited_where_all_its_containers_are() {
        let limited = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let found =
            of_pod(&pod(json!([{"name": "a", "resources": limited}, {"name": "b", "resources": limited}])));
        assert_eq!(
            (found.cpu_shares, found.cpu_quota, found.memory_limit),
            (Some(2048), Some(200_000), Some(2 << 30))
        );
        let found = of_pod(&pod(json!([{"name": "a", "resources": limited}, {"name": "b"}])));
        assert_eq!((found.cpu_shares, found.cpu_quota, found.memory_limit), (Some(1024), None, None));
    }
}
