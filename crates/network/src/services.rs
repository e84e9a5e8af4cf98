//! Virtual addresses: what is sent to a Service's address and port reaches one of its endpoints.
//!
//! The kernel chooses an endpoint for the first packet of a connection and remembers it; every later packet goes
//! straight through. There is one table a family. A frontend costs one element of a map, an endpoint another, a pool a
//! chain of a few rules, so that a change costs what has changed and a packet's way does not grow with the number of
//! Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::Result;
use crate::addresses;
use crate::conntrack::{self, Flow};
use crate::ids::Ids;
use crate::nft::expression::{self as e, End, Refusal};
use crate::nft::installed::Installed;
use crate::nft::key;
use crate::nft::table::{Hook, Point, Set, Table, Value, Verdict};

/// How many clients are remembered at once, of all Services with affinity.
const CLIENTS: u32 = 65_536;
/// The mark of packets that are to leave with the machine's own address. The bit that upstream's proxies use.
const MARK: u32 = 0x4000;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// Where a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// Its address; an unspecified one for every address that this machine has of its family, except loopback ones.
    pub address: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

/// Endpoints that share connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Where connections go; those of the other family than the frontend's are passed over. Without any, connections
    /// are refused.
    pub endpoints: BTreeSet<SocketAddr>,
    /// How long a client's next connection goes where its last one went.
    pub affinity: Option<Duration>,
}

/// Whose connections get the machine's address as their source, so that answers come back through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Masquerade {
    /// Nobody's: endpoints on this machine see their clients.
    Never,
    /// Those of clients that are no pods.
    Outsiders,
    /// Everybody's.
    Always,
}

/// What answers a frontend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The pool's name in [`Services::pools`].
    pub pool: String,
    /// Whose addresses are hidden.
    pub masquerade: Masquerade,
    /// The pool of this machine's pods and of the machine itself, where theirs is another one.
    pub insiders: Option<String>,
    /// Networks whose packets alone are taken; all others' vanish. `None` for everybody's.
    pub sources: Option<BTreeSet<(IpAddr, u8)>>,
}

impl Target {
    /// A pool that answers everybody in the same way.
    pub fn new(pool: impl Into<String>, masquerade: Masquerade) -> Self {
        Self { pool: pool.into(), masquerade, insiders: None, sources: None }
    }
}

/// All Services as one machine's kernel is to know them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Endpoints by the names that targets use.
    pub pools: BTreeMap<String, Pool>,
    /// What is reached where.
    pub frontends: BTreeMap<Frontend, Target>,
}

impl Services {
    fn datagrams(&self) -> Datagrams {
        let of_udp = self.frontends.iter().filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
        let endpoints = |target: &Target| {
            let pools = std::iter::once(&target.pool).chain(&target.insiders);
            pools.filter_map(|pool| self.pools.get(pool)).flat_map(|pool| pool.endpoints.clone()).collect()
        };
        of_udp.map(|(frontend, target)| (*frontend, endpoints(target))).collect()
    }
}

/// Keeps the kernel's tables as Services are.
#[derive(Debug)]
pub struct Balancer {
    /// Where pods' addresses are, a network a family.
    pods: Vec<(IpAddr, u8)>,
    installed: Installed,
    ids: Ids<String>,
    targets: Ids<Target>,
    /// Where datagrams went by what is installed; `None` where nobody knows.
    datagrams: Option<Datagrams>,
}

/// The endpoints of each frontend of UDP.
type Datagrams = BTreeMap<Frontend, BTreeSet<SocketAddr>>;

impl Balancer {
    /// A balancer for the pods of a bridge. What an earlier process installed serves until the first [`Self::apply`],
    /// which replaces it.
    pub fn new(bridge: &str, pods: Vec<(IpAddr, u8)>) -> Self {
        let installed = Installed::new(table_name(bridge), "nftables: Services");
        Self { pods, installed, ids: Ids::default(), targets: Ids::default(), datagrams: None }
    }

    /// Makes the kernel know exactly these. Blocks for as long as the kernel takes, which is milliseconds.
    ///
    /// # Errors
    /// When the kernel refuses; the next call then starts from nothing.
    pub fn apply(&mut self, services: &Services) -> Result<()> {
        self.ids.keep(services.pools.keys());
        self.targets.keep(services.frontends.values());
        let (ids, targets, pods) = (&self.ids, &self.targets, &self.pods);
        self.installed.apply(|table, v6| Plan { services, ids, targets, pods, v6 }.fill(table))?;
        self.forget(services)
    }

