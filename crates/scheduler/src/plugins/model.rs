//! Affinity and spreading by their definitions, over all pods each time, against what is counted as pods come and go.

use super::{inter_pod_affinity, spread};
use crate::config::Profile;
use crate::cycle::Cycle;
use crate::pod::PodFacts;
use crate::snapshot::Snapshot;
use crate::terms::{Labels, PodSelection, Spread, Term, matches};
use k8s_openapi::api::core::v1::{Node, Taint};
use proptest::prelude::*;
use serde_json::{Value, from_value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "zone";

/// Nodes, pods on them, and namespaces' labels: all there is, as it is.
#[derive(Default)]
struct Cluster {
    nodes: BTreeMap<String, Node>,
    placed: BTreeMap<String, (String, Arc<PodFacts>)>,
    namespaces: BTreeMap<String, Labels>,
}

impl Cluster {
    fn selects(&self, selection: &PodSelection, pod: &PodFacts) -> bool {
        let none = Labels::new();
        let labels = self.namespaces.get(&*pod.namespace).unwrap_or(&none);
        let named = selection.namespaces.contains(&*pod.namespace);
        (named || matches(&selection.namespace_selector, labels))
            && matches(&selection.selector, &pod.class.labels)
    }

    /// Pods on nodes that are there, with their nodes' labels.
    fn pods(&self) -> impl Iterator<Item = (&Node, &Arc<PodFacts>)> {
        self.placed.values().filter_map(|(node, pod)| Some((self.nodes.get(node)?, pod)))
    }

    /// How many pods are in a place, by key and value, as far as they are chosen.
    fn pairs<'a>(
        &self,
        terms: &'a [Term],
        chosen: impl Fn(&PodFacts, &'a Term) -> bool,
    ) -> BTreeMap<(String, String), i64> {
        let mut pairs = BTreeMap::new();
        for (node, pod) in self.pods() {
            for term in terms.iter().filter(|term| chosen(pod, term)) {
                if let Some(value) = label(node, &term.topology_key) {
                    *pairs.entry((term.topology_key.clone(), value)).or_insert(0) += 1;
                }
            }
        }
        pairs
    }

    fn affinity_refuses(&self, pod: &PodFacts, node: &Node) -> Option<&'static str> {
        let terms = &pod.class.terms;
        let satisfies_all = |other: &PodFacts| {
            !terms.required.is_empty()
                && terms.required.iter().all(|term| self.selects(&term.selection, other))
        };
        let together = self.pairs(&terms.required, |other, _| satisfies_all(other));
        let mut found = true;
        for term in &terms.required {
            let Some(value) = label(node, &term.topology_key) else {
                return Some("node(s) didn't match pod affinity rules");
            };
            found &= together.get(&(term.topology_key.clone(), value)).is_some_and(|count| *count > 0);
        }
        let first = together.is_empty() && satisfies_all(pod);
        if !found && !first {
            return Some("node(s) didn't match pod affinity rules");
        }
        let apart = self.pairs(&terms.required_apart, |other, term| self.selects(&term.selection, other));
        for term in &terms.required_apart {
            let here = label(node, &term.topology_key).map(|value| (term.topology_key.clone(), value));
            if here.is_some_and(|here| apart.contains_key(&here)) {
                return Some("node(s) didn't match pod anti-affinity rules");
            }
        }
        for (there, other) in self.pods() {
            let repels = |term: &&Term| self.selects(&term.selection, pod);
            for term in other.class.terms.required_apart.iter().filter(repels) {
                let there = label(there, &term.topology_key);
                if there.is_some() && there == label(node, &term.topology_key) {
                    return Some("node(s) didn't satisfy existing pods anti-affinity rules");
                }
            }
        }
        None
    }

    fn affinity_sum(&self, pod: &PodFacts, node: &Node) -> i64 {
        let mut sum = 0;
        for (there, other) in self.pods() {
            let near = |term: &Term| {
                let value = label(there, &term.topology_key);
                value.is_some() && value == label(node, &term.topology_key)
            };
            for (weight, term) in &pod.class.terms.preferred {
                sum += weight * i64::from(self.selects(&term.selection, other) && near(term));
            }
            for (weight, term) in &other.class.terms.preferred {
                sum += weight * i64::from(self.selects(&term.selection, pod) && near(term));
            }
            for term in &other.class.terms.required {
                sum += i64::from(self.selects(&term.selection, pod) && near(term));
            }
        }
        sum
    }

    fn affinity_scores(&self, pod: &PodFacts, nodes: &[&Node]) -> Vec<i64> {
        let sums: Vec<i64> = nodes.iter().map(|node| self.affinity_sum(pod, node)).collect();
        let (least, most) =
            (sums.iter().min().copied().unwrap_or(0), sums.iter().max().copied().unwrap_or(0));
        let score = |sum: &i64| if most == least { 0 } else { 100 * (sum - least) / (most - least) };
        sums.iter().map(score).collect()
    }

    fn counts(&self, constraint: &Spread, all: &[&Spread], pod: &PodFacts, node: &Node) -> bool {
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let selected = pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let tolerated = |taint: &Taint| pod.tolerations.iter().any(|own| api::taints::tolerates(own, taint));
        all.iter().all(|spread| labels.contains_key(&spread.topology_key))
            && (!constraint.honor_affinity || selected)
            && (!constraint.honor_taints || taints.iter().all(tolerated))
    }

    /// Matching pods by the value of a constraint's label, over nodes that count.
    fn domains(&self, constraint: &Spread, all: &[&Spread], pod: &PodFacts) -> BTreeMap<String, i64> {
        let mut domains = BTreeMap::new();
        for (name, node) in self.nodes.iter().filter(|(_, node)| self.counts(constraint, all, pod, node)) {
            let matching = self.placed.values().filter(|(at, other)| {
                at == name
                    && !other.class.terminating
                    && other.namespace == pod.namespace
                    && matches(&constraint.selector, &other.class.labels)
            });
            let count = i64::try_from(matching.count()).unwrap();
            *domains.entry(label(node, &constraint.topology_key).unwrap()).or_insert(0) += count;
        }
        domains
    }

    fn spread_refuses(&self, pod: &PodFacts, node: &Node) -> Option<&'static str> {
        let hard: Vec<&Spread> = pod.spread.iter().filter(|spread| spread.hard).collect();
        for constraint in &hard {
            let Some(value) = label(node, &constraint.topology_key) else {
                return Some("node(s) didn't match pod topology spread constraints (missing required label)");
            };
            let domains = self.domains(constraint, &hard, pod);
            let least =
                if domains.len() < constraint.min_domains { None } else { domains.values().min().copied() };
            let own = i64::from(!pod.class.terminating && matches(&constraint.selector, &pod.class.labels));
            let here = domains.get(&value).copied().unwrap_or(0);
            if here + own - least.unwrap_or(0) > constraint.max_skew {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        None
    }

    fn spread_scores(&self, pod: &PodFacts, nodes: &[&Node]) -> Vec<i64> {
        let soft: Vec<&Spread> = pod.spread.iter().filter(|spread| !spread.hard).collect();
        if soft.is_empty() {
            return vec![0; nodes.len()];
        }
        let scored = |node: &&Node| soft.iter().all(|spread| label(node, &spread.topology_key).is_some());
        let candidates: Vec<&Node> = nodes.iter().copied().filter(scored).collect();
        let cost = |node: &Node| {
            let mut cost = 0.0;
            for constraint in &soft {
                let values: BTreeSet<_> =
                    candidates.iter().map(|node| label(node, &constraint.topology_key)).collect();
                let places = if constraint.topology_key == HOST { candidates.len() } else { values.len() };
                let here = label(node, &constraint.topology_key).unwrap();
                let count = self.domains(constraint, &soft, pod).get(&here).copied().unwrap_or(0);
                cost += count as f64 * ((places + 2) as f64).ln() + (constraint.max_skew - 1) as f64;
            }
            cost.round() as i64
        };
        let costs: Vec<Option<i64>> = nodes.iter().map(|node| scored(node).then(|| cost(node))).collect();
        let known: Vec<i64> = costs.iter().flatten().copied().collect();
        let (least, most) =
            (known.iter().min().copied().unwrap_or(0), known.iter().max().copied().unwrap_or(0));
        let score = |cost: &Option<i64>| match cost {
            None => 0,
            Some(_) if most == 0 => 100,
            Some(cost) => 100 * (most + least - cost) / most,
        };
        costs.iter().map(score).collect()
    }
}

fn label(node: &Node, key: &str) -> Option<String> {
    node.metadata.labels.as_ref()?.get(key).cloned()
}

fn node(name: &str, zone: Option<u8>, ssd: bool, tainted: bool) -> Node {
    let mut labels = json!({ HOST: name });
    if let Some(zone) = zone {
        labels[ZONE] = format!("z{zone}").into();
    }
    if ssd {
        labels["disk"] = "ssd".into();
    }
    let taints = if tainted { json!([{ "key": "k", "effect": "NoSchedule" }]) } else { json!([]) };
    from_value(json!({ "metadata": { "name": name, "labels": labels }, "spec": { "taints": taints } }))
        .unwrap()
}

fn selector() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..2u8).prop_map(|app| json!({ "matchLabels": { "app": format!("a{app}") } })),
        Just(json!({ "matchExpressions": [{ "key": "tier", "operator": "Exists" }] })),
        Just(json!({ "matchExpressions": [{ "key": "tier", "operator": "NotIn", "values": ["t0"] }] })),
        Just(json!({})),
    ]
}

