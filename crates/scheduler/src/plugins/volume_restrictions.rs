//! A claim that may be used by one pod alone is.

use super::{Plugin, PluginName, Refusal};
use crate::event::{Event, Storage};
use crate::pod::ClaimKey;

const WHY: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::VolumeRestrictions,
    concerns: |cycle| !cycle.pod.claims.is_empty(),
    filter: Some(|cycle, snapshot, _| {
        let exclusive = |key: &ClaimKey| {
            let spec = snapshot.volumes.claim(key).and_then(|claim| claim.spec.as_ref());
            let mut modes = spec.into_iter().flat_map(|spec| spec.access_modes.iter().flatten());
            modes.any(|mode| mode == "ReadWriteOncePod")
        };
        let taken = cycle.pod.claim_keys().any(|key| snapshot.volumes.users(&key) > 0 && exclusive(&key));
        taken.then(|| Refusal::curable(PluginName::VolumeRestrictions, WHY))
    }),
    score: None,
    weight: 0,
    helps: |event, pod| match event {
        Event::Storage(what) => *what == Storage::Claim,
        Event::PodGone(gone) => gone.claim_keys().any(|key| pod.claim_keys().any(|own| own == key)),
        _ => false,
    },
};
