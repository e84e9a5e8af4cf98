//! Who may talk to whom: connections between pods, and between pods and the outside, that are judged where the machine
//! passes packets on.
//!
//! A pod with policies of a direction is isolated in that direction: a connection must be allowed by one of them, and one
//! between two isolated pods by both sides. What has been answered once goes on. What the machine itself begins and what
//! it is sent is not judged, nor is what a pod sends to itself. Addresses are those behind Services, not the Services' own.
//! What is not allowed is turned away at once: a reset for TCP, ICMP for all else.
//!
//! A pod costs one element of a map a direction, a policy a chain, a rule a set of addresses; pods with the same
//! policies share a chain. A packet that begins a connection meets the policies of its own two pods only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::Result;
use crate::ids::Ids;
use crate::nft::expression::{self as e, End, Refusal};
use crate::nft::installed::Installed;
use crate::nft::key;
use crate::nft::table::{Hook, Point, Set, Table, Value, Verdict};
use crate::services::Protocol;

/// Which way a connection goes, seen from a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

/// A network, and those within it that are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its address and the length of its prefix.
    pub network: (IpAddr, u8),
    /// Left out.
    pub except: Vec<(IpAddr, u8)>,
}

/// The other ends of connections. Those of any kind are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Pods.
    pub pods: BTreeSet<IpAddr>,
    /// Networks.
    pub blocks: Vec<Block>,
}

/// Ports that connections go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// From the first to the last.
    Range(Protocol, u16, u16),
    /// These ports of these addresses: what a port's name means there.
    Named(Protocol, BTreeSet<SocketAddr>),
}

/// Connections that are allowed: to these ports, of these peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `None` for everybody.
    pub peers: Option<Peers>,
    /// `None` for all ports, and protocols without ports.
    pub ports: Option<Vec<Ports>>,
}

/// What is allowed to and from the pods that it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// To them.
    pub ingress: Vec<Rule>,
    /// From them.
    pub egress: Vec<Rule>,
}

/// The names of a pod's policies. Without any of a direction everything is allowed in that direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// For what comes to it.
    pub ingress: BTreeSet<String>,
    /// For what it begins.
    pub egress: BTreeSet<String>,
}

/// All policies as one machine's kernel is to know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// By name.
    pub policies: BTreeMap<String, Policy>,
    /// This machine's pods that have any.
    pub pods: BTreeMap<IpAddr, Isolation>,
}

/// The beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Who begins it.
    pub source: IpAddr,
    /// With whom.
    pub destination: SocketAddr,
    /// How.
    pub protocol: Protocol,
}

impl Policies {
    /// Whether a connection that passes this machine may begin: what the kernel is told, said in another way.
    pub fn admit(&self, beginning: &Beginning) -> bool {
        let Beginning { source, destination, .. } = *beginning;
        source == destination.ip()
            || (self.side(Direction::Egress, source, beginning)
                && self.side(Direction::Ingress, destination.ip(), beginning))
    }

    fn side(&self, direction: Direction, pod: IpAddr, beginning: &Beginning) -> bool {
        let Some(names) = self.pods.get(&pod).map(|pod| pod.names(direction)) else { return true };
        let mut rules =
            names.iter().filter_map(|name| self.policies.get(name)).flat_map(|p| p.rules(direction));
        names.is_empty() || rules.any(|rule| rule.allows(direction, beginning))
    }
}

