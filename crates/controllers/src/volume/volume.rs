//! What to do about a volume.

use super::matching::same_mode;
use super::{BOUND_BY_CONTROLLER, Memory, PROVISIONED_BY, claim_ref, phase_of, volume_name};
use crate::plan::{Plan, patch, patch_status, tell};
use client::EventType::Warning;
use client::kube::ResourceExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

/// Decides; pure. `claim` is that of the name that the volume says.
pub(super) fn plan(
    volume: &PersistentVolume,
    claim: Option<&PersistentVolumeClaim>,
    _now: Timestamp,
    plan: &mut Plan<Memory>,
) {
    let reference =
        claim_ref(volume).filter(|reference| reference.uid.as_deref().is_some_and(|uid| !uid.is_empty()));
    let Some(reference) = reference else { return phase(volume, "Available", plan) };
    match claim.filter(|claim| claim.uid() == reference.uid) {
        None => release(volume, plan),
        Some(claim) if volume_name(claim) == volume.name_any() => phase(volume, "Bound", plan),
        // The claim finishes it.
        Some(claim) if volume_name(claim).is_empty() => {
            if !same_mode(volume, claim) {
                let why = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
                    claim.name_any()
                );
                tell_once(volume, why, plan);
            }
        }
        Some(_) if is_made_for_it(volume) => release(volume, plan),
        Some(_) => unbind(volume, plan),
    }
}

fn tell_once(volume: &PersistentVolume, why: String, plan: &mut Plan<Memory>) {
    plan.then(tell(volume, Warning, "VolumeMismatch", why));
}

fn phase(volume: &PersistentVolume, phase: &str, plan: &mut Plan<Memory>) {
    if phase_of(volume) != phase {
        plan.then(patch_status(volume, json!({ "phase": phase, "message": null })));
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

fn provisioner(volume: &PersistentVolume) -> Option<&str> {
    volume.annotations().get(PROVISIONED_BY).map(String::as_str)
}

/// Whether it was made for a claim that found another.
fn is_made_for_it(volume: &PersistentVolume) -> bool {
    provisioner(volume).is_some() && policy(volume) == "Delete"
}

/// Its claim is gone: says so, and does what its policy asks for. Whoever made it takes it away.
fn release(volume: &PersistentVolume, plan: &mut Plan<Memory>) {
    let before = phase_of(volume);
    if before != "Released" && before != "Failed" {
        return phase(volume, "Released", plan);
    }
    let is_csi = volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some());
    let is_others = provisioner(volume).is_some_and(|name| !name.starts_with("kubernetes.io/")) || is_csi;
    let (reason, why) = match policy(volume) {
        "Retain" => return,
        "Delete" if is_others => return,
        "Delete" => (
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume.name_any()
            ),
        ),
        "Recycle" => ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned()),
        _ => {
            ("VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned())
        }
    };
    if before != "Failed" {
        plan.then(patch_status(volume, json!({ "phase": "Failed", "message": why })));
        plan.then(tell(volume, Warning, reason, why));
    }
}

/// Takes back one side of a binding whose other side is elsewhere; who reserved it keeps it reserved.
fn unbind(volume: &PersistentVolume, plan: &mut Plan<Memory>) {
    let body = match volume.annotations().contains_key(BOUND_BY_CONTROLLER) {
        true => json!({
            "metadata": { "annotations": { BOUND_BY_CONTROLLER: null } }, "spec": { "claimRef": null },
        }),
        false => json!({ "spec": { "claimRef": { "uid": null, "resourceVersion": null } } }),
    };
    plan.then(patch(volume, body));
}
