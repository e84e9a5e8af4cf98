//! Jobs start no more pods than they may, and count each pod's end once.

use serde_json::Value;

use super::history::{controller, uid};
use super::pods::is_active;
use super::{Change, History, number, text};

const INDEX: &str = "/metadata/annotations/batch.kubernetes.io~1job-completion-index";

/// A Job counts no more ends than pods of it have ended, and takes none back.
pub fn no_end_counted_twice(history: &History, change: &Change) -> Result<(), String> {
    let Some(job) = change.after.as_ref().filter(|_| change.key.plural == "jobs") else { return Ok(()) };
    let before = change.before.as_ref().filter(|before| uid(before) == uid(job));
    let ends = history.ends(uid(job));
    for (what, there) in [("succeeded", ends.succeeded), ("failed", ends.failed)] {
        let pointer = format!("/status/{what}");
        let (was, counted) = (before.map_or(0, |before| number(before, &pointer)), number(job, &pointer));
        if counted > there {
            return Err(format!("a Job counts {counted} pods that {what}, and {there} have"));
        }
        if counted < was {
            return Err(format!("a Job counts {counted} pods that {what}, and counted {was} before"));
        }
    }
    Ok(())
}

/// No more pods at once than it lately wanted, no more in all than it has completions, and one an index.
pub fn no_more_at_once_than_wanted(history: &History, change: &Change) -> Result<(), String> {
    let Some(pod) = change.after.as_ref().filter(|_| change.key.plural == "pods" && change.is_new()) else {
        return Ok(());
    };
    let Some(("Job", owner)) = controller(pod) else { return Ok(()) };
    let Some(job) = history.by_uid("jobs", owner) else { return Ok(()) };
    if !change.is_by("controllers") || !change.by_leader {
        return Ok(());
    }
    let active: Vec<_> = history.accounted(owner).filter(|pod| is_active(pod)).collect();
    let at_once = i64::try_from(active.len()).unwrap_or(i64::MAX);
    let most = history.most_replicas(owner, change.at);
    if at_once > most {
        return Err(format!("{at_once} pods of a Job at once, where {most} are the most"));
    }
    let (completions, done) = (number(job, "/spec/completions"), history.ends(owner).accounted);
    if at_once + done > completions {
        return Err(format!(
            "{at_once} pods of a Job, and {done} that succeeded, where {completions} are enough"
        ));
    }
    let index = text(pod, INDEX);
    let others = |other: &Value| !index.is_empty() && uid(other) != uid(pod) && text(other, INDEX) == index;
    let counts = active.iter().any(|other| uid(other) == uid(pod));
    match counts && active.iter().any(|other| others(other)) {
        true => Err(format!("two pods at once of index {index}")),
        false => Ok(()),
    }
}
