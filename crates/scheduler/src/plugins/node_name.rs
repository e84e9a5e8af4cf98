//! A pod that names a node goes there or nowhere.

use super::{Plugin, PluginName, Refusal};
use crate::event::Event;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeName,
    concerns: |cycle| cycle.pod.node_name.is_some(),
    filter: Some(|cycle, snapshot, at| {
        let other = cycle.pod.node_name.as_ref().is_some_and(|name| *name != snapshot.nodes[at].name);
        other.then(|| Refusal::lasting(PluginName::NodeName, "node(s) didn't match the requested node name"))
    }),
    score: None,
    weight: 0,
    helps: |event, pod| match event {
        Event::Node(node, _) => pod.node_name.as_ref() == Some(&node.name),
        _ => false,
    },
};
