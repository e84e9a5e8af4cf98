//! How a pod comes to its end: the node does not take it, it has run for too long, it has to leave; and what is done when
//! nothing of it runs any more.

use api::k8s::api::core::v1::Pod;
use client::{Api, DeleteParams, Preconditions, write};
use jiff::{SignedDuration, Timestamp};

use super::{LONG_RETRY, Pass, RETRY, Worker};
use crate::eviction::Word;
use crate::pod::memory::{EVICTED, Waiting};
use crate::pod::observed::Observed;
use crate::pod::plan::Goal;
use crate::pod::{admission, volume};

impl Worker {
    /// Fails a pod that the node does not take, before anything of it is made.
    pub(super) async fn check_admission(&mut self, goal: &Goal, observed: &Observed) -> std::io::Result<()> {
        let new = *goal == Goal::Run && observed.is_empty() && self.memory.failed.is_none();
        if !new || self.cx.allocations.has_admitted(&self.assignment.uid) {
            return Ok(());
        }
        let pressure = self.cx.pressure.borrow().clone();
        let fixed = self.cx.statics.get(&self.assignment.uid).is_some();
        let refusal = match admission::pressure::refusal(&self.pod, &pressure, fixed)
            .or_else(|| admission::refusal(&self.pod, &self.cx.admission))
        {
            Some(refusal) => Some(refusal),
            None => {
                let misplaced = admission::place::check(&self.cx, &self.pod, fixed).await;
                self.cx.allocations.admit(&self.pod, &self.cx.all_pods(), misplaced)?
            }
        };
        if let Some(refusal) = refusal {
            self.warn(&refusal.reason, &refusal.message);
            self.memory.failed = Some(refusal);
        }
        Ok(())
    }

    /// Fails the pod if it has run longer than it may; else when that will be.
    pub(super) fn check_deadline(&mut self, goal: &Goal, now: Timestamp) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let started = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        let deadline = started.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        if *goal == Goal::Run && now >= deadline && self.memory.failed.is_none() {
            let message = "Pod was active on the node longer than the specified deadline";
            self.memory.failed = Some(Waiting::new("DeadlineExceeded", message));
            self.warn("DeadlineExceeded", message);
        }
        (now < deadline).then_some(deadline)
    }

    /// Fails the pod if it has to leave; takes note if what it left is in the way.
    pub(super) fn check_eviction(&mut self, goal: &Goal) {
        match self.cx.evictions.take(&self.assignment.uid) {
            Some(Word::Leave(evicted)) if *goal == Goal::Run && self.memory.failed.is_none() => {
                self.memory.failed = Some(Waiting::new(EVICTED, evicted.message));
                self.memory.rest_grace = Some(evicted.grace);
                self.memory.clear = true;
            }
            Some(Word::Clear) => self.memory.clear = true,
            Some(Word::Leave(_)) | None => {}
        }
    }

    /// Removes what the pod left on the disk, and then its record in the API.
    pub(super) async fn depart(&mut self) -> Pass {
        let (paths, uid) = (self.cx.paths.clone(), self.assignment.uid.clone());
        let removed = tokio::task::spawn_blocking(move || volume::sweep(&paths, |left| left == uid)).await;
        self.cx.allocations.forget(&self.assignment.uid);
        if let Ok(Err(error)) = removed {
            tracing::warn!(uid = self.assignment.uid, %error, "the pod's directory could not be removed");
            return self.again(LONG_RETRY);
        }
        let (Some(key), Some(_)) = (self.assignment.key.clone(), &self.pod.metadata.deletion_timestamp)
        else {
            return Pass::Gone;
        };
        let pods: Api<Pod> = Api::namespaced(self.cx.client.clone(), &key.namespace);
        let preconditions =
            Preconditions { uid: Some(self.assignment.uid.clone()), ..Preconditions::default() };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match pods.delete(&key.name, &params).await {
            Ok(_) => Pass::Gone,
            // Gone, or another pod of that name by now.
            Err(error) if write::is_not_found(&error) || write::is_conflict(&error) => Pass::Gone,
            Err(error) => {
                tracing::warn!(pod = %key, %error, "the pod could not be deleted");
                self.again(RETRY)
            }
        }
    }
}