    /// Datagrams of connections that the tables would send elsewhere now go there at once.
    fn forget(&mut self, services: &Services) -> Result<()> {
        let now = services.datagrams();
        let before = self.datagrams.take();
        let mut changed = now.clone();
        for (frontend, endpoints) in before.iter().flatten() {
            match now.get(frontend) {
                Some(same) if same == endpoints => changed.remove(frontend),
                Some(_) => None,
                // Nobody answers there any more.
                None => changed.insert(*frontend, BTreeSet::new()),
            };
        }
        if !changed.is_empty() {
            let own = addresses::all().into_iter().map(|(_, address)| address).collect();
            for v6 in [false, true] {
                conntrack::forget(v6, |flow| is_stale(flow, &changed, &own))?;
            }
        }
        self.datagrams = Some(now);
        Ok(())
    }

    /// Removes the tables of a bridge, if they are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(bridge: &str) -> Result<()> {
        Installed::remove(&table_name(bridge))
    }
}

/// Whether a connection goes where its frontend does not lead. An unspecified address stands for the machine's own.
fn is_stale(flow: &Flow, frontends: &Datagrams, own: &BTreeSet<IpAddr>) -> bool {
    let port = flow.destination.port();
    let address = flow.destination.ip();
    let at = |address| frontends.get(&Frontend { address, protocol: Protocol::Udp, port });
    let by_port = || at(anywhere(address.is_ipv6())).filter(|_| flow.translated || own.contains(&address));
    let found = at(address).or_else(by_port);
    found.is_some_and(|endpoints| !endpoints.contains(&flow.answers))
}

/// What stands for every address of this machine in a [`Frontend`].
pub fn anywhere(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn table_name(bridge: &str) -> String {
    format!("{}{bridge}-services", crate::masquerade::TABLE_PREFIX)
}

/// The tables of one family.
struct Plan<'a> {
    services: &'a Services,
    ids: &'a Ids<String>,
    targets: &'a Ids<Target>,
    pods: &'a [(IpAddr, u8)],
    v6: bool,
}