fn term() -> impl Strategy<Value = Value> {
    let namespaces = prop_oneof![
        3 => Just(json!({})),
        1 => Just(json!({ "namespaces": ["n1"] })),
        1 => Just(json!({ "namespaceSelector": {} })),
        1 => Just(json!({ "namespaces": ["n0"], "namespaceSelector": { "matchLabels": { "team": "b" } } })),
    ];
    (selector(), prop_oneof![Just(HOST), Just(ZONE), Just("disk")], namespaces).prop_map(
        |(selector, key, mut term)| {
            term["labelSelector"] = selector;
            term["topologyKey"] = key.into();
            term
        },
    )
}

fn affinity() -> impl Strategy<Value = Value> {
    let some = || proptest::collection::vec(term(), 0..2);
    let weighted = || {
        proptest::collection::vec((1..100u8, term()), 0..2).prop_map(|terms| {
            let each = |(weight, term): (u8, Value)| json!({ "weight": weight, "podAffinityTerm": term });
            terms.into_iter().map(each).collect::<Vec<_>>()
        })
    };
    let (hard, soft) =
        ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
    (some(), some(), weighted(), weighted()).prop_map(move |(required, apart, near, far)| {
        json!({ "podAffinity": { hard: required, soft: near }, "podAntiAffinity": { hard: apart, soft: far } })
    })
}

