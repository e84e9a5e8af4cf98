//! Requests and limits, as the kernel understands them. Numbers and rounding are upstream's.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{Container, Pod, ResourceRequirements};
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
        let amounts = |from: Option<&ResourceRequirements>| {
            let (requests, limits) =
                from.map_or((None, None), |from| (from.requests.as_ref(), from.limits.as_ref()));
            ["cpu", "memory"].map(|name| (amount(requests, name), amount(limits, name)))
        };
        let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
        let parts: Vec<_> = match whole {
            // What the pod as a whole is given says it all.
            Some(whole) => vec![amounts(Some(whole))],
            None => containers.iter().map(|container| amounts(container.spec.resources.as_ref())).collect(),
        };
        let set = |amount: &Option<Quantity>| amount.is_some_and(|amount| !amount.is_zero());
        let any = parts.iter().flatten().any(|(request, limit)| set(request) || set(limit));
        if !any {
            return Qos::BestEffort;
        }
        let guaranteed = |(request, limit): &(Option<Quantity>, Option<Quantity>)| {
            set(limit) && (request.is_none() || request == limit)
        };
        if parts.iter().flatten().all(guaranteed) { Qos::Guaranteed } else { Qos::Burstable }
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

/// A weight of control groups v1 from thousandths of CPUs.
pub(crate) fn shares(milli: i64) -> u64 {
    let milli = u64::try_from(milli).unwrap_or(0);
    (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Thousandths of CPUs from a weight, rounded up.
pub(crate) fn milli_of_shares(shares: u64) -> i64 {
    i64::try_from(shares.saturating_mul(1000).div_ceil(1024)).unwrap_or(i64::MAX)
}

/// Thousandths of CPUs from a quota.
pub(crate) fn milli_of_quota(quota: i64, period: u64) -> i64 {
    quota.saturating_mul(1000) / i64::try_from(period).unwrap_or(i64::MAX).max(1)
}

/// Thousandths of CPUs, whole units of anything else.
pub(crate) fn in_units(name: &str, amount: &Quantity) -> i64 {
    if name == "cpu" { amount.milli_value() } else { amount.value() }
}

/// What a pod asks for of one resource: the most that it has in use at one time, in [`in_units`].
pub(crate) fn pod_request(pod: &Pod, name: &str) -> i64 {
    together(pod, name, |amount| in_units(name, amount)).0
}

/// Microseconds a period from thousandths of CPUs.
pub(crate) fn quota(milli: i64) -> i64 {
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

/// The limits of a pod's own cgroup: what its containers may use together, where each of them has a limit, or what the
/// pod as a whole was given.
pub(crate) fn of_pod(pod: &Pod) -> Resources {
    let (cpu_request, cpu_limit) = together(pod, "cpu", Quantity::milli_value);
    let (_, memory_limit) = together(pod, "memory", Quantity::value);
    resources(cpu_request, cpu_limit, memory_limit)
}

/// What a pod asks for of one resource, and what it may use.
fn together(pod: &Pod, name: &str, value: impl Fn(&Quantity) -> i64) -> (i64, Option<i64>) {
    let members: Vec<_> = containers::all(pod).filter(|found| found.kind != Kind::Ephemeral).collect();
    let limit_of =
        |member: &PodContainer<'_>| limit(&member.spec, name).as_ref().map(&value).and_then(positive);
    let request_of = |member: &PodContainer<'_>| request(&member.spec, name).as_ref().map(&value);
    let requests = members.iter().map(|one| (one.kind, request_of(one).or(limit_of(one)).unwrap_or(0)));
    let limits: Option<Vec<_>> = members.iter().map(|one| Some((one.kind, limit_of(one)?))).collect();
    let (request, limit) = (at_once(requests), limits.map(|limits| at_once(limits.into_iter())));

    let spec = pod.spec.as_ref();
    let whole = spec.and_then(|spec| spec.resources.as_ref());
    let whole_limit = amount(whole.and_then(|whole| whole.limits.as_ref()), name);
    let whole_request = amount(whole.and_then(|whole| whole.requests.as_ref()), name).or(whole_limit);
    let overhead = amount(spec.and_then(|spec| spec.overhead.as_ref()), name).as_ref().map_or(0, &value);
    let request = whole_request.as_ref().map_or(request, &value);
    let limit = whole_limit.as_ref().map(&value).and_then(positive).or(limit);
    (request.saturating_add(overhead), limit.map(|limit| limit.saturating_add(overhead)))
}

/// The most that is in use at one time: each init container runs beside the sidecars before it, and in the end the others
/// run beside all sidecars. In the order in which they begin.
fn at_once(amounts: impl Iterator<Item = (Kind, i64)>) -> i64 {
    let (mut sidecars, mut apps, mut peak) = (0_i64, 0_i64, 0_i64);
    for (kind, amount) in amounts {
        match kind {
            Kind::Init => peak = peak.max(sidecars.saturating_add(amount)),
            Kind::Sidecar => sidecars = sidecars.saturating_add(amount),
            Kind::App => apps = apps.saturating_add(amount),
            Kind::Ephemeral => {}
        }
    }
    peak.max(sidecars.saturating_add(apps))
}

fn oom_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref())
        == Some("system-node-critical");
    match Qos::of(pod) {
        _ if critical => GUARANTEED_SCORE,
        Qos::Guaranteed => GUARANTEED_SCORE,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let score = |bytes: i64| 1000 - bytes.saturating_mul(1000) / memory_capacity.max(1);
            let own = score(memory_request(container).saturating_add(undivided(pod)));
            let score = match least_of_apps(pod, container) {
                // A sidecar serves the others, so it does not go before them.
                Some(least) => own.min(score(least)),
                None => own,
            };
            // Never as safe as a guaranteed pod, never as exposed as one that asked for nothing.
            score.clamp(1000 + GUARANTEED_SCORE, 999)
        }
    }
}

