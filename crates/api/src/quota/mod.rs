//! What objects take of a ResourceQuota: admission reserves by it, and a controller counts by it, so that both must say the
//! same. Trees in, amounts out; the rules are upstream's evaluators'.

mod claims;
mod pods;
mod scopes;
mod services;

use std::collections::BTreeMap;

use apimachinery::gvk::GroupResource;
use apimachinery::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Map, Value};

pub use pods::{limits, missing, requests};
pub use scopes::selects;

/// Amounts by name.
pub type Amounts = BTreeMap<String, Quantity>;

const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";

/// Resources that quotas have always counted under their own name.
const COUNTED: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// The name by which a quota counts objects of a resource: `count/deployments.apps`.
pub fn count_name(resource: &GroupResource) -> String {
    if resource.group.is_empty() {
        format!("count/{}", resource.resource)
    } else {
        format!("count/{}.{}", resource.resource, resource.group)
    }
}

/// How much an object of that resource takes, of everything that a quota may name.
pub fn usage(resource: &GroupResource, object: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::from([(count_name(resource), one)]);
    match core(resource) {
        Some("pods") => pods::add(&mut used, object, now),
        Some("services") => services::add(&mut used, object),
        Some("persistentvolumeclaims") => claims::add(&mut used, object),
        Some(plural) if COUNTED.contains(&plural) => {
            used.insert(plural.to_owned(), one);
        }
        _ => {}
    }
    used
}

/// Whether a quota that names this has to do with objects of that resource.
pub fn concerns(resource: &GroupResource, name: &str) -> bool {
    if name == count_name(resource) {
        return true;
    }
    match core(resource) {
        Some("pods") => pods::concerns(name),
        Some("services") => services::NAMES.contains(&name),
        Some("persistentvolumeclaims") => claims::concerns(name),
        Some(plural) => COUNTED.contains(&plural) && plural == name,
        None => false,
    }
}

/// The plural of a resource of the legacy group.
fn core(resource: &GroupResource) -> Option<&str> {
    Some(&*resource.resource).filter(|_| resource.group.is_empty())
}

/// The amounts that an object of names and texts holds; what is no amount is left out.
pub fn amounts(tree: Option<&Value>) -> Amounts {
    let entries = tree.and_then(Value::as_object).into_iter().flatten();
    let read = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.parse().ok()?));
    entries.filter_map(read).collect()
}

/// The same amounts as an object of names and texts.
pub fn tree(amounts: &Amounts) -> Value {
    let entries = amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
    Value::Object(entries.collect::<Map<String, Value>>())
}

/// Adds each amount.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        sum.entry(name.clone()).and_modify(|known| *known = *known + *amount).or_insert(*amount);
    }
}

/// Raises each amount to the other.
fn raise(amounts: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        amounts.entry(name.clone()).and_modify(|known| *known = (*known).max(*amount)).or_insert(*amount);
    }
}

fn at<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, name| value.get(*name))
}

fn text<'a>(tree: &'a Value, path: &[&str]) -> &'a str {
    at(tree, path).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    at(tree, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(plural: &'static str, object: Value) -> Value {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        tree(&usage(&GroupResource::of("", plural), &object, now))
    }

    #[test]
    fn a_pod_takes_what_it_needs_at_its_hungriest_moment() {
        let container =
            |cpu: &str| json!({"name": cpu, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "2"}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m", "nvidia.com/gpu": "1"}}});
        let spec = json!({
            "containers": [container("200m"), container("300m")],
            "initContainers": [sidecar, container("900m")],
            "overhead": {"cpu": "10m", "memory": "8Mi"},
        });
        let expected = json!({
            "count/pods": "1", "pods": "1", "cpu": "1010m", "requests.cpu": "1010m", "limits.cpu": "4010m",
            "memory": "8Mi", "requests.memory": "8Mi", "requests.nvidia.com/gpu": "1",
        });
        assert_eq!(used("pods", json!({"spec": spec})), expected);
        let ended = json!({"spec": spec, "status": {"phase": "Succeeded"}});
        assert_eq!(used("pods", ended), json!({"count/pods": "1"}));
        let overdue = json!({"spec": spec, "metadata": {
            "deletionTimestamp": "2025-12-31T00:00:00Z", "deletionGracePeriodSeconds": 30}});
        assert_eq!(used("pods", overdue), json!({"count/pods": "1"}));
    }

    #[test]
    fn what_is_asked_for_the_pod_as_a_whole_takes_the_place_of_its_parts() {
        let spec = json!({"containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
            "resources": {"requests": {"cpu": "3"}}});
        let expected = json!({"count/pods": "1", "pods": "1", "cpu": "3", "requests.cpu": "3", "memory": "1Gi", "requests.memory": "1Gi"});
        assert_eq!(used("pods", json!({"spec": spec})), expected);
    }

    #[test]
    fn services_and_claims_are_counted_by_kind_and_class() {
        let balanced =
            json!({"spec": {"type": "LoadBalancer", "ports": [{"nodePort": 30000}, {"nodePort": 30001}]}});
        let expected = json!({"count/services": "1", "services": "1", "services.loadbalancers": "1", "services.nodeports": "2"});
        assert_eq!(used("services", balanced), expected);
        let without = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{}, {"nodePort": 30000}]}});
        assert_eq!(used("services", without)["services.nodeports"], "1");
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1500m"}}},
            "status": {"allocatedResources": {"storage": "3"}}});
        let expected = json!({
            "count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "3",
            "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "fast.storageclass.storage.k8s.io/requests.storage": "3",
        });
        assert_eq!(used("persistentvolumeclaims", claim), expected);
        assert_eq!(used("secrets", json!({})), json!({"count/secrets": "1", "secrets": "1"}));
    }

    #[test]
    fn a_quota_concerns_what_it_names() {
        let of = |group, plural, name: &str| concerns(&GroupResource::of(group, plural), name);
        for name in ["cpu", "limits.memory", "pods", "count/pods", "hugepages-2Mi", "requests.nvidia.com/gpu"]
        {
            assert!(of("", "pods", name), "{name}");
        }
        assert!(!of("", "pods", "services") && !of("", "pods", "requests.storage"));
        assert!(of("", "persistentvolumeclaims", "fast.storageclass.storage.k8s.io/requests.storage"));
        assert!(of("apps", "deployments", "count/deployments.apps"));
        assert!(!of("", "deployments", "count/deployments.apps") && !of("apps", "secrets", "secrets"));
    }
}
