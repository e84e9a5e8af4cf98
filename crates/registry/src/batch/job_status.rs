//! What a job's status may say: whoever runs jobs, its readers can rely on how one ends.
//!
//! As upstream does, most is asked only of what has changed, so that a status with an old fault can still be written.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::indexes;
use super::job::holds;
use super::job_spec::is_indexed;
use crate::core::template;
use crate::tree::{at, is_true, items, number, same, text};

const COUNTS: [&str; 5] = ["active", "succeeded", "failed", "ready", "terminating"];
/// Conditions that stay.
const LASTING: [&str; 3] = ["Failed", "Complete", "FailureTarget"];

pub(super) fn validate(job: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    template::counts(job, &COUNTS, errors);
    validate_uncounted(job, errors);
    Transition { job, old, errors }.validate();
}

/// Pods that are not counted yet are named once.
fn validate_uncounted(job: &Value, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    let path = status.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let path = path.child(list);
        for (index, uid) in items(job, &["status", "uncountedTerminatedPods", list]).iter().enumerate() {
            let path = path.index(index);
            match uid.as_str().unwrap_or_default() {
                "" => errors.push(FieldError::invalid(&path, "", "must not be empty")),
                uid if !seen.insert(uid) => errors.push(FieldError::duplicate(&path, uid)),
                _ => {}
            }
        }
    }
}

fn ended(job: &Value) -> bool {
    holds(job, "Complete") || holds(job, "Failed")
}

struct Transition<'a> {
    job: &'a Value,
    old: &'a Value,
    errors: &'a mut Vec<FieldError>,
}

impl<'a> Transition<'a> {
    fn validate(&mut self) {
        self.conditions();
        self.times();
        self.end();
        self.indexes();
        self.success();
        self.history();
    }

    /// Something is wrong with a field, whose value is shown.
    fn wrong(&mut self, field: &str, why: &str) {
        let status = Path::new("status");
        let given = self.field(field).cloned().unwrap_or_default();
        self.errors.push(FieldError::invalid(&status.child(field), given, why));
    }

    fn wrong_conditions(&mut self, why: &str) {
        let status = Path::new("status");
        self.errors.push(FieldError::invalid_unshown(&status.child("conditions"), why));
    }

    fn missing(&mut self, field: &str, why: &str) {
        let status = Path::new("status");
        self.errors.push(FieldError::required(&status.child(field), why));
    }