fn memory_request(container: &Container) -> i64 {
    request(container, "memory").map_or(0, |amount| amount.value())
}

/// For a sidecar, the least that an ordinary container of its pod asks for.
fn least_of_apps(pod: &Pod, container: &Container) -> Option<i64> {
    let kind = containers::find(pod, &container.name)?.kind;
    let apps = containers::all(pod).filter(|found| found.kind == Kind::App);
    apps.map(|app| memory_request(&app.spec)).min().filter(|_| kind == Kind::Sidecar)
}

/// What the pod as a whole asks for beyond what its containers do, for each of them.
fn undivided(pod: &Pod) -> i64 {
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let Some(whole) = amount(whole, "memory").map(|amount| amount.value()) else { return 0 };
    let members: Vec<_> = containers::all(pod)
        .filter(|found| matches!(found.kind, Kind::App | Kind::Sidecar))
        .map(|found| memory_request(&found.spec))
        .collect();
    let divided = members.iter().fold(0_i64, |sum, request| sum.saturating_add(*request));
    whole.saturating_sub(divided).max(0) / i64::try_from(members.len().max(1)).unwrap_or(1)
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
    fn a_sidecar_is_killed_for_memory_no_sooner_than_those_it_serves() {
        let asks =
            |name: &str, amount: &str| json!({"name": name, "resources": {"requests": {"memory": amount}}});
        let mut sidecar = asks("s", "1Mi");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"initContainers": [sidecar], "containers": [asks("a", "5Gi"), asks("b", "2Gi")]});
        let score = |spec: &serde_json::Value, name: &str| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            let found = containers::find(&pod, name).unwrap().spec.into_owned();
            of_container(&pod, &found, 10 << 30).oom_score_adj
        };
        assert_eq!(["s", "a", "b"].map(|name| score(&spec, name)), [800, 500, 800]);
        let whole = json!({"resources": {"requests": {"memory": "6Gi"}}, "containers": [asks("a", "1Gi"), {"name": "b"}]});
        // 5 GiB that nobody has named are shared by two.
        assert_eq!(["a", "b"].map(|name| score(&whole, name)), [650, 750]);
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

    #[test]
    fn a_pod_has_what_is_in_use_at_one_time() {
        let check = |spec: serde_json::Value, expected: (u64, Option<i64>)| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            let found = of_pod(&pod);
            assert_eq!((found.cpu_shares.unwrap(), found.memory_limit), expected, "{pod:?}");
        };
        let of = |name: &str, cpu: i64, memory: i64| {
            let amounts = json!({"cpu": cpu.to_string(), "memory": memory.to_string()});
            json!({"name": name, "resources": {"limits": amounts}})
        };
        let side = |name: &str, cpu: i64, memory: i64| {
            let mut sidecar = of(name, cpu, memory);
            sidecar["restartPolicy"] = json!("Always");
            sidecar
        };
        let inits = json!([side("s", 1, 10), of("i", 1, 100), side("t", 1, 20), of("j", 4, 50)]);
        // While j runs: 1 + 1 + 4 CPUs; memory is most in use while i runs: 10 + 100.
        check(json!({"initContainers": inits, "containers": [of("a", 2, 5)]}), (6 * 1024, Some(110)));
        check(json!({"initContainers": inits, "containers": [of("a", 7, 90)]}), (9 * 1024, Some(120)));
        let unlimited = json!({"name": "u", "restartPolicy": "Always"});
        check(json!({"initContainers": [unlimited], "containers": [of("a", 1, 90)]}), (1024, None));
        let whole = json!({"limits": {"cpu": "3", "memory": "7"}, "requests": {"cpu": "2"}});
        check(json!({"resources": whole, "containers": [{"name": "a"}]}), (2 * 1024, Some(7)));
        let overhead = json!({"cpu": "1", "memory": "3"});
        check(json!({"overhead": overhead, "containers": [of("a", 1, 90)]}), (2 * 1024, Some(93)));
        let guaranteed = json!({"limits": {"cpu": "3", "memory": "7"}});
        let pod = json!({"spec": {"resources": guaranteed, "containers": [{"name": "a"}]}});
        assert_eq!(Qos::of(&serde_json::from_value(pod).unwrap()), Qos::Guaranteed);
    }
}
