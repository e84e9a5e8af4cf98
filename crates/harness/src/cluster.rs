//! Several machines of one plane.

use std::path::PathBuf;

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

    /// The words of a node that joins with a new token, and these further flags.
    pub fn invitation(&self, flags: &[&str]) -> Vec<String> {
        let said = self.server.monoplane(&["token", "create"]);
        let told = said.out.trim().strip_prefix("monoplane ");
        let told = told.unwrap_or_else(|| panic!("no command to join with: {said:?}"));
        // How full this machine's disk is has nothing to do with what is tested.
        let own =
            ["--image-gc-high-threshold", "100", "--eviction-hard", "memory.available<20Mi", "--log", "info"];
        told.split_whitespace().chain(own).chain(flags.iter().copied()).map(str::to_owned).collect()
    }

    /// Waits until a node says that it is ready.
    pub fn wait_until_ready(&self, name: &str) {
        let ready = "--for=condition=Ready";
        eventually("the node is there", || self.server.kubectl(&["get", "node", name]).ok.then_some(()));
        self.server.kubectl_ok(&["wait", ready, &format!("node/{name}"), "--timeout=60s"]);
    }
}
