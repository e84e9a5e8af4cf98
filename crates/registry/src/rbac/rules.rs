//! Rules of roles, and whom bindings bind to them.

use apimachinery::field::{FieldError, Path};
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::table;
use crate::tree::{default_text, items, items_mut, object as child, text};

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// What is wrong with the rules of a role.
pub(super) fn validate_rules(object: &Value, namespaced: bool, errors: &mut Vec<FieldError>) {
    let rules = Path::new("rules");
    for (index, rule) in items(object, &["rules"]).iter().enumerate() {
        let path = rules.index(index);
        if items(rule, &["verbs"]).is_empty() {
            errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        let urls = items(rule, &["nonResourceURLs"]);
        let (groups, resources) = (items(rule, &["apiGroups"]), items(rule, &["resources"]));
        if urls.is_empty() {
            if groups.is_empty() {
                let why = "resource rules must supply at least one api group";
                errors.push(FieldError::required(&path.child("apiGroups"), why));
            }
            if resources.is_empty() {
                let why = "resource rules must supply at least one resource";
                errors.push(FieldError::required(&path.child("resources"), why));
            }
            continue;
        }
        let at = path.child("nonResourceURLs");
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(&at, urls.to_vec(), why));
        }
        if !groups.is_empty() || !resources.is_empty() || !items(rule, &["resourceNames"]).is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(&at, urls.to_vec(), why));
        }
    }
}

/// What is wrong with how a role of the cluster is made of others.
pub(super) fn validate_aggregation(object: &Value, errors: &mut Vec<FieldError>) {
    let Some(rule) = object.get("aggregationRule") else { return };
    let aggregation = Path::new("aggregationRule");
    let path = aggregation.child("clusterRoleSelectors");
    let selectors = items(rule, &["clusterRoleSelectors"]);
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, why));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        if let Err(found) = Selector::from_object(selector, &path) {
            errors.extend(found);
            errors.push(FieldError::invalid(&path, Value::Null, "invalid label selector."));
        }
    }
}

/// Defaults of a binding.
pub(super) fn default_binding(object: &mut Value) {
    child(object, "roleRef");
    if let Some(reference) = object.get_mut("roleRef") {
        default_text(reference, "apiGroup", GROUP);
    }
    for subject in items_mut(object, &["subjects"]) {
        if matches!(text(subject, &["kind"]), "User" | "Group") {
            default_text(subject, "apiGroup", GROUP);
        }
    }
}

/// What is wrong with a binding. `kinds` are the roles that it may refer to.
pub(super) fn validate_binding(object: &Value, kinds: &[&str], errors: &mut Vec<FieldError>) {
    let reference = Path::new("roleRef");
    let group = text(object, &["roleRef", "apiGroup"]);
    if group != GROUP {
        errors.push(FieldError::not_supported(&reference.child("apiGroup"), group, &[GROUP]));
    }
    let kind = text(object, &["roleRef", "kind"]);
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(&reference.child("kind"), kind, kinds));
    }
    let (at, name) = (reference.child("name"), text(object, &["roleRef", "name"]));
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        for why in apimachinery::meta::names::path_segment(name) {
            errors.push(FieldError::invalid(&at, name, why));
        }
    }
    let subjects = Path::new("subjects");
    let namespaced = !text(object, &["metadata", "namespace"]).is_empty();
    for (index, subject) in items(object, &["subjects"]).iter().enumerate() {
        validate_subject(subject, &subjects.index(index), namespaced, errors);
    }
}

fn validate_subject(subject: &Value, path: &Path<'_>, namespaced: bool, errors: &mut Vec<FieldError>) {
    let (name, group) = (text(subject, &["name"]), text(subject, &["apiGroup"]));
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    match text(subject, &["kind"]) {
        "ServiceAccount" => {
            if !name.is_empty() {
                for why in apimachinery::meta::names::dns1123_subdomain(name) {
                    errors.push(FieldError::invalid(&path.child("name"), name, why));
                }
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && text(subject, &["namespace"]).is_empty() {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        other => {
            errors.push(FieldError::not_supported(
                &path.child("kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            ));
        }
    }
}

/// What may not change of a binding.
pub(super) fn validate_binding_update(object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if object.get("roleRef") != old.get("roleRef") {
        let given = object.get("roleRef").cloned().unwrap_or_else(|| json!({}));
        errors.push(FieldError::invalid(&Path::new("roleRef"), given, "cannot change roleRef"));
    }
}

/// A role's row.
pub(super) fn role_cells(object: &Value) -> Vec<Value> {
    vec![table::name(object), text(object, &["metadata", "creationTimestamp"]).into()]
}

/// A binding's row.
pub(super) fn binding_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", text(object, &["roleRef", "kind"]), text(object, &["roleRef", "name"]));
    let of = |kind: &str| {
        let all = items(object, &["subjects"]).iter().filter(|subject| text(subject, &["kind"]) == kind);
        let names = all.map(|subject| match text(subject, &["namespace"]) {
            "" => text(subject, &["name"]).to_owned(),
            namespace => format!("{namespace}/{}", text(subject, &["name"])),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        table::name(object),
        role.into(),
        table::age(object, now),
        of("User"),
        of("Group"),
        of("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregated_role_says_of_what() {
        let check = |rule: Value, expected: &[&str]| {
            let mut errors = Vec::new();
            validate_aggregation(&json!({"aggregationRule": rule}), &mut errors);
            let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(found, expected, "{rule}");
        };
        check(json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}), &[]);
        check(json!({}), &["aggregationRule.clusterRoleSelectors"]);
        let selector = json!({"matchExpressions": [{"key": "x", "operator": "x"}]});
        let path = "aggregationRule.clusterRoleSelectors[0]";
        check(
            json!({"clusterRoleSelectors": [selector]}),
            &[&format!("{path}.matchExpressions[0].operator"), path],
        );
    }
}