impl Isolation {
    fn names(&self, direction: Direction) -> &BTreeSet<String> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Policy {
    fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

impl Rule {
    fn allows(&self, direction: Direction, beginning: &Beginning) -> bool {
        let Beginning { source, destination, protocol } = *beginning;
        let peer = if direction == Direction::Ingress { source } else { destination.ip() };
        let port = |ports: &Ports| match ports {
            Ports::Range(of, first, last) => {
                *of == protocol && (*first..=*last).contains(&destination.port())
            }
            Ports::Named(of, places) => *of == protocol && places.contains(&destination),
        };
        self.peers.as_ref().is_none_or(|peers| peers.contain(peer))
            && self.ports.as_ref().is_none_or(|ports| ports.iter().any(port))
    }
}

impl Peers {
    fn contain(&self, address: IpAddr) -> bool {
        let inside = |network: &(IpAddr, u8)| is_inside(address, *network);
        let in_block = |block: &Block| inside(&block.network) && !block.except.iter().any(inside);
        self.pods.contains(&address) || self.blocks.iter().any(in_block)
    }
}

/// Whether an address is in a network.
pub fn is_inside(address: IpAddr, (network, prefix): (IpAddr, u8)) -> bool {
    let shift = |bits: u32| bits.saturating_sub(u32::from(prefix));
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            (a.to_bits() ^ n.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Keeps the kernel's tables as policies are.
#[derive(Debug)]
pub struct Filter {
    installed: Installed,
    policies: Ids<String>,
    /// Policies that pods have together.
    groups: Ids<BTreeSet<String>>,
}

impl Filter {
    /// A filter for the pods of a bridge. What an earlier process installed holds until the first [`Self::apply`], which
    /// replaces it at one stroke.
    pub fn new(bridge: &str) -> Self {
        let installed = Installed::new(table_name(bridge), "nftables: policies");
        Self { installed, policies: Ids::default(), groups: Ids::default() }
    }

    /// Makes the kernel know exactly these. Blocks for as long as the kernel takes, which is milliseconds.
    ///
    /// # Errors
    /// When the kernel refuses; the next call then starts from nothing.
    pub fn apply(&mut self, policies: &Policies) -> Result<()> {
        self.policies.keep(policies.policies.keys());
        let groups = policies.pods.values().flat_map(|pod| [&pod.ingress, &pod.egress]);
        self.groups.keep(groups.filter(|names| !names.is_empty()));
        let (ids, groups) = (&self.policies, &self.groups);
        self.installed.apply(|table, v6| Plan { policies, ids, groups, v6 }.fill(table))
    }

    /// Removes the tables of a bridge, if they are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(bridge: &str) -> Result<()> {
        Installed::remove(&table_name(bridge))
    }
}

fn table_name(bridge: &str) -> String {
    format!("{}{bridge}-policies", crate::masquerade::TABLE_PREFIX)
}

/// The names of a direction's map and hooked chain.
fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The table of one family.
struct Plan<'a> {
    policies: &'a Policies,
    ids: &'a Ids<String>,
    groups: &'a Ids<BTreeSet<String>>,
    v6: bool,
}

impl Plan<'_> {
    fn width(&self) -> u32 {
        if self.v6 { 16 } else { 4 }
    }

    fn own(&self) -> &'static str {
        if self.v6 { "ipv6" } else { "ipv4" }
    }

    /// Nothing where nobody is isolated: then no packet pays.
    fn fill(&self, table: &mut Table) {
        let directions = [(Direction::Egress, -7), (Direction::Ingress, -6)];
        let directions: Vec<_> = directions.into_iter().filter(|(way, _)| self.isolates(*way)).collect();
        if directions.is_empty() {
            return;
        }
        let kind = key::kind_of(&[self.own(), self.own()]);
        table.sets.insert("selves".to_owned(), Set { kind, key: 2 * self.width(), ..Set::default() });
        table.chain("turn-away", None, e::refuse(self.v6, Refusal::Prohibited));
        for (direction, priority) in directions {
            self.hook(table, direction, priority);
            for (policy, rules) in &self.policies.policies {
                if let Some(id) = self.ids.get(policy) {
                    self.policy(table, direction, id, rules.rules(direction));
                }
            }
            for (pod, isolation) in self.policies.pods.iter().filter(|(pod, _)| pod.is_ipv6() == self.v6) {
                self.pod(table, direction, *pod, isolation.names(direction));
            }
        }
    }

    /// Whether any pod is isolated in a direction: if none is, packets need not pass its hook.
    fn isolates(&self, direction: Direction) -> bool {
        let own = self.policies.pods.iter().filter(|(pod, _)| pod.is_ipv6() == self.v6);
        own.map(|(_, isolation)| isolation).any(|isolation| !isolation.names(direction).is_empty())
    }

    /// Where packets that are passed on enter: what begins a connection goes to its pod's policies.
    fn hook(&self, table: &mut Table, direction: Direction, priority: i32) {
        let kind = key::kind_of(&[self.own()]);
        let map = Set { kind, key: self.width(), verdicts: true, ..Set::default() };
        table.sets.insert(name(direction).to_owned(), map);
        let end = if direction == Direction::Ingress { End::Destination } else { End::Source };
        let accept = e::verdict(&Verdict::Accept);
        let both = [
            e::address(0, End::Source, self.v6),
            e::address(self.width() / 4, End::Destination, self.v6),
            e::is_in("selves", 0),
        ];
        let rules = vec![
            [e::state_is(0, e::STATE_KNOWN), accept.clone()].concat(),
            [both.concat(), accept].concat(),
            [e::address(0, end, self.v6), e::verdict_of(name(direction), 0)].concat(),
        ];
        table.chain(name(direction), Some(Hook { kind: "filter", point: Point::Forward, priority }), rules);
    }

