//! CronJobs that forbid it have no two Jobs at once, nor do those that replace one by the next.

use super::history::{controller, uid};
use super::pods::{condition, is_terminating};
use super::{Change, History, text};

/// Those left out that nobody answers for.
pub fn not_at_once(history: &History, change: &Change) -> Result<(), String> {
    let Some(job) = change.after.as_ref().filter(|_| change.key.plural == "jobs" && change.is_new()) else {
        return Ok(());
    };
    let Some(("CronJob", cron)) = controller(job) else { return Ok(()) };
    let Some(cron) = history.by_uid("cronjobs", cron) else { return Ok(()) };
    let policy = text(cron, "/spec/concurrencyPolicy");
    if policy == "Allow" || !change.is_by("controllers") || !change.by_leader {
        return Ok(());
    }
    let has_ended = |job| {
        condition(job, "Complete") == "True" || condition(job, "Failed") == "True" || is_terminating(job)
    };
    let mut jobs = history.controlled("jobs", uid(cron)).filter(|job| history.is_accounted(job));
    match jobs.find(|other| uid(other) != uid(job) && !has_ended(other)) {
        Some(other) => {
            Err(format!("a Job begins beside {}, and the policy is {policy}", text(other, "/metadata/name")))
        }
        None => Ok(()),
    }
}
