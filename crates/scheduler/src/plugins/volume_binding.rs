//! Volumes that a pod has decide where it can be; those that it is yet to get are decided on with its node.

use super::{Plugin, PluginName, Refusal};
use crate::cycle::Cycle;
use crate::event::Event;
use crate::pod::{ClaimKey, ClaimUse};
use crate::snapshot::{NodeInfo, Snapshot};
use crate::terms::{Labels, matches, selector_of};
use crate::volumes::{VolumePlan, Volumes, amount};
use api::node_selector::term_matches;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use std::sync::Arc;

const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::VolumeBinding,
    concerns: |cycle| !cycle.pod.claims.is_empty(),
    filter: Some(|cycle, snapshot, at| {
        let why = plan(cycle, snapshot, at).err()?;
        Some(Refusal::lasting(PluginName::VolumeBinding, why))
    }),
    score: None,
    weight: 0,
    helps: |event, _| match event {
        Event::Storage(_) => true,
        Event::Node(_, aspects) => aspects.labels,
        _ => false,
    },
};

/// A claim that gets its volume with the pod's node.
struct Unbound {
    key: ClaimKey,
    wanted: i64,
    class: Arc<StorageClass>,
    /// Volumes that would do, the smallest first.
    candidates: Vec<Arc<PersistentVolume>>,
}

/// The pod's claims, made ready.
#[derive(Default)]
pub(crate) struct Ready {
    bound: Vec<String>,
    unbound: Vec<Unbound>,
}

impl Ready {
    /// Sorts the pod's claims.
    pub(crate) fn of(cycle: &Cycle, volumes: &Volumes) -> Result<Self, Refusal> {
        let refuse = |why: String| Err(Refusal::lasting(PluginName::VolumeBinding, why));
        let mut ready = Self::default();
        for (key, using) in cycle.pod.claim_keys().zip(&cycle.pod.claims) {
            let name = &key.1;
            let Some(claim) = volumes.claim(&key) else {
                return refuse(match using {
                    ClaimUse::Named(_) => format!("persistentvolumeclaim {name:?} not found"),
                    ClaimUse::Own(_) => {
                        format!(
                            "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                        )
                    }
                });
            };
            if claim.metadata.deletion_timestamp.is_some() {
                return refuse(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Lost")) {
                let volume =
                    claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).unwrap_or_default();
                let why = format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                );
                return refuse(why);
            }
            if let Some(volume) = volumes.bound(claim) {
                ready.bound.push(volume);
            } else if let Some(class) = volumes.waits(claim) {
                ready.unbound.push(Unbound::of(key, claim, class.clone(), volumes));
            } else {
                return refuse("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
        }
        ready.unbound.sort_by(|a, b| (a.wanted, &a.key).cmp(&(b.wanted, &b.key)));
        Ok(ready)
    }
}

impl Unbound {
    fn of(key: ClaimKey, claim: &PersistentVolumeClaim, class: Arc<StorageClass>, volumes: &Volumes) -> Self {
        let spec = claim.spec.clone().unwrap_or_default();
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let wanted = amount(requests.and_then(|requests| requests.get("storage")));
        let free = |name: &String, volume: &PersistentVolume| {
            let promised = volumes.promised_to(name).is_none_or(|to| *to == key);
            promised && suits(&key, claim, &spec, wanted, volume)
        };
        let mut candidates: Vec<_> = volumes
            .all()
            .filter(|(name, volume)| free(name, volume))
            .map(|(_, volume)| volume.clone())
            .collect();
        // A volume that is meant for this claim before all others.
        candidates.sort_by_key(|volume| {
            let meant = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
            (!meant, size(volume))
        });
        Self { key, wanted, class, candidates }
    }
}

fn size(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    amount(capacity.and_then(|capacity| capacity.get("storage")))
}

/// Whether a volume would do for a claim, wherever the pod is.
fn suits(
    key: &ClaimKey,
    claim: &PersistentVolumeClaim,
    wanted_spec: &PersistentVolumeClaimSpec,
    wanted: i64,
    volume: &PersistentVolume,
) -> bool {
    let Some(spec) = &volume.spec else { return false };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let empty = Labels::new();
    let labels = volume.metadata.labels.as_ref().unwrap_or(&empty);
    let has_modes = || {
        let has = |mode| spec.access_modes.iter().flatten().any(|has| has == mode);
        wanted_spec.access_modes.iter().flatten().all(has)
    };
    let free = match &spec.claim_ref {
        None => volume.status.as_ref().is_none_or(|status| {
            matches!(status.phase.as_deref(), None | Some("Available" | "Pending" | ""))
        }),
        Some(claimed) => {
            (claimed.namespace.as_deref(), claimed.name.as_deref()) == (Some(&*key.0), Some(&*key.1))
                && (claimed.uid.is_none() || claimed.uid == claim.metadata.uid)
        }
    };
    let attributes = |name: &Option<String>| name.clone().unwrap_or_default();
    free && volume.metadata.deletion_timestamp.is_none()
        && size(volume) >= wanted
        && spec.storage_class_name.as_deref().unwrap_or_default()
            == wanted_spec.storage_class_name.as_deref().unwrap_or_default()
        && attributes(&spec.volume_attributes_class_name)
            == attributes(&wanted_spec.volume_attributes_class_name)
        && mode(&spec.volume_mode) == mode(&wanted_spec.volume_mode)
        && has_modes()
        && (wanted_spec.selector.is_none() || matches(&selector_of(wanted_spec.selector.as_ref()), labels))
}

fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| term_matches(term, &node.labels, &node.name))
    })
}