    fn field(&self, field: &str) -> Option<&'a Value> {
        let job: &'a Value = self.job;
        at(job, &["status", field])
    }

    fn count(&self, field: &str) -> i64 {
        number(self.job, &["status", field]).unwrap_or_default()
    }

    fn time(&self, field: &str) -> Option<Timestamp> {
        apimachinery::time::parse(text(self.job, &["status", field])).ok()
    }

    fn changed(&self, field: &str) -> bool {
        !same(self.field(field), at(self.old, &["status", field]))
    }

    fn count_changed(&self, field: &str) -> bool {
        self.count(field) != number(self.old, &["status", field]).unwrap_or_default()
    }

    fn holds(&self, kind: &str) -> bool {
        holds(self.job, kind)
    }

    /// A condition has come, or gone.
    fn turned(&self, kind: &str) -> bool {
        holds(self.job, kind) != holds(self.old, kind)
    }

    fn conditions(&mut self) {
        let complete = self.holds("Complete");
        if complete && self.holds("Failed") && (self.turned("Complete") || self.turned("Failed")) {
            self.wrong_conditions("cannot set Complete=True and Failed=true conditions");
        }
        if complete
            && self.holds("FailureTarget")
            && (self.turned("Complete") || self.turned("FailureTarget"))
        {
            self.wrong_conditions("cannot set Complete=True and FailureTarget=true conditions");
        }
    }

    fn times(&mut self) {
        let complete = self.holds("Complete");
        let (start, completion) = (self.time("startTime"), self.time("completionTime"));
        if self.turned("Complete") || self.changed("completionTime") {
            if completion.is_some() && !complete {
                let why = "cannot set completionTime when there is no Complete=True condition";
                self.wrong("completionTime", why);
            }
            if completion.is_none() && complete {
                self.missing("completionTime", "completionTime is required for Complete jobs");
            }
        }
        if (self.changed("startTime") || self.changed("completionTime"))
            && let (Some(start), Some(completion)) = (start, completion)
            && completion < start
        {
            self.wrong("completionTime", "completionTime cannot be set before startTime");
        }
        if self.holds("Failed")
            && !self.holds("FailureTarget")
            && (self.turned("Failed") || self.turned("FailureTarget"))
        {
            self.wrong_conditions(
                "cannot set Failed=True condition without the FailureTarget=true condition",
            );
        }
        if complete
            && !self.holds("SuccessCriteriaMet")
            && (self.turned("Complete") || self.turned("SuccessCriteriaMet"))
        {
            self.wrong_conditions(
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            );
        }
    }

    fn end(&mut self) {
        let has_ended = ended(self.job);
        let turned = has_ended != ended(self.old);
        if has_ended && self.count("active") > 0 && (turned || self.count_changed("active")) {
            self.wrong("active", "active>0 is invalid for finished job");
        }
        if has_ended && self.time("startTime").is_none() && (turned || self.changed("startTime")) {
            self.missing("startTime", "startTime is required for finished job");
        }
        let field = "uncountedTerminatedPods";
        let uncounted =
            ["succeeded", "failed"].iter().any(|list| !items(self.job, &["status", field, list]).is_empty());
        if has_ended && uncounted && (turned || self.changed(field)) {
            self.wrong(field, "uncountedTerminatedPods needs to be empty for finished job");
        }
    }

    fn indexes(&mut self) {
        let spec = self.job.get("spec").unwrap_or(&Value::Null);
        let completions = number(spec, &["completions"]);
        let per_index = spec.get("backoffLimitPerIndex").is_some();
        let completed = text(self.job, &["status", "completedIndexes"]);
        let failed = self.field("failedIndexes").and_then(Value::as_str);
        let changed = (self.changed("completedIndexes"), self.changed("failedIndexes"));
        if let Some(completions) = completions {
            if changed.0
                && let Err(why) = indexes::count(completed, completions)
            {
                self.wrong("completedIndexes", &format!("error parsing completedIndexes: {why}"));
            }
            if let Some(failed) = failed.filter(|_| changed.1 && per_index)
                && let Err(why) = indexes::count(failed, completions)
            {
                self.wrong("failedIndexes", &format!("error parsing failedIndexes: {why}"));
            }
        }
        if changed.0 && !completed.is_empty() && !is_indexed(spec) {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            self.wrong("completedIndexes", why);
        }
        if changed.1 && failed.is_some() && !per_index {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            self.wrong("failedIndexes", why);
        }
        if let (Some(completions), Some(failed)) = (completions, failed)
            && (changed.0 || changed.1)
            && let Some(index) = indexes::overlap(completed, failed, completions)
        {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            self.wrong("failedIndexes", &why);
        }
        let has_ended = ended(self.job);
        let turned = has_ended != ended(self.old);
        if has_ended && self.count("terminating") > 0 && (turned || self.count_changed("terminating")) {
            self.wrong("terminating", "terminating>0 is invalid for finished job");
        }
        if self.count("ready") > self.count("active")
            && (self.count_changed("ready") || self.count_changed("active"))
        {
            self.wrong("ready", "cannot set more ready pods than active");
        }
    }

    fn success(&mut self) {
        let met = self.holds("SuccessCriteriaMet");
        if met && self.holds("Failed") {
            self.wrong_conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions");
        }
        if met && self.holds("FailureTarget") {
            self.wrong_conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
        }
        let has_policy = at(self.job, &["spec", "successPolicy"]).is_some();
        if has_policy && !met && self.holds("Complete") {
            self.wrong_conditions(
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            );
        }
    }

    /// What has been said stays said.
    fn history(&mut self) {
        for kind in LASTING {
            if holds(self.old, kind) && !self.holds(kind) {
                self.wrong_conditions(&format!("cannot disable the terminal {kind}=True condition"));
            }
        }
        let before = |field: &str| number(self.old, &["status", field]).unwrap_or_default();
        let (failed, succeeded) = (before("failed"), before("succeeded"));
        if self.count("failed") < failed {
            self.wrong("failed", "cannot decrease the failed counter");
        }
        // An indexed job that became smaller has succeeded less often.
        let spec = |field: &str| at(self.job, &["spec", field]);
        let elastic =
            self.job.get("spec").is_some_and(is_indexed) && spec("completions") == spec("parallelism");
        if self.count("succeeded") < succeeded && !elastic {
            self.wrong("succeeded", "cannot decrease the succeeded counter");
        }
        let had = |field: &str| at(self.old, &["status", field]).is_some();
        if had("completionTime") && self.field("completionTime").is_some() && self.changed("completionTime") {
            self.wrong("completionTime", "completionTime cannot be mutated");
        }
        if had("startTime") && self.changed("startTime") && !is_true(self.job, &["spec", "suspend"]) {
            self.missing("startTime", "startTime cannot be removed for unsuspended job");
        }
        let met = self.holds("SuccessCriteriaMet");
        let was_met = holds(self.old, "SuccessCriteriaMet");
        if was_met && !met {
            self.wrong_conditions("cannot disable the SuccessCriteriaMet=True condition");
        }
        if holds(self.old, "Complete") && !was_met && met {
            self.wrong_conditions(
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
            );
        }
    }
}
