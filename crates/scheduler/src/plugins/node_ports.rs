//! A port of a node is taken once.

use super::{Plugin, PluginName, Refusal};
use crate::event::Event;
use crate::pod::HostPort;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodePorts,
    concerns: |cycle| !cycle.pod.host_ports.is_empty(),
    filter: Some(|cycle, snapshot, at| {
        let taken = &snapshot.nodes[at].ports;
        let refused = cycle.pod.host_ports.iter().any(|port| taken.keys().any(|other| overlap(port, other)));
        let why = "node(s) didn't have free ports for the requested pod ports";
        refused.then(|| Refusal::curable(PluginName::NodePorts, why))
    }),
    score: None,
    weight: 0,
    helps: |event, pod| match event {
        Event::Node(_, aspects) => aspects.cordon && aspects.allocatable,
        Event::PodGone(gone) => {
            pod.host_ports.iter().any(|port| gone.host_ports.iter().any(|other| overlap(port, other)))
        }
        _ => false,
    },
};

fn overlap(a: &HostPort, b: &HostPort) -> bool {
    let addresses = a.0 == b.0 || a.0 == "0.0.0.0" || b.0 == "0.0.0.0";
    addresses && (&a.1, a.2) == (&b.1, b.2)
}