/// Which volumes the pod's claims get on a node.
///
/// # Errors
/// Why they get none there.
pub(crate) fn plan(cycle: &Cycle, snapshot: &Snapshot, at: usize) -> Result<VolumePlan, &'static str> {
    let (ready, volumes, node) = (&cycle.volumes, &snapshot.volumes, &snapshot.nodes[at]);
    for name in &ready.bound {
        let volume = volumes.volume(name).ok_or(NO_VOLUME)?;
        if !reaches(volume, node) {
            return Err(ELSEWHERE);
        }
    }
    let mut plan = VolumePlan::default();
    for claim in &ready.unbound {
        let chosen = volumes.node_of(&claim.key);
        if chosen.is_some_and(|chosen| *chosen != *node.name) {
            return Err(NONE_TO_BIND);
        }
        let free = |volume: &&Arc<PersistentVolume>| {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            reaches(volume, node) && !plan.bind.iter().any(|(taken, _)| taken == name)
        };
        let there = if chosen.is_some() { None } else { claim.candidates.iter().find(free) };
        match there.and_then(|volume| volume.metadata.name.clone()) {
            Some(name) => plan.bind.push((name, claim.key.clone())),
            None => {
                can_be_made(claim, volumes, node)?;
                plan.provision.push(claim.key.clone());
            }
        }
    }
    Ok(plan)
}

fn can_be_made(claim: &Unbound, volumes: &Volumes, node: &NodeInfo) -> Result<(), &'static str> {
    let class = &claim.class;
    let mut topologies = class.allowed_topologies.iter().flatten().peekable();
    let allowed = topologies.peek().is_none()
        || topologies.any(|term| {
            let mut each = term.match_label_expressions.iter().flatten();
            each.all(|wanted| node.labels.get(&wanted.key).is_some_and(|value| wanted.values.contains(value)))
        });
    if !Volumes::makes(class) || !allowed {
        return Err(NONE_TO_BIND);
    }
    let Some(mut capacities) = volumes.capacities(class) else { return Ok(()) };
    let enough = capacities.any(|capacity| {
        let most = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref());
        amount(most) >= claim.wanted && matches(&selector_of(capacity.node_topology.as_ref()), &node.labels)
    });
    if enough { Ok(()) } else { Err(NO_ROOM) }
}
