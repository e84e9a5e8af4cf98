//! Several machines of one plane.

use std::path::PathBuf;

use crate::host::Switch;
use crate::machine::Machine;
use crate::plane::Plane;

/// A plane on several machines, which have networks of their own on this one: see [`Host`](crate::Host) for what can be done
/// to them. Needs root.
pub struct Cluster {
    /// The machine that runs everything, at 10.99.0.1. Its gateway and API are reached from machines of the cluster only.
    pub server: Plane,
    binary: PathBuf,
    /// The last to go.
    switch: Switch,
}

impl Cluster {
    /// Starts the first machine, with these further flags of `up`, and waits until every role serves.
    pub fn start(binary: &str, flags: &[&str]) -> Self {
        let mut switch = Switch::new();
        let server = Plane::start_on(switch.plug_in(), binary, flags);
        Self { server, binary: binary.into(), switch }
    }

    /// Another machine, which runs nothing yet: see [`Machine::run`].
    pub fn machine(&mut self) -> Machine {
        let host = self.switch.plug_in();
        let mark = format!("{}-{}", std::process::id(), host.address().octets()[3]);
        Machine::new(&std::env::temp_dir(), &self.binary, mark, Some(host))
    }
}
