//! Which volume suits a claim.

use super::{SELECTED_NODE, class_of_claim, class_of_volume, is_bound_to, phase_of};
use crate::ownership::{is_terminating, selects};
use apimachinery::quantity::Quantity;
use client::kube::ResourceExt;
use client::kube::core::Selector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use std::sync::Arc;

/// Whether a claim of this class is bound where its first pod is to run.
pub(super) fn waits(class: Option<&StorageClass>) -> bool {
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// Whether the scheduler has chosen a node for the claim's pod.
pub(super) fn is_placed(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().get(SELECTED_NODE).is_some_and(|node| !node.is_empty())
}

fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let storage = resources.and_then(|resources| resources.requests.as_ref()?.get("storage"));
    storage.and_then(|storage| storage.0.parse().ok()).unwrap_or_default()
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let storage = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
    storage.and_then(|storage| storage.0.parse().ok()).unwrap_or_default()
}

fn modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// Whether both are file systems, or both devices.
pub(super) fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", |mode| mode).to_owned();
    let of_claim = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) == mode(of_claim)
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|mode| modes(volume).contains(mode))
}

fn same_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let class = |class: Option<&String>| class.cloned().unwrap_or_default();
    class(volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
        == class(claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()))
}

/// Why a volume that a claim asks for by name cannot be its own, in upstream's words.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if is_terminating(volume) {
        return Some(format!("the volume is marked for deletion {:?}", volume.name_any()));
    }
    let why = match () {
        () if capacity(volume) < requested(claim) => "requested PV is too small",
        () if class_of_volume(volume) != class_of_claim(claim) => "storageClassName does not match",
        () if !same_attributes(volume, claim) => "volumeAttributesClassName does not match",
        () if !same_mode(volume, claim) => "incompatible volumeMode",
        () if !has_modes(volume, claim) => "incompatible accessMode",
        () => return None,
    };
    Some(why.to_owned())
}

/// The volume that a claim should have: one that names it, or else the smallest that suits it with the fewest modes that it
/// does not ask for. One that waits for its first pod gets only what names it: the scheduler chooses for it.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    candidates: &'a [Arc<PersistentVolume>],
    waits: bool,
) -> Option<&'a Arc<PersistentVolume>> {
    let fits = |volume: &&Arc<PersistentVolume>| {
        capacity(volume) >= requested(claim) && same_mode(volume, claim) && !is_terminating(&***volume)
    };
    let named = candidates.iter().filter(fits).find(|volume| is_bound_to(volume, claim));
    if named.is_some() || waits {
        return named;
    }
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.clone());
    // One that cannot be read selects nothing.
    let selector = match selector.map(Selector::try_from) {
        Some(Err(_)) => return None,
        Some(Ok(selector)) => Some(selector),
        None => None,
    };
    let suits = |volume: &&Arc<PersistentVolume>| {
        super::claim_ref(volume).is_none()
            && phase_of(volume) == "Available"
            && class_of_volume(volume) == class_of_claim(claim)
            && same_attributes(volume, claim)
            && has_modes(volume, claim)
            && selector.as_ref().is_none_or(|selector| selects(selector, &***volume))
    };
    let suitable = candidates.iter().filter(fits).filter(suits);
    suitable.min_by_key(|volume| (modes(volume).len(), capacity(volume), volume.name_any()))
}