    fn pod(&self, table: &mut Table, direction: Direction, pod: IpAddr, names: &BTreeSet<String>) {
        let Some(group) = self.groups.get(names) else { return };
        let (chain, address) = (format!("{}-of-{group}", name(direction)), key::address(pod));
        if !table.chains.contains_key(&chain) {
            let ids = names.iter().filter_map(|name| self.ids.get(name));
            let jump = |id| e::verdict(&Verdict::Jump(policy_chain(direction, id)));
            let mut rules: Vec<Vec<u8>> = ids.map(jump).collect();
            rules.push(e::verdict(&Verdict::Goto("turn-away".to_owned())));
            table.chain(chain.clone(), None, rules);
        }
        table.insert(name(direction), address.clone(), Value::Verdict(Verdict::Goto(chain)));
        table.insert("selves", [&address[..], &address].concat(), Value::Member);
    }

    fn policy(&self, table: &mut Table, direction: Direction, id: u32, rules: &[Rule]) {
        let mut all = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            let name = format!("{}-{number}", policy_chain(direction, id));
            let verdict = match &rule.ports {
                None => Verdict::Accept,
                Some(ports) => Verdict::Jump(self.ports(table, &name, ports)),
            };
            let verdict = e::verdict(&verdict);
            let peers = self.peers(table, direction, &name, rule.peers.as_ref());
            all.extend(peers.into_iter().map(|condition| [condition, verdict.clone()].concat()));
        }
        table.chain(policy_chain(direction, id), None, all);
    }

    /// Conditions of which one must hold.
    fn peers(
        &self,
        table: &mut Table,
        direction: Direction,
        name: &str,
        peers: Option<&Peers>,
    ) -> Vec<Vec<u8>> {
        let Some(peers) = peers else { return vec![Vec::new()] };
        let end = if direction == Direction::Ingress { End::Source } else { End::Destination };
        let address = e::address(0, end, self.v6);
        let own = peers.pods.iter().filter(|pod| pod.is_ipv6() == self.v6);
        let elements = own.map(|pod| (key::address(*pod), Value::Member)).collect();
        let kind = key::kind_of(&[self.own()]);
        let set = Set { kind, key: self.width(), elements, ..Set::default() };
        table.sets.insert(name.to_owned(), set);
        let mut conditions = vec![[address.clone(), e::is_in(name, 0)].concat()];
        for block in peers.blocks.iter().filter(|block| block.network.0.is_ipv6() == self.v6) {
            let (network, prefix) = block.network;
            let mut condition = [address.clone(), e::in_network(0, network, prefix, true)].concat();
            for (network, prefix) in block.except.iter().filter(|(n, _)| n.is_ipv6() == self.v6) {
                condition.extend(&address);
                condition.extend(e::in_network(0, *network, *prefix, false));
            }
            conditions.push(condition);
        }
        conditions
    }

    /// A chain that accepts what goes to these ports, and its name.
    fn ports(&self, table: &mut Table, name: &str, ports: &[Ports]) -> String {
        let accept = e::verdict(&Verdict::Accept);
        let mut rules = Vec::new();
        for (number, ports) in ports.iter().enumerate() {
            let condition = match ports {
                Ports::Range(protocol, first, last) => [
                    e::protocol(0),
                    e::equals(0, &[*protocol as u8]),
                    e::destination_port(0),
                    e::is_within(0, &first.to_be_bytes(), &last.to_be_bytes()),
                ]
                .concat(),
                Ports::Named(protocol, places) => {
                    self.named(table, &format!("{name}-named-{number}"), *protocol, places)
                }
            };
            rules.push([condition, accept.clone()].concat());
        }
        let chain = format!("{name}-ports");
        table.chain(chain.clone(), None, rules);
        chain
    }

    fn named(
        &self,
        table: &mut Table,
        name: &str,
        protocol: Protocol,
        places: &BTreeSet<SocketAddr>,
    ) -> Vec<u8> {
        let own = places.iter().filter(|place| place.is_ipv6() == self.v6);
        let element = |place: &SocketAddr| {
            let key = [key::address(place.ip()), key::port(protocol as u8, place.port())].concat();
            (key, Value::Member)
        };
        let kind = key::kind_of(&[self.own(), "protocol", "port"]);
        let set = Set { kind, key: self.width() + 8, elements: own.map(element).collect(), ..Set::default() };
        table.sets.insert(name.to_owned(), set);
        let words = self.width() / 4;
        let address = e::address(0, End::Destination, self.v6);
        [address, e::protocol(words), e::destination_port(words + 1), e::is_in(name, 0)].concat()
    }
}

fn policy_chain(direction: Direction, id: u32) -> String {
    format!("{}-policy-{id}", name(direction))
}
