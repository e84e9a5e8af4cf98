//! A node that runs short takes no more pods than it has to.

use api::k8s::api::core::v1::{Pod, Taint};
use api::taints::tolerates;

use crate::eviction::{Pressure, is_critical};
use crate::pod::memory::{EVICTED, Waiting};
use crate::resources::Qos;

/// Why a node under this pressure does not take a pod. One that is short of memory alone takes those that say what they
/// need; critical ones, and the node's own (`fixed`), are always taken.
pub(crate) fn refusal(pod: &Pod, pressure: &Pressure, fixed: bool) -> Option<Waiting> {
    if pressure.is_empty() || is_critical(pod, fixed) {
        return None;
    }
    if pressure.iter().eq(["MemoryPressure"].iter()) {
        let taint = Taint {
            key: "node.kubernetes.io/memory-pressure".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let mut tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
        if Qos::of(pod) != Qos::BestEffort || tolerations.any(|one| tolerates(one, &taint)) {
            return None;
        }
    }
    let held = pressure.iter().copied().collect::<Vec<_>>().join(" ");
    Some(super::rejected(EVICTED, format!("The node had condition: [{held}]. ")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn who_is_taken_depends_on_what_is_short() {
        let check = |pod: Value, pressure: &[&'static str], expected: Option<&str>| {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let found = refusal(&pod, &pressure.iter().copied().collect(), false);
            assert_eq!(refusal(&pod, &pressure.iter().copied().collect(), true), None);
            let expected = expected.map(|held| {
                Waiting::new("Evicted", format!("Pod was rejected: The node had condition: [{held}]. "))
            });
            assert_eq!(found, expected, "{pod:?} {pressure:?}");
        };
        let with = |resources: Value, rest: Value| {
            let mut spec = json!({"containers": [{"name": "c", "resources": resources}]});
            spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({"metadata": {"uid": "u"}, "spec": spec})
        };
        let (memory, disk) = ("MemoryPressure", "DiskPressure");
        let asks = json!({"requests": {"memory": "1"}});
        check(with(json!({}), json!({})), &[], None);
        check(with(json!({}), json!({})), &[memory], Some(memory));
        check(with(asks.clone(), json!({})), &[memory], None);
        check(with(asks.clone(), json!({})), &[disk], Some(disk));
        check(with(asks, json!({})), &[disk, memory], Some("DiskPressure MemoryPressure"));
        let tolerant = |key: &str| json!({"tolerations": [{"key": key, "operator": "Exists"}]});
        check(with(json!({}), tolerant("node.kubernetes.io/memory-pressure")), &[memory], None);
        check(with(json!({}), tolerant("node.kubernetes.io/disk-pressure")), &[disk], Some(disk));
        check(with(json!({}), json!({"priority": 2_000_000_000})), &[memory, disk], None);
    }
}
