//! Which endpoints are meant for which zone where a Service leaves it to the plane (`service.kubernetes.io/topology-mode:
//! Auto`): to each zone as many as it has of the nodes' CPU, first those that are there. Upstream's rules and words.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::quantity::Quantity;
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};

/// Where a Service says so; the first, if it is there, is the one that counts.
const ANNOTATIONS: [&str; 2] =
    ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];
/// Nodes of the plane's own do not count.
const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// So much more than its part of the load may an endpoint have to take.
const OVERLOAD: f64 = 0.2;
const ZONE: &str = "topology.kubernetes.io/zone";

/// The part of all CPU that each zone has.
pub type Shares = BTreeMap<String, f64>;

/// Whether a Service leaves it to the plane.
pub(crate) fn is_auto(service: &Service) -> bool {
    let annotations = service.annotations();
    let mode = ANNOTATIONS.iter().find_map(|name| annotations.get(*name));
    mode.is_some_and(|mode| matches!(mode.as_str(), "Auto" | "auto"))
}

/// The zone of a node.
pub(crate) fn zone(node: &Node) -> Option<&str> {
    node.labels().get(ZONE).map(String::as_str)
}

/// What a node counts for, its zone and its CPU in thousandths of one, if it counts.
pub(crate) fn counted(node: &Node) -> Option<(&str, i64)> {
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !is_ready || EXCLUDED.iter().any(|label| node.labels().contains_key(*label)) {
        return None;
    }
    let cpu = status.allocatable.as_ref().and_then(|all| all.get("cpu"));
    let cpu = cpu.and_then(|cpu| cpu.0.parse::<Quantity>().ok()).map_or(0, |cpu| cpu.milli_value());
    Some((zone(node).unwrap_or_default(), cpu))
}

/// The zones' shares; `None` if they are not known of all nodes, or there are fewer than two zones.
pub(crate) fn shares(nodes: &[Arc<Node>]) -> Option<Shares> {
    let mut zones: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, cpu) in nodes.iter().filter_map(|node| counted(node)) {
        if zone.is_empty() || cpu <= 0 {
            return None;
        }
        *zones.entry(zone.to_owned()).or_default() += cpu;
    }
    let total: i64 = zones.values().sum();
    let share = |(zone, cpu): (String, i64)| (zone, cpu as f64 / total as f64);
    (zones.len() > 1).then(|| zones.into_iter().map(share).collect())
}

/// Says of each ready endpoint of these slices, which are one family's, for which zone it is meant. Or says why there are to
/// be no hints, and leaves none.
pub(crate) fn hint(slices: &mut [EndpointSlice], shares: Option<&Shares>) -> Result<(), String> {
    let all = slices.iter_mut().flat_map(|slice| slice.endpoints.iter_mut().flatten());
    let mut ready: Vec<&mut Endpoint> = all
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true))
        .collect();
    let desired = desired(shares, ready.len())?;
    let mut present: BTreeMap<String, usize> = BTreeMap::new();
    for endpoint in &ready {
        let zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty());
        let zone = zone.ok_or("One or more endpoints do not have a zone specified")?;
        *present.entry(zone.to_owned()).or_default() += 1;
    }
    let (mut giving, mut receiving) = moves(&desired, &present);
    for endpoint in &mut ready {
        let mut name = endpoint.zone.clone().unwrap_or_default();
        if take(&mut giving, &name)
            && let Some(other) = receiving.iter().find(|(_, left)| **left > 0).map(|(zone, _)| zone.clone())
        {
            take(&mut receiving, &other);
            name = other;
        }
        endpoint.hints = Some(EndpointHints { for_zones: Some(vec![ForZone { name }]), for_nodes: None });
    }
    Ok(())
}

/// One less of what is left for a zone, if anything is.
fn take(left: &mut BTreeMap<String, usize>, zone: &str) -> bool {
    match left.get_mut(zone) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

/// How many endpoints each zone should have; or why that cannot be.
fn desired(shares: Option<&Shares>, endpoints: usize) -> Result<BTreeMap<String, f64>, String> {
    let shares = shares
        .ok_or("Insufficient Node information: allocatable CPU or zone not specified on one or more nodes")?;
    let zones = shares.len();
    let counts = format!("({endpoints} endpoints, {zones} zones)");
    if zones > endpoints {
        return Err(format!("Insufficient number of endpoints {counts}"));
    }
    let least = |share: &f64| (share * endpoints as f64 * (1.0 / (1.0 + OVERLOAD))).ceil();
    if shares.values().map(least).sum::<f64>() > endpoints as f64 {
        let why =
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";
        return Err(format!("{why} {counts}"));
    }
    let desired = shares.iter().map(|(zone, share)| {
        let part = share * endpoints as f64;
        (zone.clone(), part.max(least(share)))
    });
    Ok(desired.collect())
}

/// How many endpoints zones give to others, and how many they are given.
fn moves(
    desired: &BTreeMap<String, f64>,
    present: &BTreeMap<String, usize>,
) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut surplus, mut lack) = (BTreeMap::new(), BTreeMap::new());
    for (zone, desired) in desired {
        let beyond = present.get(zone).copied().unwrap_or(0) as f64 - desired;
        if beyond > 0.0 {
            surplus.insert(zone.clone(), beyond);
        } else if beyond < 0.0 {
            lack.insert(zone.clone(), -beyond);
        }
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    // Halves are moved only towards, or from, where a whole one is.
    while let (Some((from, more)), Some((to, less))) = (most(&mut surplus), most(&mut lack)) {
        if (*more < 1.0 && *less < 1.0) || *more < 0.5 || *less < 0.5 {
            break;
        }
        (*more, *less) = (*more - 1.0, *less - 1.0);
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
    }
    (giving, receiving)
}

