//! What of a job may change once it is there.

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::job::holds;
use super::job_spec::is_indexed;
use crate::tree::{at, copy, is_true, items, items_mut, map, number, object, same, text};

/// Fields that stay as they were made.
const FIXED: [&str; 5] =
    ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];

pub(super) fn validate(job: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    validate_completions(job, old, &path.child("completions"), errors);
    fixed(job, old, "selector", &path, errors);
    validate_template(job, old, &path, errors);
    for field in FIXED {
        fixed(job, old, field, &path, errors);
    }
}

fn fixed(job: &Value, old: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (now, before) = (at(job, &["spec", field]), at(old, &["spec", field]));
    if !same(now, before) {
        immutable(now, &path.child(field), errors);
    }
}

fn immutable(now: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    errors.push(FieldError::invalid(path, now.cloned().unwrap_or_default(), "field is immutable"));
}

/// An indexed job may become larger or smaller, its parallelism with it.
fn validate_completions(job: &Value, old: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let of = |job| number(job, &["spec", "completions"]);
    let now = of(job);
    if now == of(old) {
        return;
    }
    if !job.get("spec").is_some_and(is_indexed) {
        immutable(now.map(Value::from).as_ref(), path, errors);
    } else if let Some(completions) = now
        && number(job, &["spec", "parallelism"]) != now
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(path, completions, why));
    }
}

/// Whether the job's pods are all gone, and may come back as others.
fn rests(old: &Value) -> bool {
    let started = at(old, &["status", "startTime"]).is_some();
    is_true(old, &["spec", "suspend"])
        && (!started || holds(old, "Suspended"))
        && number(old, &["status", "active"]).unwrap_or_default() == 0
}

/// While a job rests, where its pods may run and what they ask for may change; the rest of its template never does.
fn validate_template(job: &Value, old: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("template");
    let now = at(job, &["spec", "template"]);
    let before = at(old, &["spec", "template"]);
    let (true, Some(now), Some(before)) = (rests(old), now, before) else {
        if !same(now, before) {
            immutable(now, &path, errors);
        }
        return;
    };
    let mut before = before.clone();
    follow_directions(&mut before, now);
    follow_resources(&mut before, now);
    if !same(now.get("spec"), before.get("spec")) {
        immutable(now.get("spec"), &path.child("spec"), errors);
    }
}

/// Takes over what says where pods may run.
fn follow_directions(before: &mut Value, now: &Value) {
    let none = Value::Null;
    let (metadata, pod) = (now.get("metadata").unwrap_or(&none), now.get("spec").unwrap_or(&none));
    object(before, "metadata");
    if let Some(before) = before.get_mut("metadata") {
        ["annotations", "labels"].iter().for_each(|field| copy(before, metadata, field));
    }
    object(before, "spec");
    let Some(before) = before.get_mut("spec") else { return };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        copy(before, pod, field);
    }
    let Some(affinity) = pod.get("affinity") else {
        let only_nodes = before
            .get("affinity")
            .and_then(Value::as_object)
            .is_some_and(|affinity| affinity.keys().all(|kind| kind == "nodeAffinity"));
        if only_nodes {
            map(before).remove("affinity");
        }
        return;
    };
    object(before, "affinity");
    if let Some(before) = before.get_mut("affinity") {
        copy(before, affinity, "nodeAffinity");
    }
}

/// Takes over what containers ask for.
fn follow_resources(before: &mut Value, now: &Value) {
    for list in ["containers", "initContainers"] {
        let now = items(now, &["spec", list]);
        let before = items_mut(before, &["spec", list]);
        if now.len() != before.len() {
            continue;
        }
        for (before, now) in before.iter_mut().zip(now) {
            if text(before, &["name"]) == text(now, &["name"]) {
                copy(before, now, "resources");
            }
        }
    }
}