impl Plan<'_> {
    /// Bytes, and registers, of an address.
    fn width(&self) -> u32 {
        if self.v6 { 16 } else { 4 }
    }

    fn fill(&self, table: &mut Table) {
        self.sets(table);
        self.hooks(table);
        for (name, pool) in &self.services.pools {
            if let Some(id) = self.ids.get(name) {
                self.pool(table, id, pool);
            }
        }
        for (frontend, target) in &self.services.frontends {
            self.frontend(table, frontend, target);
        }
    }

    fn sets(&self, table: &mut Table) {
        let (address, place) = (self.width(), self.width() + 4);
        let own = if self.v6 { "ipv6" } else { "ipv4" };
        let mut add =
            |name: &str, kind: &[&str], key: u32, data: u32, verdicts: bool, dynamic: Option<u32>| {
                let set =
                    Set { kind: key::kind_of(kind), key, data, verdicts, dynamic, elements: BTreeMap::new() };
                table.sets.insert(name.to_owned(), set);
            };
        add("frontends", &[own, "protocol", "port"], address + 8, 0, true, None);
        add("node-ports", &["protocol", "port"], 8, 0, true, None);
        // (pool, number) -> (address, port)
        add("endpoints", &[], 8, place, false, None);
        // (pool, client) -> (address, port)
        add("clients", &[], 4 + address, place, false, Some(CLIENTS));
        // (pool, address, port)
        add("alive", &[], 4 + place, 0, false, None);
        // (address, the same address)
        add("selves", &[own, own], 2 * address, 0, false, None);
    }

    /// Hooks of address translation only: they see the first packet of a connection, so that all others pay nothing. What
    /// nobody answers is turned away there, too.
    fn hooks(&self, table: &mut Table) {
        let nat = |point, priority| Some(Hook { kind: "nat", point, priority });
        let jump = |chain: &str| vec![e::verdict(&Verdict::Jump(chain.to_owned()))];
        let mut add = |name: &str, hook, rules| table.chain(name, hook, rules);
        let protocol = self.width() / 4;
        let to_frontend = [e::address(0, End::Destination, self.v6), self.to_port(protocol)];
        let to_machine = [
            self.not_loopback(),
            e::address_kind(8, End::Destination),
            e::equals(8, &e::KIND_LOCAL.to_ne_bytes()),
            self.to_port(0),
        ];
        add(
            "services",
            None,
            vec![
                [to_frontend.concat(), e::verdict_of("frontends", 0)].concat(),
                [to_machine.concat(), e::verdict_of("node-ports", 0)].concat(),
            ],
        );
        add("prerouting", nat(Point::Prerouting, -100), jump("services"));
        add("output", nat(Point::Output, -100), jump("services"));
        add("turn-away", None, e::refuse(self.v6, Refusal::Unreachable));
        add("postrouting", nat(Point::Postrouting, 100), self.postrouting());
    }

    /// Loads protocol and destination port into two registers: a key's end.
    fn to_port(&self, at: u32) -> Vec<u8> {
        // A key's fields fill their registers: what a short load leaves is zero.
        [e::protocol(at), e::destination_port(at + 1)].concat()
    }

    /// A node port is not reached by the loopback addresses: the kernel does not route what comes from them.
    fn not_loopback(&self) -> Vec<u8> {
        let (loopback, prefix): (IpAddr, u8) = match self.v6 {
            false => (Ipv4Addr::LOCALHOST.into(), 8),
            true => (Ipv6Addr::LOCALHOST.into(), 128),
        };
        [e::address(0, End::Destination, self.v6), e::in_network(0, loopback, prefix, false)].concat()
    }

    fn postrouting(&self) -> Vec<Vec<u8>> {
        let marked =
            [e::mark(0), e::bits(0, &MARK.to_ne_bytes(), &[0; 4]), e::equals(0, &MARK.to_ne_bytes())];
        // A pod that reaches itself by its Service must answer by the same way.
        let (source, destination) =
            (e::address(0, End::Source, self.v6), e::address(self.width() / 4, End::Destination, self.v6));
        vec![
            [marked.concat(), e::masquerade()].concat(),
            [source, destination, e::is_in("selves", 0), e::masquerade()].concat(),
        ]
    }

    /// The pool's endpoints of this family.
    fn endpoints<'p>(&self, pool: &'p Pool) -> Vec<&'p SocketAddr> {
        pool.endpoints.iter().filter(|endpoint| endpoint.is_ipv6() == self.v6).collect()
    }

    fn pool(&self, table: &mut Table, id: u32, pool: &Pool) {
        let endpoints = self.endpoints(pool);
        let Ok(count @ 1..) = u32::try_from(endpoints.len()) else { return };
        for (number, endpoint) in (0_u32..).zip(&endpoints) {
            let (address, place) = (key::address(endpoint.ip()), key::place(endpoint));
            let key = [id.to_be_bytes(), number.to_ne_bytes()].concat();
            table.insert("endpoints", key, Value::Bytes(place.clone()));
            table.insert("selves", [&address[..], &address].concat(), Value::Member);
            if pool.affinity.is_some() {
                table.insert("alive", [&id.to_be_bytes()[..], &place].concat(), Value::Member);
            }
        }
        table.chain(pool_chain(id), None, self.choice(id, count, pool.affinity));
    }

    /// The rules that choose an endpoint.
    fn choice(&self, id: u32, count: u32, affinity: Option<Duration>) -> Vec<Vec<u8>> {
        let (words, pool) = (self.width() / 4, id.to_be_bytes());
        let id = e::load(0, &pool);
        let Some(stay) = affinity else {
            let chosen =
                [id, e::random(1, count), e::look_up("endpoints", 0, 2), e::redirect(2, 2 + words, self.v6)];
            return vec![chosen.concat()];
        };
        // Registers: the pool, the client; from 6 on the pool again, and the endpoint.
        let client = [id.clone(), e::address(1, End::Source, self.v6)].concat();
        let (again, endpoint, port) = (6, 7, 7 + words);
        let remembered = [
            client.clone(),
            e::look_up("clients", 0, endpoint),
            e::load(again, &pool),
            e::is_in("alive", again),
            e::remember("clients", 0, endpoint, stay),
            e::redirect(endpoint, port, self.v6),
        ];
        // The endpoint first, for its key needs the registers that the client's takes.
        let chosen = [
            id,
            e::random(1, count),
            e::look_up("endpoints", 0, endpoint),
            client,
            // Where the client was is gone.
            e::forget("clients", 0, endpoint),
            e::remember("clients", 0, endpoint, stay),
            e::redirect(endpoint, port, self.v6),
        ];
        vec![remembered.concat(), chosen.concat()]
    }

    fn frontend(&self, table: &mut Table, frontend: &Frontend, target: &Target) {
        if frontend.address.is_ipv6() != self.v6 {
            return;
        }
        let port = key::port(frontend.protocol as u8, frontend.port);
        let (map, key) = match frontend.address.is_unspecified() {
            true => ("node-ports", port),
            false => ("frontends", [key::address(frontend.address), port].concat()),
        };
        let served = self.served(&target.pool).is_some()
            || target.insiders.as_ref().is_some_and(|insiders| self.served(insiders).is_some());
        let chain = if served { self.entry(table, target) } else { None };
        let chain = chain.unwrap_or_else(|| "turn-away".to_owned());
        table.insert(map, key, Value::Verdict(Verdict::Goto(chain)));
    }

    /// The chain of a pool that has endpoints of this family.
    fn served(&self, pool: &String) -> Option<String> {
        let endpoints = self.services.pools.get(pool).map(|pool| self.endpoints(pool));
        endpoints.filter(|endpoints| !endpoints.is_empty())?;
        self.ids.get(pool).map(pool_chain)
    }

    /// The chain that a frontend sends packets to: judges their sources and hides them where it must, then chooses.
    fn entry(&self, table: &mut Table, target: &Target) -> Option<String> {
        let pool = self.served(&target.pool);
        let plain = target.insiders.is_none() && target.sources.is_none();
        if plain && target.masquerade == Masquerade::Never {
            return pool;
        }
        let name = format!("target-{}", self.targets.get(target)?);
        if table.chains.contains_key(&name) {
            return Some(name);
        }
        let goto = |chain: String| e::verdict(&Verdict::Goto(chain));
        let drop = || e::verdict(&Verdict::Drop);
        let mut rules = Vec::new();
        if let Some(insiders) = &target.insiders {
            let chosen = self.served(insiders).map_or_else(drop, goto);
            let machine = [e::address_kind(0, End::Source), e::equals(0, &e::KIND_LOCAL.to_ne_bytes())];
            rules.extend(self.own_networks().map(|from| [from, chosen.clone()].concat()));
            rules.push([machine.concat(), self.hide(), chosen.clone()].concat());
        }
        if target.masquerade != Masquerade::Never {
            let mut hide = Vec::new();
            if target.masquerade == Masquerade::Outsiders {
                let networks = self.pods.iter().filter(|(network, _)| network.is_ipv6() == self.v6);
                hide.extend(networks.flat_map(|network| self.from(*network, false)));
            }
            hide.extend(self.hide());
            rules.push(hide);
        }
        rules.push(pool.map_or_else(drop, goto));
        let Some(sources) = &target.sources else {
            table.chain(name.clone(), None, rules);
            return Some(name);
        };
        let admitted = format!("{name}-admitted");
        table.chain(admitted.clone(), None, rules);
        let own = sources.iter().filter(|(network, _)| network.is_ipv6() == self.v6);
        let mut gates: Vec<Vec<u8>> =
            own.map(|from| [self.from(*from, true), goto(admitted.clone())].concat()).collect();
        gates.push(drop());
        table.chain(name.clone(), None, gates);
        Some(name)
    }

    /// Goes on with packets from a network, or with all others.
    fn from(&self, (network, prefix): (IpAddr, u8), inside: bool) -> Vec<u8> {
        [e::address(0, End::Source, self.v6), e::in_network(0, network, prefix, inside)].concat()
    }

    /// A condition for each network of pods.
    fn own_networks(&self) -> impl Iterator<Item = Vec<u8>> {
        let own = self.pods.iter().filter(|(network, _)| network.is_ipv6() == self.v6);
        own.map(|network| self.from(*network, true))
    }

    /// Marks a packet as one that is to leave with the machine's own address.
    fn hide(&self) -> Vec<u8> {
        [e::mark(0), e::bits(0, &(!MARK).to_ne_bytes(), &MARK.to_ne_bytes()), e::set_mark(0)].concat()
    }
}

fn pool_chain(id: u32) -> String {
    format!("pool-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Family;

    #[test]
    fn only_the_first_packet_of_a_connection_meets_a_rule() {
        for (family, v6) in [(Family::Ipv4, false), (Family::Ipv6, true)] {
            let mut table = Table::new(family, "services");
            let services = &Services::default();
            Plan { services, ids: &Ids::default(), targets: &Ids::default(), pods: &[], v6 }.fill(&mut table);
            let hooks: Vec<_> = table.chains.values().filter_map(|chain| chain.hook).collect();
            assert!(!hooks.is_empty() && hooks.iter().all(|hook| hook.kind == "nat"), "{hooks:?}");
        }
    }
}