fn most(zones: &mut BTreeMap<String, f64>) -> Option<(&String, &mut f64)> {
    zones.iter_mut().max_by(|(_, one), (_, other)| one.total_cmp(other))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn node(zone: &str, cpu: &str, ready: &str) -> Value {
        json!({
            "metadata": {"name": "n", "labels": {ZONE: zone}},
            "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]},
        })
    }

    fn shares_of(nodes: &[Value]) -> Option<Vec<(String, f64)>> {
        let nodes: Vec<Arc<Node>> =
            nodes.iter().map(|node| Arc::new(from_value(node.clone()).unwrap())).collect();
        shares(&nodes).map(|shares| shares.into_iter().collect())
    }

    #[test]
    fn zones_count_by_the_cpu_of_their_ready_nodes() {
        let (a, b) = (node("a", "1", "True"), node("b", "3000m", "True"));
        let both = Some(vec![("a".to_owned(), 0.25), ("b".to_owned(), 0.75)]);
        assert_eq!(shares_of(&[a.clone(), b.clone()]), both);
        // What is not ready, or is the plane's own, does not count.
        let mut control = node("", "0", "True");
        control["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("");
        assert_eq!(shares_of(&[a.clone(), b.clone(), node("", "9", "False"), control]), both);
        // Of one that counts, all has to be known.
        assert_eq!(shares_of(&[a.clone(), b.clone(), node("", "9", "True")]), None);
        assert_eq!(shares_of(&[a.clone(), b, node("c", "0", "True")]), None);
        assert_eq!(shares_of(&[a.clone(), a]), None);
    }

    /// The zones that ready endpoints in these zones are meant for.
    fn check(shares: &[(&str, f64)], zones: &str, expected: Result<&str, &str>) {
        let shares: Shares = shares.iter().map(|(zone, share)| ((*zone).to_owned(), *share)).collect();
        let endpoints: Vec<Value> = zones
            .chars()
            .map(|zone| match zone {
                '!' => json!({"addresses": ["10.0.0.1"], "zone": "a", "conditions": {"ready": false}}),
                '-' => json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}}),
                zone => json!({"addresses": ["10.0.0.1"], "zone": zone.to_string(), "conditions": {"ready": true}}),
            })
            .collect();
        let slice = json!({"addressType": "IPv4", "endpoints": endpoints, "ports": []});
        let mut slices: Vec<EndpointSlice> = vec![from_value(slice).unwrap()];
        let done = hint(&mut slices, Some(&shares));
        let hinted: String = slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .map(|endpoint| {
                let hints = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
                hints.map_or("!", |zones| zones[0].name.as_str())
            })
            .collect();
        match expected {
            Ok(expected) => assert_eq!((done, hinted.as_str()), (Ok(()), expected), "{zones}"),
            Err(why) => {
                assert!(done.as_ref().is_err_and(|error| error.contains(why)), "{zones}: {done:?}");
                assert!(hinted.chars().all(|zone| zone == '!'), "{hinted}");
            }
        }
    }

    #[test]
    fn endpoints_are_meant_for_zones_by_their_shares() {
        let halves = &[("a", 0.5), ("b", 0.5)][..];
        check(halves, "aabb", Ok("aabb"));
        check(halves, "aaaa", Ok("bbaa"));
        check(halves, "aa!ab", Ok("ba!ab"));
        check(&[("a", 0.25), ("b", 0.75)], "aabb", Ok("babb"));
        // Less than half an endpoint is not worth it.
        let uneven = &[("a", 0.4), ("b", 0.6)][..];
        check(uneven, "aabb", Ok("aabb"));
        check(uneven, "abbb", Ok("aabb"));
        // A zone that no node counts for keeps its own.
        check(halves, "caab", Ok("caab"));
        check(halves, "a", Err("Insufficient number of endpoints (1 endpoints, 2 zones)"));
        check(halves, "aab-", Err("do not have a zone specified"));
        check(halves, "aab", Err("exceeding overload threshold (3 endpoints, 2 zones)"));
        let mut none: [EndpointSlice; 0] = [];
        assert!(hint(&mut none, None).is_err_and(|why| why.starts_with("Insufficient Node information")));
    }
}