fn constraint() -> impl Strategy<Value = Value> {
    let policy = || prop_oneof![Just("Honor"), Just("Ignore")];
    let parts =
        (selector(), prop_oneof![Just(HOST), Just(ZONE), Just("disk")], 1..3u8, 1..4u8, any::<bool>());
    (parts, policy(), policy()).prop_map(|((selector, key, skew, domains, hard), affinity, taints)| {
        let mut constraint = json!({
            "labelSelector": selector, "topologyKey": key, "maxSkew": skew,
            "whenUnsatisfiable": if hard { "DoNotSchedule" } else { "ScheduleAnyway" },
            "nodeAffinityPolicy": affinity, "nodeTaintsPolicy": taints,
        });
        if hard {
            constraint["minDomains"] = domains.into();
        }
        constraint
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let labels = (0..2u8, proptest::option::of(0..2u8), 0..2u8);
    let rest = (any::<bool>(), proptest::bool::weighted(0.2), proptest::bool::weighted(0.3), any::<bool>());
    let constraints = proptest::collection::vec(constraint(), 0..3);
    (labels, proptest::option::of(affinity()), constraints, rest).prop_map(
        |((app, tier, namespace), affinity, constraints, (plain, going, ssd, tolerant))| {
            let mut labels = json!({ "app": format!("a{app}") });
            if let Some(tier) = tier {
                labels["tier"] = format!("t{tier}").into();
            }
            let tolerations = if tolerant { json!([{ "operator": "Exists" }]) } else { json!([]) };
            let mut spec = json!({ "containers": [], "topologySpreadConstraints": constraints, "tolerations": tolerations });
            if let Some(affinity) = affinity.filter(|_| !plain) {
                spec["affinity"] = affinity;
            }
            if ssd {
                spec["nodeSelector"] = json!({ "disk": "ssd" });
            }
            let mut metadata = json!({ "namespace": format!("n{namespace}"), "labels": labels });
            if going {
                metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            json!({ "metadata": metadata, "spec": spec })
        },
    )
}

fn facts(name: &str, mut pod: Value) -> Arc<PodFacts> {
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["uid"] = name.into();
    Arc::new(PodFacts::of(&from_value(pod).unwrap()))
}

#[derive(Clone, Debug)]
enum Step {
    Node(u8, Option<u8>, bool, bool),
    NoNode(u8),
    Place(u8, u8, Value),
    Remove(u8),
    Namespace(u8, bool),
    /// Asks, so that there are counts to be kept up.
    Ask(Value),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5u8, proptest::option::weighted(0.8, 0..2u8), any::<bool>(), any::<bool>())
            .prop_map(|(at, zone, ssd, tainted)| Step::Node(at, zone, ssd, tainted)),
        1 => (0..5u8).prop_map(Step::NoNode),
        6 => (0..10u8, 0..5u8, pod()).prop_map(|(uid, at, pod)| Step::Place(uid, at, pod)),
        2 => (0..10u8).prop_map(Step::Remove),
        1 => (0..2u8, any::<bool>()).prop_map(|(name, team)| Step::Namespace(name, team)),
        3 => pod().prop_map(Step::Ask),
        1 => Just(Step::Forget),
    ]
}

fn take(step: Step, cluster: &mut Cluster, snapshot: &mut Snapshot) {
    match step {
        Step::Node(at, zone, ssd, tainted) => {
            let node = node(&format!("h{at}"), zone, ssd, tainted);
            snapshot.set_node(&node);
            cluster.nodes.insert(format!("h{at}"), node);
        }
        Step::NoNode(at) => {
            snapshot.remove_node(&format!("h{at}"));
            cluster.nodes.remove(&format!("h{at}"));
        }
        Step::Place(uid, at, pod) => {
            let pod = facts(&format!("p{uid}"), pod);
            snapshot.place(&format!("h{at}"), pod.clone());
            cluster.placed.insert(format!("p{uid}"), (format!("h{at}"), pod));
        }
        Step::Remove(uid) => {
            snapshot.remove_pod(&format!("p{uid}"));
            cluster.placed.remove(&format!("p{uid}"));
        }
        Step::Namespace(name, team) => {
            let labels: Labels = [("team".to_owned(), if team { "b" } else { "a" }.to_owned())].into();
            snapshot.set_namespace(&format!("n{name}"), Some(&labels));
            cluster.namespaces.insert(format!("n{name}"), labels);
        }
        Step::Ask(pod) => same(cluster, snapshot, &facts("asked", pod)),
        Step::Forget => snapshot.census.begin_anew(&mut snapshot.nodes),
    }
}

/// Whether both say the same of every node.
fn same(cluster: &Cluster, snapshot: &mut Snapshot, pod: &Arc<PodFacts>) {
    // Whatever the pod may not be on for other reasons is asked about as well.
    let mut cycle = Cycle::begin(pod, &Arc::<Profile>::default(), snapshot).unwrap();
    let at: Vec<usize> = cluster.nodes.keys().map(|name| snapshot.node_at(name).unwrap()).collect();
    cycle.total(snapshot, &at);
    for (at, node) in at.iter().zip(cluster.nodes.values()) {
        for (plugin, expected) in [
            (&inter_pod_affinity::PLUGIN, cluster.affinity_refuses(pod, node)),
            (&spread::PLUGIN, cluster.spread_refuses(pod, node)),
        ] {
            let refusal =
                if (plugin.concerns)(&cycle) { plugin.filter.unwrap()(&cycle, snapshot, *at) } else { None };
            let reason = refusal.map(|refusal| refusal.reasons.join(","));
            assert_eq!(reason.as_deref(), expected, "{} of {:?}", plugin.name, node.metadata.name);
        }
    }
    // Scores are for nodes that the pod may be on.
    let fits = |node: &&Node| {
        let labels = node.metadata.labels.as_ref();
        pod.node_selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
            && cluster_tolerates(pod, node)
    };
    let nodes: Vec<&Node> = cluster.nodes.values().filter(fits).collect();
    let at: Vec<usize> =
        nodes.iter().map(|node| snapshot.node_at(node.metadata.name.as_ref().unwrap()).unwrap()).collect();
    let scores = |plugin: &super::Plugin| plugin.score.unwrap()(&cycle, snapshot, &at);
    assert_eq!(scores(&inter_pod_affinity::PLUGIN), cluster.affinity_scores(pod, &nodes));
    assert_eq!(scores(&spread::PLUGIN), cluster.spread_scores(pod, &nodes));
}

fn cluster_tolerates(pod: &PodFacts, node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    taints.iter().all(|taint| pod.tolerations.iter().any(|own| api::taints::tolerates(own, taint)))
}

proptest! {
    /// Whatever came and went: what is counted along the way is what counting anew would find.
    #[test]
    fn counts_say_what_the_definitions_say(
        steps in proptest::collection::vec(step(), 0..60),
        asked in proptest::collection::vec(pod(), 1..4),
    ) {
        let (mut cluster, mut snapshot) = (Cluster::default(), Snapshot::default());
        for step in steps {
            take(step, &mut cluster, &mut snapshot);
        }
        for pod in asked {
            same(&cluster, &mut snapshot, &facts("asked", pod));
        }
    }
}
