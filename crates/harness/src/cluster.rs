//! Several machines of one plane.

use std::path::PathBuf;

use crate::etcd::Etcd;
use crate::host::{Host, Switch};
use crate::machine::Machine;
use crate::plane::Plane;
use crate::wait::eventually;

/// A plane on several machines, which have networks of their own on this one: see [`Host`](crate::Host) for what can be done
/// to them. Needs root.
pub struct Cluster {
    /// The machine that runs everything, at 10.99.0.1. Its gateway and API are reached from machines of the cluster only.
    pub server: Plane,
    binary: PathBuf,
    machines: u8,
    /// The last to go.
    switch: Switch,
}

impl Cluster {
    /// Starts the first machine, with these further flags of `up`, and waits until every role serves.
    pub fn start(binary: &str, flags: &[&str]) -> Self {
        let mut switch = Switch::new();
        let server = Plane::start_on(switch.plug_in(), binary, flags);
        Self { server, binary: binary.into(), machines: 0, switch }
    }

    /// The same over an etcd on a machine of its own: further servers may share it.
    pub fn start_over_etcd(binary: &str, flags: &[&str]) -> (Self, Etcd) {
        let mut switch = Switch::new();
        let host = switch.plug_in();
        let etcd = Etcd::start_on(switch.plug_in());
        let servers = etcd.endpoints().join(",");
        let flags = [&["--etcd-servers", &servers], flags].concat();
        let server = Plane::start_on(host, binary, &flags);
        (Self { server, binary: binary.into(), machines: 0, switch }, etcd)
    }

    /// Another server over the same etcd, with the flags of the first.
    pub fn another_server(&mut self) -> Plane {
        self.machines += 1;
        let mark = format!("{}-{}", std::process::id(), self.machines);
        Plane::start_beside(&self.server, self.switch.plug_in(), mark, &self.binary)
    }

    /// Another machine, which runs nothing yet: see [`Machine::run`].
    pub fn machine(&mut self) -> Machine {
        let host = self.switch.plug_in();
        self.machine_at(host)
    }

    /// The same behind a router: it reaches the others, and is not reached by them.
    pub fn hidden_machine(&mut self) -> Machine {
        let host = self.switch.hide();
        self.machine_at(host)
    }

    fn machine_at(&mut self, host: Host) -> Machine {
        self.machines += 1;
        let mark = format!("{}-{}", std::process::id(), self.machines);
        Machine::new(&std::env::temp_dir(), &self.binary, mark, Some(host))
    }

    /// Another machine, which joins the plane as a node of this name, with these further flags; waits until it is ready.
    pub fn join(&mut self, name: &str, flags: &[&str]) -> Machine {
        let mut machine = self.machine();
        let mut words = self.invitation(&["--node-name", name]);
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        machine.run(&words);
        self.wait_until_ready(name);
        machine
    }

    /// An edge beside a node, which joins the plane under this name, with these further flags.
    pub fn join_edge(&mut self, node: &Machine, name: &str, flags: &[&str]) -> Machine {
        let mut machine = self.machine_at(node.host().clone());
        let mut words = self.told(&["token", "create", "--edge"]);
        words.extend(
            ["--edge-name", name, "--log", "info"].iter().chain(flags).map(|word| (*word).to_owned()),
        );
        machine.run(&words);
        machine
    }

    /// What a verb says to run.
    fn told(&self, words: &[&str]) -> Vec<String> {
        let said = self.server.monoplane(words);
        let told = said.out.trim().strip_prefix("monoplane ");
        let told = told.unwrap_or_else(|| panic!("no command to join with: {said:?}"));
        told.split_whitespace().map(str::to_owned).collect()
    }

    /// The words of a node that joins with a new token, and these further flags.
    pub fn invitation(&self, flags: &[&str]) -> Vec<String> {
        // How full this machine's disk is has nothing to do with what is tested.
        let own =
            ["--image-gc-high-threshold", "100", "--eviction-hard", "memory.available<20Mi", "--log", "info"];
        let more = own.into_iter().chain(flags.iter().copied()).map(str::to_owned);
        self.told(&["token", "create"]).into_iter().chain(more).collect()
    }

    /// Waits until a node says that it is ready.
    pub fn wait_until_ready(&self, name: &str) {
        let ready = "--for=condition=Ready";
        eventually("the node is there", || self.server.kubectl(&["get", "node", name]).ok.then_some(()));
        self.server.kubectl_ok(&["wait", ready, &format!("node/{name}"), "--timeout=60s"]);
    }
}
