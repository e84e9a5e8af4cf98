//! Ranges of pods' addresses: each node gets one of each of the cluster's ranges, keeps it for as long as it is there, and
//! no two have the same. What a node came with counts as given. Upstream's `node-ipam-controller` with its range allocator.

use crate::plan::{Action, Lists, Patch, Plan, tell};
use crate::{Controller, Settings, World};
use apimachinery::cidr::Cidr;
use client::kube::ResourceExt;
use client::kube::api::ApiResource;
use client::{EventType, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The most that a node's range may be longer than the cluster's: upstream's number.
const MOST_BITS: u8 = 16;

/// A range of addresses that is divided among nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    cluster: Cidr,
    /// The length of the prefix of a node's part.
    node: u8,
}

impl PodRange {
    /// Nodes get parts with prefixes of this length.
    ///
    /// # Errors
    /// When there are no such parts, or too many.
    pub fn new(cluster: Cidr, node: u8) -> Result<Self, String> {
        let longest = if cluster.address.is_ipv4() { 32 } else { 128 };
        if node < cluster.prefix || node > longest {
            return Err(format!(
                "a node's part of {cluster} has a prefix from {} to {longest}",
                cluster.prefix
            ));
        }
        if node - cluster.prefix > MOST_BITS {
            return Err(format!("{cluster} would have more than {} parts of /{node}", 1_u32 << MOST_BITS));
        }
        Ok(Self { cluster, node })
    }

    /// How many parts there are.
    fn count(&self) -> u32 {
        1 << (self.node - self.cluster.prefix)
    }

    /// One of them, by its number.
    pub fn part(&self, number: u32) -> Cidr {
        let address = match self.cluster.network() {
            IpAddr::V4(first) => {
                let part = number.checked_shl(u32::from(32 - self.node)).unwrap_or(0);
                IpAddr::V4((first.to_bits() | part).into())
            }
            IpAddr::V6(first) => {
                let part = u128::from(number).checked_shl(u32::from(128 - self.node)).unwrap_or(0);
                IpAddr::V6((first.to_bits() | part).into())
            }
        };
        Cidr { address, prefix: self.node }
    }

    /// The numbers of the parts that have addresses in common with another range.
    fn touched(&self, other: &Cidr) -> std::ops::Range<u32> {
        if other.contains(self.cluster.network()) && other.prefix <= self.cluster.prefix {
            return 0..self.count();
        }
        let offset = match (self.cluster.network(), other.network()) {
            (IpAddr::V4(first), IpAddr::V4(at)) if self.cluster.contains(other.network()) => {
                u128::from(at.to_bits() ^ first.to_bits()) >> (32 - self.node).min(127)
            }
            (IpAddr::V6(first), IpAddr::V6(at)) if self.cluster.contains(other.network()) => {
                (at.to_bits() ^ first.to_bits()).checked_shr(u32::from(128 - self.node)).unwrap_or(0)
            }
            _ => return 0..0,
        };
        // Less than all parts, of which there are few.
        let first = u32::try_from(offset).unwrap_or(u32::MAX);
        let parts = 1_u32 << self.node.saturating_sub(other.prefix).min(MOST_BITS);
        first..first.saturating_add(parts).min(self.count())
    }
}

/// The controller; see the module.
pub struct NodeIpam {
    nodes: Reader<Node>,
    settings: Arc<Settings>,
}

/// All nodes are one thing to look at: what one gets no other can have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllNodes;

impl fmt::Display for AllNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nodes")
    }
}

/// What it looks at.
pub struct View {
    /// All nodes.
    pub nodes: Vec<Arc<Node>>,
    /// What is divided among them.
    pub ranges: Vec<PodRange>,
    /// What is not to be given to them.
    pub reserved: Vec<Cidr>,
}

/// What is remembered: a range that a node gave back is the last to be given again.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    /// The number to try next, of each range.
    next: Vec<u32>,
    /// Nodes of which it was told that there is nothing for them.
    told: BTreeSet<String>,
}

impl Controller for NodeIpam {
    const NAME: &'static str = "cidrAllocator";
    type Key = AllNodes;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<AllNodes>>) -> Self {
        let (nodes, settings) = (world.reader::<Node>(), world.settings().clone());
        if !settings.pod_ranges.is_empty() {
            let add = queue.clone();
            nodes.informer().on_change(move |change| {
                let has = |node: Option<&Arc<Node>>| node.map(|node| !cidrs(node).is_empty());
                if has(change.before()) != has(change.after()) {
                    add.add(AllNodes);
                }
            });
        }
        Self { nodes, settings }
    }

    fn view(&self, _: &AllNodes) -> View {
        View {
            nodes: self.nodes.list(),
            ranges: self.settings.pod_ranges.clone(),
            reserved: self.settings.service_ranges.clone(),
        }
    }

    fn plan(_: &AllNodes, view: &View, memory: &Memory, _now: Timestamp) -> Plan<Memory> {
        plan(view, memory)
    }
}

