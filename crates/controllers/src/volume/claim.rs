//! What to do about a claim.

use super::matching::{best, is_placed, mismatch, waits};
use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, Event, IS_DEFAULT, Memory, OLD_CLASS, OLD_PROVISIONER, PROVISIONER,
    View, claim_ref, class_of_claim, is_bound_to, is_complete, phase_of, volume_name,
};
use crate::merge::difference;
use crate::plan::{Plan, patch, patch_status, tell};
use client::EventType::{Normal, Warning};
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use std::cmp::Reverse;
use std::sync::Arc;

/// Decides; pure.
pub(super) fn plan(claim: &PersistentVolumeClaim, view: &View, memory: &Memory, plan: &mut Plan<Memory>) {
    let volume = view.volume.as_deref();
    let event = match (is_complete(claim), volume_name(claim).is_empty()) {
        (true, _) => return bound(claim, volume, plan),
        (false, true) => choose(claim, view, plan),
        (false, false) => asked(claim, volume, plan),
    };
    let Some((kind, reason, message)) = event else { return };
    let told = Some((reason, message.clone()));
    if *memory != told {
        plan.then(tell(claim, kind, reason, message));
    }
    plan.memory = Some(told);
}

/// A claim that takes what suits it.
fn choose(claim: &PersistentVolumeClaim, view: &View, plan: &mut Plan<Memory>) -> Option<Event> {
    let waits = waits(view.class.as_deref());
    if let Some(volume) = best(claim, &view.candidates, waits) {
        bind(claim, volume, plan);
        return None;
    }
    if let Some(class) = default_class(claim, &view.classes) {
        plan.then(patch(claim, json!({ "spec": { "storageClassName": class.metadata.name } })));
        return None;
    }
    let event = if waits && !is_placed(claim) {
        let (reason, message) = match view.waiting.as_slice() {
            [] => {
                ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned())
            }
            [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
        };
        Some((Normal, reason, message))
    } else if class_of_claim(claim).is_empty() {
        let why = "no persistent volumes available for this claim and no storage class is set";
        Some((Normal, "FailedBinding", why.to_owned()))
    } else {
        provision(claim, view.class.as_deref(), plan)
    };
    status(claim, "Pending", None, plan);
    event
}

/// Asks the provisioner of the class for a volume.
fn provision(
    claim: &PersistentVolumeClaim,
    class: Option<&StorageClass>,
    plan: &mut Plan<Memory>,
) -> Option<Event> {
    let Some(class) = class else {
        let why = format!("storageclass.storage.k8s.io {:?} not found", class_of_claim(claim));
        return Some((Warning, "ProvisioningFailed", why));
    };
    let provisioner = &class.provisioner;
    if provisioner.starts_with("kubernetes.io/") {
        return Some((
            Warning,
            "ProvisioningFailed",
            format!("no volume plugin matched name: {provisioner}"),
        ));
    }
    if claim.annotations().get(PROVISIONER) != Some(provisioner) {
        let annotations = json!({ PROVISIONER: provisioner, OLD_PROVISIONER: provisioner });
        plan.then(patch(claim, json!({ "metadata": { "annotations": annotations } })));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    Some((Normal, "ExternalProvisioning", message))
}

/// The default class, for a claim that says nothing of classes: the newest of several.
fn default_class<'a>(
    claim: &PersistentVolumeClaim,
    classes: &'a [Arc<StorageClass>],
) -> Option<&'a Arc<StorageClass>> {
    let names_one = claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some());
    if names_one || claim.annotations().contains_key(OLD_CLASS) {
        return None;
    }
    let is_default = |class: &&Arc<StorageClass>| {
        IS_DEFAULT.iter().any(|name| class.annotations().get(*name).is_some_and(|value| value == "true"))
    };
    let age = |class: &&Arc<StorageClass>| (Reverse(class.creation_timestamp()), class.name_any());
    classes.iter().filter(is_default).min_by_key(age)
}

