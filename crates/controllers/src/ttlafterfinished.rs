//! Jobs that have ended are taken away when their time after that is over.

use crate::job::end::ended;
use crate::ownership::is_terminating;
use crate::plan::{Plan, confirm, delete};
use crate::{Controller, World};
use client::kube::api::PropagationPolicy;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use std::sync::Arc;

/// The controller; see the module.
pub struct TtlAfterFinished {
    jobs: Reader<Job>,
}

impl Controller for TtlAfterFinished {
    const NAME: &'static str = "ttl-after-finished-controller";
    type Key = ObjectKey;
    type View = Option<Arc<Job>>;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let jobs = world.reader::<Job>();
        let add = queue.clone();
        jobs.informer().on_change(move |change| {
            if change.after().is_some_and(|job| expires(job).is_some()) {
                add.add(ObjectKey::of(&**change.object()));
            }
        });
        Self { jobs }
    }

    fn view(&self, key: &ObjectKey) -> Self::View {
        self.jobs.get(key)
    }

    fn plan(_: &ObjectKey, view: &Self::View, (): &(), now: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(job) = view.as_deref().filter(|job| !is_terminating(*job)) else { return plan };
        match expires(job) {
            Some(at) if at > now => plan.look_again(at),
            Some(_) => {
                let mut delete = delete(job);
                // Not if it was given more time meanwhile.
                delete.resource_version = job.metadata.resource_version.clone();
                delete.propagation = Some(PropagationPolicy::Foreground);
                plan.then(confirm(job));
                plan.then(delete);
            }
            None => {}
        }
        plan
    }
}

/// When a Job that has ended is to go, if it is.
fn expires(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = ended(job)?.last_transition_time.as_ref()?.0;
    ended.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{from_value, json};

    #[test]
    fn a_job_goes_when_its_time_is_over() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let plan = |ttl: Option<i32>, end: &str| {
            let job: Job = from_value(json!({
                "metadata": { "name": "j", "namespace": "x", "resourceVersion": "7" },
                "spec": { "ttlSecondsAfterFinished": ttl, "template": {} },
                "status": { "conditions": [{ "type": end, "status": "True", "lastTransitionTime": "2026-01-02T03:04:00Z" }] },
            }))
            .unwrap();
            TtlAfterFinished::plan(&ObjectKey::default(), &Some(Arc::new(job)), &(), now)
        };
        assert_eq!(plan(Some(9), "Complete").requeue_at, Some("2026-01-02T03:04:09Z".parse().unwrap()));
        let over = plan(Some(5), "Failed");
        let [Action::Confirm { .. }, Action::Delete(delete)] = over.actions.as_slice() else {
            panic!("{over:?}")
        };
        assert_eq!(delete.resource_version.as_deref(), Some("7"));
        assert_eq!(plan(Some(0), "Suspended"), Plan::default());
        assert_eq!(plan(None, "Complete"), Plan::default());
    }
}
