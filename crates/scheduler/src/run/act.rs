//! Decisions carried out: bindings, volumes, evictions, and what is said about it.

use super::Scheduler;
use super::world::{Decision, Nominated};
use crate::instruments::{Outcome, Turn};
use crate::place::Placement;
use crate::pod::{ClaimKey, PodFacts};
use crate::preempt::Preemption;
use crate::volumes::{SELECTED_NODE, VolumePlan};
use client::EventType;
use client::kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use client::kube::{Error, ResourceExt};
use client::write::{is_conflict, is_not_found};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status, Time};
use serde_json::{Value, json};
use std::time::Duration;

/// Why a pod's volumes were not bound.
#[derive(Debug, thiserror::Error)]
enum VolumeError {
    #[error("binding volumes: {0}")]
    Refused(#[from] Error),
    #[error("binding volumes: {0} is gone")]
    Gone(String),
    #[error("binding volumes: selectedNode annotation reset for PVC {0:?}")]
    Reset(String),
    #[error("binding volumes: timed out waiting for the condition")]
    TimedOut,
}

impl Scheduler {
    pub(super) async fn carry_out(&self, decision: Decision) {
        match decision {
            Decision::Bind(facts, placement, turn) => {
                let outcome = self.bind(&facts, &placement).await;
                self.ended(&facts, outcome, turn);
            }
            Decision::Wait { facts, turn, why, news, nominated } => {
                self.ended(&facts, Outcome::Unschedulable, turn);
                let message = why.to_string();
                self.record(&facts, EventType::Warning, "FailedScheduling", message.clone());
                let node = match &nominated {
                    Nominated::AsItWas => None,
                    Nominated::Nowhere => Some(Value::Null),
                    Nominated::By(preemption) => Some(Value::from(&*preemption.node)),
                };
                if news || node.is_some() {
                    self.say_unschedulable(&facts, &message, node).await;
                }
                if let Nominated::By(preemption) = nominated {
                    self.make_room(&facts, &preemption).await;
                    self.told(|world, now| world.queue.pause(&facts.uid, now));
                }
            }
        }
    }

    fn ended(&self, facts: &PodFacts, outcome: Outcome, turn: Turn) {
        self.counts.ended(&facts.scheduler_name, outcome, turn, self.ambient.clock.monotonic());
    }

    async fn bind(&self, facts: &PodFacts, placement: &Placement) -> Outcome {
        let node = &placement.node;
        if !placement.volumes.is_empty()
            && let Err(error) = self.bind_volumes(facts, placement).await
        {
            tracing::info!(pod = %facts.name, %error, "binding failed");
            self.record(facts, EventType::Warning, "FailedScheduling", error.to_string());
            self.told(|world, now| {
                world.not_bound(facts, &placement.volumes, true, now);
            });
            return Outcome::Error;
        }
        match self.bind_pod(facts, node).await {
            Ok(()) => {
                self.world().snapshot.volumes.release(&placement.volumes);
                let message = format!("Successfully assigned {}/{} to {node}", facts.namespace, facts.name);
                self.record(facts, EventType::Normal, "Scheduled", message);
                Outcome::Scheduled
            }
            Err(error) => {
                self.not_bound(facts, &placement.volumes, &error);
                Outcome::Error
            }
        }
    }

    async fn bind_pod(&self, facts: &PodFacts, node: &str) -> Result<(), Error> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(facts.name.to_string()),
                namespace: Some(facts.namespace.to_string()),
                uid: Some(facts.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let params = PostParams::default();
        let pods = self.pods(facts);
        pods.create_subresource::<_, Status>("binding", &facts.name, &params, &binding).await.map(drop)
    }

    /// The place is given back. A pod that is gone, or bound by another, is no longer ours; anything else is tried again.
    pub(super) fn not_bound(&self, facts: &PodFacts, volumes: &VolumePlan, error: &Error) {
        let again = !is_not_found(error) && !is_conflict(error);
        self.told(|world, now| {
            let ours = world.not_bound(facts, volumes, again, now);
            if ours && again {
                tracing::info!(pod = %facts.name, %error, "binding failed");
            } else {
                tracing::debug!(pod = %facts.name, %error, "was not ours to bind");
            }
        });
    }

