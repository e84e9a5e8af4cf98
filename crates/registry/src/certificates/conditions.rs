//! Conditions of a CertificateSigningRequest: who may add which, and when they changed.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use crate::core::pod_update::difference;
use crate::tree::{items, items_mut, map, text};

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";
const STATUSES: &[&str] = &["False", "True", "Unknown"];

pub(crate) fn all(request: &Value) -> &[Value] {
    items(request, &["status", "conditions"])
}

/// Says when conditions were made and changed, where whoever made them did not.
pub(crate) fn stamp(request: &mut Value, old: &Value, now: Timestamp) {
    let now = Value::from(apimachinery::time::format(now));
    for condition in items_mut(request, &["status", "conditions"]) {
        let kind = text(condition, &["type"]);
        let known = all(old).iter().find(|known| text(known, &["type"]) == kind);
        let same = known.filter(|known| text(known, &["status"]) == text(condition, &["status"]));
        let changed = same.and_then(|known| known.get("lastTransitionTime").cloned());
        let is_missing = |condition: &Value, field: &str| text(condition, &[field]).is_empty();
        if is_missing(condition, "lastUpdateTime") {
            map(condition).insert("lastUpdateTime".into(), now.clone());
        }
        if is_missing(condition, "lastTransitionTime") {
            map(condition).insert("lastTransitionTime".into(), changed.unwrap_or_else(|| now.clone()));
        }
    }
}

/// Checks the conditions by themselves. What `old` had wrong already is let pass.
pub(crate) fn validate(request: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    let path = status.child("conditions");
    let had_both =
        old.is_some_and(|old| of(old, APPROVED).next().is_some() && of(old, DENIED).next().is_some());
    let mut seen = BTreeSet::new();
    for (index, condition) in all(request).iter().enumerate() {
        let at_condition = path.index(index);
        let (kind, state) = (text(condition, &["type"]), text(condition, &["status"]));
        let at_kind = at_condition.child("type");
        if kind.is_empty() {
            errors.push(FieldError::required(&at_kind, ""));
        }
        let allowed = if [APPROVED, DENIED, FAILED].contains(&kind) { &["True"][..] } else { STATUSES };
        if state.is_empty() {
            errors.push(FieldError::required(&at_condition.child("status"), ""));
        } else if !allowed.contains(&state) {
            errors.push(FieldError::not_supported(&at_condition.child("status"), state, allowed));
        }
        let opposite = match kind {
            APPROVED => DENIED,
            DENIED => APPROVED,
            _ => "",
        };
        if !had_both && !opposite.is_empty() && seen.contains(opposite) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(&at_kind, kind, why));
        }
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&at_kind, kind));
        }
    }
}

/// What is decided stays decided; decisions are made by way of `approval` only.
pub(crate) fn validate_change(request: &Value, old: &Value, may_approve: bool, errors: &mut Vec<FieldError>) {
    let status = Path::new("status");
    let path = status.child("conditions");
    for kind in [APPROVED, DENIED, FAILED] {
        if of(request, kind).count() < of(old, kind).count() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path, why));
        }
    }
    for kind in [APPROVED, DENIED].into_iter().filter(|_| !may_approve) {
        let (new, known): (Vec<&Value>, Vec<&Value>) = (of(request, kind).collect(), of(old, kind).collect());
        if new.len() > known.len() {
            let why = format!("updates may not add a condition of type {kind:?}");
            errors.push(FieldError::forbidden(&path, why));
        } else if new.len() == known.len() && new != known {
            let changed =
                known.iter().zip(&new).map(|(known, new)| difference(known, new)).collect::<String>();
            let why = format!("updates may not modify a condition of type {kind:?}\n{changed}");
            errors.push(FieldError::forbidden(&path, why));
        }
    }
}

fn of<'a>(request: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    all(request).iter().filter(move |condition| text(condition, &["type"]) == kind)
}

/// What has been decided, for people.
pub(crate) fn summary(request: &Value) -> String {
    let has = |kind| of(request, kind).next().is_some();
    let mut shown = match (has(DENIED), has(APPROVED)) {
        (true, _) => DENIED,
        (false, true) => APPROVED,
        (false, false) => "Pending",
    }
    .to_owned();
    if has(FAILED) {
        shown.push_str(",Failed");
    }
    if !text(request, &["status", "certificate"]).is_empty() {
        shown.push_str(",Issued");
    }
    shown
}
