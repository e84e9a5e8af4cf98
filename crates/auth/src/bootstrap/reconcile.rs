//! What to do about one bootstrap object, given what is stored. As upstream: what is missing is added, what an
//! administrator added stays, and an object annotated with `autoupdate: "false"` is left alone.

use serde_json::{Value, json};

use crate::rbac::{PolicyRule, uncovered};

/// What has to happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// What is stored will do.
    Nothing,
    /// There is none: create it.
    Create(Value),
    /// It lacks something: update it to this.
    Update(Value),
    /// Its role differs, which cannot be updated: delete it, and create this.
    Replace(Value),
}

/// The step for a Role or ClusterRole.
pub fn reconcile_role(wanted: &Value, stored: Option<&Value>) -> Step {
    let Some(stored) = stored else { return Step::Create(wanted.clone()) };
    if is_protected(stored) {
        return Step::Nothing;
    }
    let mut updated = stored.clone();
    merge_metadata(wanted, &mut updated);
    if let Some(rule) = wanted.get("aggregationRule")
        && updated.get("aggregationRule").is_none()
    {
        updated["aggregationRule"] = rule.clone();
    }
    let missing = uncovered(&rules(stored), &rules(wanted));
    if !missing.is_empty() {
        // Whole rules read better than the single ones that are missing.
        let adds = |rule: &PolicyRule| {
            missing
                .iter()
                .any(|one| uncovered(std::slice::from_ref(rule), std::slice::from_ref(one)).is_empty())
        };
        let mut all = rules(stored);
        all.extend(rules(wanted).into_iter().filter(adds));
        updated["rules"] = json!(all);
    }
    changed(stored, updated)
}

/// The step for a RoleBinding or ClusterRoleBinding.
pub fn reconcile_binding(wanted: &Value, stored: Option<&Value>) -> Step {
    let Some(stored) = stored else { return Step::Create(wanted.clone()) };
    if is_protected(stored) {
        return Step::Nothing;
    }
    if stored.get("roleRef") != wanted.get("roleRef") {
        return Step::Replace(wanted.clone());
    }
    let mut updated = stored.clone();
    merge_metadata(wanted, &mut updated);
    let subjects =
        |object: &Value| object.get("subjects").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = subjects(stored);
    for subject in subjects(wanted) {
        if !all.contains(&subject) {
            all.push(subject);
        }
    }
    if !all.is_empty() {
        updated["subjects"] = Value::Array(all);
    }
    changed(stored, updated)
}

fn changed(stored: &Value, updated: Value) -> Step {
    if *stored == updated { Step::Nothing } else { Step::Update(updated) }
}

fn is_protected(stored: &Value) -> bool {
    let annotation = "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate";
    stored.pointer(annotation).and_then(Value::as_str) == Some("false")
}

fn merge_metadata(wanted: &Value, updated: &mut Value) {
    for map in ["labels", "annotations"] {
        let Some(entries) = wanted["metadata"][map].as_object() else { continue };
        for (key, value) in entries {
            updated["metadata"][map][key] = value.clone();
        }
    }
}

fn rules(object: &Value) -> Vec<PolicyRule> {
    let rules = object.get("rules").and_then(Value::as_array);
    rules.into_iter().flatten().filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}