/// The ranges that a node has.
fn cidrs(node: &Node) -> Vec<&str> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many: Vec<&str> = spec.pod_cidrs.iter().flatten().map(String::as_str).collect();
    if many.is_empty() {
        spec.pod_cidr.as_deref().into_iter().filter(|cidr| !cidr.is_empty()).collect()
    } else {
        many
    }
}

/// Decides who gets what; pure.
pub fn plan(view: &View, memory: &Memory) -> Plan<Memory> {
    // What cannot be written for one node must not keep the others from what they get.
    let mut plan = Plan::independent();
    let given = view.nodes.iter().flat_map(|node| cidrs(node)).filter_map(Cidr::parse_leniently);
    let taken: Vec<Cidr> = given.chain(view.reserved.iter().copied()).collect();
    let mut pools: Vec<Pool> =
        (0..).zip(&view.ranges).map(|(at, range)| Pool::new(*range, &taken, memory, at)).collect();
    let mut told = BTreeSet::new();
    let mut without: Vec<&Arc<Node>> = view
        .nodes
        .iter()
        .filter(|node| cidrs(node).is_empty() && node.metadata.deletion_timestamp.is_none())
        .collect();
    without
        .sort_by_key(|node| (node.metadata.creation_timestamp.as_ref().map(|time| time.0), node.name_any()));
    for node in without {
        let parts: Option<Vec<String>> =
            pools.iter_mut().map(|pool| pool.take().map(|part| part.to_string())).collect();
        if let Some(parts) = parts {
            plan.then(give(node, &parts));
            continue;
        }
        let name = node.name_any();
        if !memory.told.contains(&name) {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            plan.then(tell(&**node, EventType::Normal, "CIDRNotAvailable", message));
        }
        told.insert(name);
    }
    plan.memory = Some(Memory { next: pools.iter().map(|pool| pool.next).collect(), told });
    plan
}

/// Whatever version of the node there is by now: what it has it keeps, for that cannot be changed.
fn give(node: &Node, parts: &[String]) -> Action {
    Action::Patch(Patch {
        resource: ApiResource::erase::<Node>(&()),
        key: ObjectKey::of(node),
        subresource: None,
        body: json!({
            "metadata": { "uid": node.metadata.uid },
            "spec": { "podCIDR": parts.first(), "podCIDRs": parts },
        }),
        lists: Lists::Replaced,
    })
}

/// The parts of a range that are left.
struct Pool {
    range: PodRange,
    taken: BTreeSet<u32>,
    next: u32,
}

impl Pool {
    fn new(range: PodRange, taken: &[Cidr], memory: &Memory, at: usize) -> Self {
        let taken = taken.iter().flat_map(|cidr| range.touched(cidr)).collect();
        Self { range, taken, next: memory.next.get(at).copied().unwrap_or(0) }
    }

