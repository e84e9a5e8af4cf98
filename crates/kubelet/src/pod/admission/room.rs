//! Whether there is room for a pod beside those that the node has taken already.

use std::collections::BTreeMap;

use api::k8s::api::core::v1::{ContainerPort, Pod};
use apimachinery::quantity::Quantity;

use crate::pod::containers;
use crate::pod::memory::Waiting;
use crate::resources;

/// Why there is none: the first resource that does not suffice, in upstream's order.
pub(crate) fn refusal(
    pod: &Pod,
    others: &[Pod],
    allocatable: &BTreeMap<String, Quantity>,
) -> Option<Waiting> {
    let counted = |name: &str, requested: i64, used: i64| {
        let capacity = resources::in_units(name, &allocatable.get(name).copied().unwrap_or_default());
        (requested > 0 && requested > capacity.saturating_sub(used)).then(|| {
            super::rejected(
                &format!("OutOf{name}"),
                format!(
                    "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
                ),
            )
        })
    };
    let summed = |name: &str| {
        let used = others.iter().map(|other| resources::pod_request(other, name));
        counted(name, resources::pod_request(pod, name), used.fold(0, i64::saturating_add))
    };
    let pages = allocatable.keys().map(String::as_str).filter(|name| name.starts_with("hugepages-"));
    counted("pods", 1, i64::try_from(others.len()).unwrap_or(i64::MAX))
        .or_else(|| ["cpu", "memory", "ephemeral-storage"].into_iter().chain(pages).find_map(summed))
}

/// Why a pod does not get the ports of the node that it asks for.
pub(crate) fn ports(pod: &Pod, others: &[Pod]) -> Option<Waiting> {
    let wanted: Vec<_> = host_ports(pod).collect();
    let mut taken = others.iter().flat_map(host_ports);
    let clash = |one: &(String, String, i32), other: &(String, String, i32)| {
        let everywhere = |address: &str| address.is_empty() || address == "0.0.0.0" || address == "::";
        let same = one.0 == other.0 || everywhere(&one.0) || everywhere(&other.0);
        same && one.1 == other.1 && one.2 == other.2
    };
    taken.any(|taken| wanted.iter().any(|wanted| clash(wanted, &taken))).then(|| {
        let why = "node(s) didn't have free ports for the requested pod ports";
        super::rejected("NodePorts", format!("Predicate NodePorts failed: {why}"))
    })
}

/// Address, protocol and number of each.
fn host_ports(pod: &Pod) -> impl Iterator<Item = (String, String, i32)> {
    let of = |port: ContainerPort| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let protocol = port.protocol.unwrap_or_else(|| "TCP".to_owned());
        Some((port.host_ip.unwrap_or_default(), protocol, number))
    };
    containers::all(pod).flat_map(|one| one.spec.ports.clone().unwrap_or_default()).filter_map(of)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(container: Value) -> Pod {
        let mut container = container;
        container["name"] = json!("c");
        serde_json::from_value(json!({"spec": {"containers": [container]}})).unwrap()
    }

    fn asks(name: &str, amount: &str) -> Pod {
        pod(json!({"resources": {"requests": {name: amount}}}))
    }

    #[test]
    fn what_does_not_suffice_is_named() {
        let allocatable: BTreeMap<String, Quantity> =
            [("cpu", "2"), ("memory", "1Ki"), ("ephemeral-storage", "10"), ("pods", "3")]
                .map(|(name, amount)| (name.to_owned(), amount.parse().unwrap()))
                .into();
        let check = |pod: Pod, others: &[Pod], expected: Option<(&str, &str)>| {
            let words = "Pod was rejected: Node didn't have enough resource: ";
            let expected = expected.map(|(reason, why)| Waiting::new(reason, format!("{words}{why}")));
            assert_eq!(refusal(&pod, others, &allocatable), expected);
        };
        check(asks("cpu", "1"), &[asks("cpu", "1")], None);
        check(
            asks("cpu", "1001m"),
            &[asks("cpu", "1")],
            Some(("OutOfcpu", "cpu, requested: 1001, used: 1000, capacity: 2000")),
        );
        check(
            asks("memory", "2Ki"),
            &[],
            Some(("OutOfmemory", "memory, requested: 2048, used: 0, capacity: 1024")),
        );
        check(
            asks("ephemeral-storage", "1"),
            &[asks("ephemeral-storage", "10")],
            Some(("OutOfephemeral-storage", "ephemeral-storage, requested: 1, used: 10, capacity: 10")),
        );
        // Nothing asked for fits where others take too much already.
        check(asks("cpu", "0"), &[asks("cpu", "5")], None);
        let many = [asks("cpu", "0"), asks("cpu", "0"), asks("cpu", "0")];
        check(asks("cpu", "0"), &many, Some(("OutOfpods", "pods, requested: 1, used: 3, capacity: 3")));
        check(asks("example.com/gpu", "1"), &[], None);
    }

    #[test]
    fn a_port_of_the_node_is_had_once() {
        let of = |port: Value| pod(json!({"ports": [port]}));
        let first = of(json!({"containerPort": 1, "hostPort": 80}));
        let check = |port: Value, free: bool| {
            assert_eq!(ports(&of(port.clone()), std::slice::from_ref(&first)).is_none(), free, "{port}");
        };
        check(json!({"containerPort": 1}), true);
        check(json!({"containerPort": 1, "hostPort": 81}), true);
        check(json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}), true);
        check(json!({"containerPort": 1, "hostPort": 80}), false);
        check(json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}), false);
    }
}
