//! A volume that says by its labels where it is, is used there.

use super::{Plugin, PluginName, Refusal};
use crate::event::{Event, Storage};

const KEYS: [&str; 4] = [
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::VolumeZone,
    concerns: |cycle| !cycle.pod.claims.is_empty(),
    filter: Some(|cycle, snapshot, at| {
        let labels = &snapshot.nodes[at].labels;
        if !KEYS.iter().any(|key| labels.contains_key(*key)) {
            return None;
        }
        let volumes = cycle.pod.claim_keys().filter_map(|key| {
            let claim = snapshot.volumes.claim(&key)?;
            snapshot.volumes.volume(claim.spec.as_ref()?.volume_name.as_deref()?)
        });
        let elsewhere = volumes.filter_map(|volume| volume.metadata.labels.as_ref()).any(|places| {
            KEYS.iter().filter_map(|key| Some((key, places.get(*key)?))).any(|(key, zones)| {
                let here = labels.get(*key);
                !zones.split("__").any(|zone| Some(zone) == here.map(String::as_str))
            })
        });
        elsewhere.then(|| Refusal::lasting(PluginName::VolumeZone, "node(s) had no available volume zone"))
    }),
    score: None,
    weight: 0,
    helps: |event, _| match event {
        Event::Storage(what) => matches!(what, Storage::Claim | Storage::Volume | Storage::Class),
        Event::Node(_, aspects) => aspects.labels,
        _ => false,
    },
};