    fn take(&mut self) -> Option<Cidr> {
        let count = self.range.count();
        let mut numbers = (self.next..count).chain(0..self.next.min(count));
        let number = numbers.find(|number| !self.taken.contains(number))?;
        self.taken.insert(number);
        self.next = (number + 1) % count;
        Some(self.range.part(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, from_value};

    fn cidr(text: &str) -> Cidr {
        Cidr::parse_leniently(text).unwrap()
    }

    fn range(cluster: &str, node: u8) -> PodRange {
        PodRange::new(cidr(cluster), node).unwrap()
    }

    fn node(name: &str, cidrs: &[&str]) -> Arc<Node> {
        let node = json!({ "metadata": { "name": name, "uid": name },
            "spec": { "podCIDR": cidrs.first(), "podCIDRs": cidrs } });
        Arc::new(from_value(node).unwrap())
    }

    fn view(ranges: &[PodRange], nodes: Vec<Arc<Node>>) -> View {
        View { nodes, ranges: ranges.to_vec(), reserved: Vec::new() }
    }

    /// What each node gets, by its name.
    fn gets(plan: &Plan<Memory>) -> Vec<(String, Value)> {
        let patches = plan.actions.iter().filter_map(|action| match action {
            Action::Patch(patch) => Some((patch.key.name.clone(), patch.body["spec"]["podCIDRs"].clone())),
            _ => None,
        });
        patches.collect()
    }

    #[test]
    fn a_node_gets_a_part_of_each_range_and_keeps_what_it_has() {
        let ranges = [range("10.42.0.0/16", 24), range("fd00:42::/48", 64)];
        let nodes = || vec![node("a", &["10.42.0.0/24", "fd00:42::/64"]), node("b", &[]), node("c", &[])];
        let plan = plan(&view(&ranges, nodes()), &Memory::default());
        assert_eq!(
            gets(&plan),
            [
                ("b".to_owned(), json!(["10.42.1.0/24", "fd00:42:0:1::/64"])),
                ("c".to_owned(), json!(["10.42.2.0/24", "fd00:42:0:2::/64"])),
            ]
        );
        let Action::Patch(patch) = &plan.actions[0] else { panic!("{plan:?}") };
        assert_eq!(patch.body["spec"]["podCIDR"], "10.42.1.0/24");
        assert_eq!(patch.body["metadata"]["uid"], "b", "not another node of that name");
    }

    #[test]
    fn what_a_node_gave_back_is_the_last_to_be_given() {
        let ranges = [range("10.42.0.0/22", 24)];
        let first = plan(&view(&ranges, vec![node("a", &[])]), &Memory::default());
        assert_eq!(gets(&first)[0].1, json!(["10.42.0.0/24"]));
        // It is gone, and others come.
        let memory = first.memory.unwrap();
        let others = || ["b", "c", "d", "e", "f"].map(|name| node(name, &[])).to_vec();
        let second = plan(&view(&ranges, others()), &memory);
        let given: Vec<Value> = gets(&second).into_iter().map(|(_, given)| given[0].clone()).collect();
        assert_eq!(given, ["10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24", "10.42.0.0/24"]);
        let told = |plan: &Plan<Memory>| {
            let tells =
                plan.actions.iter().filter(|a| matches!(a, Action::Tell { reason: "CIDRNotAvailable", .. }));
            tells.count()
        };
        assert_eq!(told(&second), 1, "there is none for the last");
        assert_eq!(told(&plan(&view(&ranges, others()), &second.memory.unwrap())), 0, "it was told already");
    }

    #[test]
    fn services_addresses_and_odd_parts_are_left_out() {
        let ranges = [range("10.42.0.0/21", 24)];
        let nodes = vec![
            node("a", &["10.42.1.128/25"]),
            node("b", &["10.42.2.0/23"]),
            node("c", &[]),
            node("d", &[]),
        ];
        let seen =
            View { reserved: vec![cidr("10.42.0.0/25"), cidr("192.0.2.0/24")], ..view(&ranges, nodes) };
        let given: Vec<Value> =
            gets(&plan(&seen, &Memory::default())).into_iter().map(|(_, all)| all[0].clone()).collect();
        assert_eq!(given, ["10.42.4.0/24", "10.42.5.0/24"]);
        let all = View { reserved: vec![cidr("10.0.0.0/8")], ..view(&ranges, vec![node("c", &[])]) };
        assert_eq!(gets(&plan(&all, &Memory::default())), []);
    }

    #[test]
    fn ranges_that_cannot_be_divided_are_refused() {
        assert!(PodRange::new(cidr("10.42.0.0/16"), 15).unwrap_err().contains("from 16 to 32"));
        assert!(PodRange::new(cidr("10.42.0.0/16"), 33).is_err());
        assert!(PodRange::new(cidr("fd00::/48"), 65).unwrap_err().contains("more than 65536"));
        assert_eq!(range("10.42.0.0/24", 24).part(0).to_string(), "10.42.0.0/24");
    }

    proptest! {
        #[test]
        fn no_two_nodes_have_an_address_in_common(
            prefix in 20u8..=24,
            bits in 0u8..=4,
            had in prop::collection::vec((any::<u16>(), 22u8..=28), 0..6),
            count in 0usize..20,
            next in 0u32..40,
        ) {
            let range = range(&format!("10.16.0.0/{prefix}"), prefix + bits);
            let had: Vec<Cidr> = had.iter().map(|(low, prefix)| {
                Cidr { address: IpAddr::V4((0x0a10_0000 | u32::from(*low)).into()), prefix: *prefix }
            }).collect();
            let olds = had.iter().enumerate().map(|(at, cidr)| node(&format!("old{at}"), &[&cidr.to_string()]));
            let nodes = olds.chain((0..count).map(|at| node(&format!("new{at}"), &[]))).collect();
            let memory = Memory { next: vec![next], told: BTreeSet::new() };
            let given: Vec<Cidr> = gets(&plan(&view(&[range], nodes), &memory)).iter()
                .map(|(_, all)| cidr(all[0].as_str().unwrap())).collect();
            let overlap = |a: &Cidr, b: &Cidr| a.contains(b.network()) || b.contains(a.network());
            for (at, one) in given.iter().enumerate() {
                prop_assert!(range.cluster.contains(one.network()) && one.prefix == prefix + bits);
                prop_assert!(!given[..at].iter().chain(&had).any(|other| overlap(one, other)));
            }
            let free = (0..range.count()).filter(|n| !had.iter().any(|other| overlap(&range.part(*n), other)));
            prop_assert_eq!(given.len(), count.min(free.count()), "whoever can have one gets one");
        }
    }
}
