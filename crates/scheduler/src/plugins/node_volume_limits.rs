//! A node takes only so many volumes of a driver.

use super::{Plugin, PluginName, Refusal};
use crate::event::{Event, Storage};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::NodeVolumeLimits,
    concerns: |cycle| !cycle.pod.claims.is_empty(),
    filter: Some(|cycle, snapshot, at| {
        let (node, volumes) = (&snapshot.nodes[at], &snapshot.volumes);
        let limits = volumes.limits(&node.name)?;
        let mut attached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (driver, handle) in node.claims.keys().filter_map(|claim| volumes.attached(claim)) {
            attached.entry(driver).or_default().insert(handle);
        }
        let mut grown = BTreeSet::new();
        for (driver, handle) in cycle.pod.claim_keys().filter_map(|claim| volumes.attached(&claim)) {
            if attached.entry(driver.clone()).or_default().insert(handle) {
                grown.insert(driver);
            }
        }
        let full =
            grown.iter().any(|driver| limits.get(driver).is_some_and(|most| attached[driver].len() > *most));
        full.then(|| Refusal::curable(PluginName::NodeVolumeLimits, "node(s) exceed max volume count"))
    }),
    score: None,
    weight: 0,
    helps: |event, _| match event {
        Event::Storage(what) => matches!(what, Storage::Node | Storage::Claim | Storage::Volume),
        Event::PodGone(gone) => !gone.claims.is_empty(),
        _ => false,
    },
};
