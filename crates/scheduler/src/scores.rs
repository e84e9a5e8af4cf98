//! Which of the nodes that can take a pod should. Every score is between 0 and 100; weights are upstream's.

use crate::pod::PodFacts;
use crate::snapshot::{NodeInfo, Snapshot};
use api::node_selector::term_matches;
use api::taints::tolerates;
use std::collections::HashSet;

const FIT_WEIGHT: i64 = 1;
const BALANCE_WEIGHT: i64 = 1;
const TAINT_WEIGHT: i64 = 3;
const AFFINITY_WEIGHT: i64 = 2;
const SPREAD_WEIGHT: i64 = 2;
/// Upstream's default constraints: how uneven nodes and zones may get before it matters.
const NODE_SKEW: f64 = 3.0;
const ZONE_SKEW: f64 = 5.0;

/// The total for each of the nodes (by number), in their order.
pub(crate) fn total(pod: &PodFacts, snapshot: &Snapshot, feasible: &[usize]) -> Vec<i64> {
    let nodes: Vec<&NodeInfo> = feasible.iter().map(|at| &snapshot.nodes[*at]).collect();
    let taints = reversed(nodes.iter().map(|node| undesired(pod, node)).collect());
    let affinity = normal(nodes.iter().map(|node| attraction(pod, node)).collect());
    let spread = spreading(pod, snapshot, feasible);
    let sum = |(at, node): (usize, &&NodeInfo)| {
        FIT_WEIGHT * least_allocated(pod, node)
            + BALANCE_WEIGHT * balanced(pod, node)
            + TAINT_WEIGHT * taints[at]
            + AFFINITY_WEIGHT * affinity[at]
            + SPREAD_WEIGHT * spread[at]
    };
    nodes.iter().enumerate().map(sum).collect()
}

fn least_allocated(pod: &PodFacts, node: &NodeInfo) -> i64 {
    let free = |have: i64, taken: i64| {
        if have <= 0 || taken > have { 0 } else { (have - taken).saturating_mul(100) / have }
    };
    let cpu = free(node.allocatable.milli_cpu, node.likely.0 + pod.likely.0);
    let memory = free(node.allocatable.memory, node.likely.1 + pod.likely.1);
    (cpu + memory) / 2
}

fn balanced(pod: &PodFacts, node: &NodeInfo) -> i64 {
    let share = |have: i64, taken: i64| if have <= 0 { 1.0 } else { (taken as f64 / have as f64).min(1.0) };
    let cpu = share(node.allocatable.milli_cpu, node.requested.milli_cpu + pod.requests.milli_cpu);
    let memory = share(node.allocatable.memory, node.requested.memory + pod.requests.memory);
    ((1.0 - (cpu - memory).abs() / 2.0) * 100.0) as i64
}

/// Taints that the node would rather keep pods away by, and this pod does not tolerate.
fn undesired(pod: &PodFacts, node: &NodeInfo) -> i64 {
    let soft = node.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    let count =
        soft.filter(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint))).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn attraction(pod: &PodFacts, node: &NodeInfo) -> i64 {
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let matching = preferred.into_iter().flatten().filter(|term| {
        let empty = term.preference.match_expressions.is_none() && term.preference.match_fields.is_none();
        empty || term_matches(&term.preference, &node.labels, &node.name)
    });
    matching.map(|term| i64::from(term.weight)).sum()
}

/// Upstream's spreading score by node and zone: many of the group in a place make it costly, more so where places are
/// many.
fn spreading(pod: &PodFacts, snapshot: &Snapshot, feasible: &[usize]) -> Vec<i64> {
    let Some(group) = &pod.group else { return vec![0; feasible.len()] };
    let zones: HashSet<&str> = feasible.iter().filter_map(|at| snapshot.nodes[*at].zone()).collect();
    let weight = |places: usize| ((places + 2) as f64).ln();
    let (node_weight, zone_weight) = (weight(feasible.len()), weight(zones.len()));
    let costs: Vec<Option<i64>> = feasible
        .iter()
        .map(|at| {
            let here = f64::from(snapshot.groups.on_node(group, *at));
            let node_cost = here * node_weight + (NODE_SKEW - 1.0);
            let zone_cost = match snapshot.nodes[*at].zone() {
                Some(zone) => {
                    f64::from(snapshot.groups.in_zone(group, zone)) * zone_weight + (ZONE_SKEW - 1.0)
                }
                // Where zones are known, a node without one cannot be weighed.
                None if !zones.is_empty() => return None,
                None => 0.0,
            };
            Some((node_cost + zone_cost).round() as i64)
        })
        .collect();
    let known = || costs.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |cost: &Option<i64>| match cost {
        None => 0,
        Some(_) if most == 0 => 100,
        Some(cost) => 100 * (most + least - cost) / most,
    };
    costs.iter().map(score).collect()
}

/// The highest becomes 100.
fn normal(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most == 0 { raw } else { raw.into_iter().map(|score| score * 100 / most).collect() }
}

/// The highest becomes 0, none becomes 100.
fn reversed(raw: Vec<i64>) -> Vec<i64> {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most == 0 {
        vec![100; raw.len()]
    } else {
        raw.into_iter().map(|score| 100 - score * 100 / most).collect()
    }
}
