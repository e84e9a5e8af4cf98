//! What is wrong with where a pod wants to be: near which nodes, near or far from which pods, and how spread.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{dns1123_label, qualified_name};
use serde_json::{Value, json};

use super::node_selector;
use crate::checks::{invalid, selector, supported};
use crate::tree::{at, at_mut, default, entries, items, items_mut, number, text};

pub(super) const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
pub(super) const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
pub(super) const OF_PODS: [&str; 2] = ["podAffinity", "podAntiAffinity"];

/// Checks `affinity` and `topologySpreadConstraints`.
pub(crate) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_affinity = path.child("affinity");
    if let Some(nodes) = at(spec, &["affinity", "nodeAffinity"]) {
        validate_nodes(nodes, &at_affinity.child("nodeAffinity"), errors);
    }
    for kind in OF_PODS {
        let at_kind = at_affinity.child(kind);
        let at_required = at_kind.child(REQUIRED);
        for (index, term) in items(spec, &["affinity", kind, REQUIRED]).iter().enumerate() {
            validate_term(term, &at_required.index(index), errors);
        }
        let at_preferred = at_kind.child(PREFERRED);
        for (index, weighted) in items(spec, &["affinity", kind, PREFERRED]).iter().enumerate() {
            let at = at_preferred.index(index);
            validate_weight(weighted, &at, errors);
            let term = weighted.get("podAffinityTerm").unwrap_or(&Value::Null);
            validate_term(term, &at.child("podAffinityTerm"), errors);
        }
    }
    let constraints = items(spec, &["topologySpreadConstraints"]);
    let at_constraints = path.child("topologySpreadConstraints");
    for (index, constraint) in constraints.iter().enumerate() {
        let later = &constraints[index + 1..];
        validate_spread(constraint, later, &at_constraints.index(index), errors);
    }
}

fn validate_nodes(nodes: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(required) = nodes.get(REQUIRED) {
        node_selector::validate(required, &path.child(REQUIRED), errors);
    }
    let at_preferred = path.child(PREFERRED);
    for (index, term) in items(nodes, &[PREFERRED]).iter().enumerate() {
        let at = at_preferred.index(index);
        validate_weight(term, &at, errors);
        let preference = term.get("preference").unwrap_or(&Value::Null);
        node_selector::validate_preference(preference, &at.child("preference"), errors);
    }
}

fn validate_weight(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let weight = number(term, &["weight"]).unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn validate_term(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    selector(term, "labelSelector", path, errors);
    selector(term, "namespaceSelector", path, errors);
    for name in items(term, &["namespaces"]).iter().filter_map(Value::as_str) {
        invalid(&path.child("namespace"), name, dns1123_label(name), errors);
    }
    validate_label_keys(term, path, errors);
    let (key, at_key) = (text(term, &["topologyKey"]), path.child("topologyKey"));
    if key.is_empty() {
        errors.push(FieldError::required(&at_key, "can not be empty"));
    }
    invalid(&at_key, key, qualified_name(key), errors);
}

/// Labels whose values are the pod's own: [`add_own_labels`] has made conditions of them before.
fn validate_label_keys(term: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let selector = term.get("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let (keys, at) = (items(term, &[field]), path.child(field));
        if !keys.is_empty() && selector.is_none() {
            errors.push(FieldError::forbidden(&at, "must not be specified when labelSelector is not set"));
            continue;
        }
        for (index, key) in keys.iter().enumerate() {
            let key = key.as_str().unwrap_or_default();
            invalid(&at.index(index), key, qualified_name(key), errors);
        }
    }
    let keys = items(term, &["matchLabelKeys"]);
    let mut seen: BTreeSet<&str> =
        entries(term, &["labelSelector", "matchLabels"]).map(|(key, _)| key.as_str()).collect();
    for expression in items(term, &["labelSelector", "matchExpressions"]) {
        let key = text(expression, &["key"]);
        if !seen.insert(key)
            && let Some(index) = keys.iter().rposition(|known| known == key)
        {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(index), key, why));
        }
    }
    let at = path.child("matchLabelKeys");
    for (index, key) in keys.iter().enumerate() {
        if items(term, &["mismatchLabelKeys"]).contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(&at.index(index), key.clone(), why));
        }
    }
}

fn validate_spread(constraint: &Value, later: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    let positive = |field: &str, value: i64, errors: &mut Vec<FieldError>| {
        if value <= 0 {
            errors.push(FieldError::invalid(&path.child(field), value, "must be greater than zero"));
        }
    };
    positive("maxSkew", number(constraint, &["maxSkew"]).unwrap_or_default(), errors);
    let kind = |constraint| ["topologyKey", "whenUnsatisfiable"].map(|field| text(constraint, &[field]));
    let [key, action] = kind(constraint);
    if key.is_empty() {
        errors.push(FieldError::required(&path.child("topologyKey"), "can not be empty"));
    }
    if !ACTIONS.contains(&action) {
        errors.push(FieldError::not_supported(&path.child("whenUnsatisfiable"), action, ACTIONS));
    }
    if later.iter().any(|other| kind(other) == [key, action]) {
        let at = path.child("{topologyKey, whenUnsatisfiable}");
        errors.push(FieldError::duplicate(&at, format!("{{{key}, {action}}}")));
    }
    if let Some(domains) = number(constraint, &["minDomains"]) {
        positive("minDomains", domains, errors);
        if action != "DoNotSchedule" {
            let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.push(FieldError::invalid(&path.child("minDomains"), domains, why));
        }
    }
    supported(constraint, "nodeAffinityPolicy", &["Honor", "Ignore"], path, errors);
    supported(constraint, "nodeTaintsPolicy", &["Honor", "Ignore"], path, errors);
    validate_label_keys(constraint, path, errors);
    selector(constraint, "labelSelector", path, errors);
}

/// Adds to each selector of a new pod what it says about the pod's own labels.
pub(crate) fn add_own_labels(pod: &mut Value) {
    let labels = at(pod, &["metadata", "labels"]).cloned().unwrap_or_default();
    let add = |term: &mut Value| {
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            add_labels(term, field, operator, &labels);
        }
    };
    for kind in OF_PODS {
        items_mut(pod, &["spec", "affinity", kind, REQUIRED]).iter_mut().for_each(add);
        for weighted in items_mut(pod, &["spec", "affinity", kind, PREFERRED]) {
            weighted.get_mut("podAffinityTerm").map(add);
        }
    }
    for constraint in items_mut(pod, &["spec", "topologySpreadConstraints"]) {
        add_labels(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn add_labels(term: &mut Value, field: &str, operator: &str, labels: &Value) {
    let keys = items(term, &[field]).iter().filter_map(|key| key.as_str());
    let own = keys.filter_map(|key| Some((key, labels.get(key)?)));
    let added: Vec<Value> =
        own.map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]})).collect();
    if let Some(selector) = at_mut(term, &["labelSelector"]).filter(|_| !added.is_empty()) {
        default(selector, "matchExpressions", Value::Array(Vec::new()));
        if let Some(expressions) = at_mut(selector, &["matchExpressions"]).and_then(Value::as_array_mut) {
            expressions.extend(added);
        }
    }
}