/// A claim that asks for a volume by its name.
fn asked(
    claim: &PersistentVolumeClaim,
    volume: Option<&PersistentVolume>,
    plan: &mut Plan<Memory>,
) -> Option<Event> {
    let why = match volume {
        None => None,
        Some(volume) if is_bound_to(volume, claim) => {
            bind(claim, volume, plan);
            return None;
        }
        Some(volume) if claim_ref(volume).is_some() => Some((
            "FailedBinding",
            format!("volume {:?} already bound to a different claim.", volume.name_any()),
        )),
        Some(volume) => match mismatch(volume, claim) {
            None => {
                bind(claim, volume, plan);
                return None;
            }
            Some(why) => {
                let why = format!("Cannot bind to requested volume {:?}: {why}", volume.name_any());
                Some(("VolumeMismatch", why))
            }
        },
    };
    status(claim, "Pending", None, plan);
    why.map(|(reason, message)| (Warning, reason, message))
}

/// A claim that has been bound: it stays so, or is lost.
fn bound(claim: &PersistentVolumeClaim, volume: Option<&PersistentVolume>, plan: &mut Plan<Memory>) {
    let lost = match volume {
        Some(volume) if claim_ref(volume).is_none() || is_bound_to(volume, claim) => {
            return bind(claim, volume, plan);
        }
        Some(_) => {
            ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
        None if volume_name(claim).is_empty() => {
            ("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
        }
        None => ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
    };
    if status(claim, "Lost", None, plan) {
        plan.then(tell(claim, Warning, lost.0, lost.1));
    }
}

/// Takes the next step towards a binding that stands on both sides: first the volume says whose it is, then the claim says
/// what it has, then both say that they are bound.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan<Memory>) {
    let mut is_said = true;
    if let Some(body) = of_volume(claim, volume) {
        plan.then(patch(volume, body));
        is_said = false;
    } else if phase_of(volume) != "Bound" {
        plan.then(patch_status(volume, json!({ "phase": "Bound", "message": null })));
    }
    let is_named = volume_name(claim) == volume.name_any();
    if !is_named || !is_complete(claim) {
        let mut body = json!({ "metadata": { "annotations": { BIND_COMPLETED: "yes" } } });
        if !is_named {
            body["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
            body["spec"]["volumeName"] = json!(volume.name_any());
        }
        plan.then(patch(claim, body));
        is_said = false;
    }
    if is_said {
        status(claim, "Bound", Some(volume), plan);
    }
}

/// What a volume has to say to be this claim's, if it does not.
fn of_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<serde_json::Value> {
    let reference = claim_ref(volume);
    if reference.is_some_and(|reference| reference.uid == claim.uid() && is_bound_to(volume, claim)) {
        return None;
    }
    let reference_to = json!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": claim.namespace(), "name": claim.name_any(),
        "uid": claim.uid(), "resourceVersion": claim.resource_version(),
    });
    let mut body = json!({ "spec": { "claimRef": reference_to } });
    if reference.is_none() {
        body["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
    }
    Some(body)
}

/// Says how far the claim is; whether that is news.
fn status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
    plan: &mut Plan<Memory>,
) -> bool {
    let before = claim.status.clone().unwrap_or_default();
    let mut after = before.clone();
    after.phase = Some(phase.to_owned());
    let spec = volume.and_then(|volume| volume.spec.as_ref());
    after.access_modes = spec.and_then(|spec| spec.access_modes.clone());
    match spec {
        None => after.capacity = None,
        // Who has resized it since then knows better.
        Some(_) if before.phase.as_deref() == Some(phase) => {}
        Some(spec) => {
            after.capacity.clone_from(&spec.capacity);
            after.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
        }
    }
    if before == after {
        return false;
    }
    let value = |status| serde_json::to_value(status).unwrap_or_default();
    plan.then(patch_status(claim, difference(&value(before), &value(after))));
    true
}