    /// Says which volumes and which node the pod's claims get, and waits until they have them.
    async fn bind_volumes(&self, facts: &PodFacts, placement: &Placement) -> Result<(), VolumeError> {
        let profile = self.world().config.profile(&facts.scheduler_name).cloned();
        let patience = profile.map_or(Duration::from_secs(600), |profile| profile.bind_timeout);
        let deadline = self.ambient.clock.monotonic() + patience;
        for (volume, claim) in &placement.volumes.bind {
            self.give(volume, claim).await?;
        }
        for claim in &placement.volumes.provision {
            let note = json!({ "metadata": { "annotations": { SELECTED_NODE: *placement.node } } });
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &claim.0);
            claims.patch(&claim.1, &PatchParams::default(), &Patch::Merge(note)).await?;
        }
        let mut changed = self.claims_changed.subscribe();
        let mut noted = false;
        loop {
            if self.all_bound(&placement.volumes, &mut noted)? {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = self.ambient.clock.sleep_until(deadline) => return Err(VolumeError::TimedOut),
            }
        }
    }

    /// A volume is the claim's from now on; that it is, the binder of volumes tells the claim.
    async fn give(&self, name: &str, key: &ClaimKey) -> Result<(), VolumeError> {
        let (claim, volume) = {
            let world = self.world();
            let volumes = &world.snapshot.volumes;
            (volumes.claim(key).cloned(), volumes.volume(name).cloned())
        };
        let claim = claim.ok_or_else(|| VolumeError::Gone(format!("persistentvolumeclaim {:?}", key.1)))?;
        let volume = volume.ok_or_else(|| VolumeError::Gone(format!("persistentvolume {name:?}")))?;
        let patch = json!({
            "metadata": {
                "resourceVersion": volume.metadata.resource_version,
                "annotations": { "pv.kubernetes.io/bound-by-controller": "yes" },
            },
            "spec": { "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": key.0, "name": key.1,
                "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
            } },
        });
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        volumes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// Whether all claims have their volumes. `noted`: the choice of node was seen by then; when it is gone later, whoever makes
    /// volumes could make none there.
    fn all_bound(&self, plan: &VolumePlan, noted: &mut bool) -> Result<bool, VolumeError> {
        let world = self.world();
        let volumes = &world.snapshot.volumes;
        for key in plan.claims() {
            let gone = || VolumeError::Gone(format!("persistentvolumeclaim {:?}", key.1));
            let claim = volumes.claim(key).ok_or_else(gone)?;
            if volumes.bound(claim).is_some() {
                continue;
            }
            if plan.provision.contains(key) {
                let noted_now = claim.annotations().contains_key(SELECTED_NODE);
                if *noted && !noted_now {
                    return Err(VolumeError::Reset(key.1.clone()));
                }
                *noted = noted_now;
            }
            return Ok(false);
        }
        Ok(true)
    }

    /// Tells victims to go, and pods for which room was being made there to look elsewhere.
    async fn make_room(&self, facts: &PodFacts, preemption: &Preemption) {
        for rival in &preemption.rivals {
            self.patch_status(rival, json!({ "nominatedNodeName": null })).await;
        }
        for victim in preemption.victims.iter().filter(|victim| !victim.class.terminating) {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", facts.scheduler_name),
                "lastTransitionTime": Time(self.ambient.clock.now()),
            });
            self.patch_status(victim, json!({ "conditions": [condition] })).await;
            let this_one = Preconditions { uid: Some(victim.uid.to_string()), ..Preconditions::default() };
            let params = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
            match self.pods(victim).delete(&victim.name, &params).await {
                Ok(_) => {
                    let message = format!("Preempted by pod {} on node {}", facts.uid, preemption.node);
                    self.record(victim, EventType::Normal, "Preempted", message);
                }
                Err(error) if is_not_found(&error) || is_conflict(&error) => {}
                // The pod is tried again after its pause, and finds out whether it still needs this.
                Err(error) => tracing::info!(pod = %victim.name, %error, "could not preempt"),
            }
        }
    }

    async fn say_unschedulable(&self, facts: &PodFacts, message: &str, nominated: Option<Value>) {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": Time(self.ambient.clock.now()),
        });
        let mut status = json!({ "conditions": [condition] });
        if let Some(node) = nominated {
            status["nominatedNodeName"] = node;
        }
        self.patch_status(facts, status).await;
    }

    async fn patch_status(&self, facts: &PodFacts, status: Value) {
        let patch = json!({ "metadata": { "uid": *facts.uid }, "status": status });
        let params = PatchParams::default();
        if let Err(error) =
            self.pods(facts).patch_status(&facts.name, &params, &Patch::Strategic(patch)).await
        {
            tracing::debug!(pod = %facts.name, %error, "could not change a pod's status");
        }
    }

    fn pods(&self, facts: &PodFacts) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &facts.namespace)
    }

    fn record(&self, facts: &PodFacts, kind: EventType, reason: &str, message: String) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(facts.namespace.to_string()),
            name: Some(facts.name.to_string()),
            uid: Some(facts.uid.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.record_on(reference, kind, reason, message);
    }
}
