//! Which requests a webhook or a policy is about.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::path_segment;
use serde_json::Value;

use crate::checks::{invalid, selector, supported};
use crate::tree::{default, items, items_mut, object};

pub(super) const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: &[&str] = &["*", "Cluster", "Namespaced"];

/// Fills in the rules of that list.
pub(super) fn default_rules(owner: &mut Value, list: &str) {
    items_mut(owner, &[list]).iter_mut().for_each(|rule| default(rule, "scope", "*"));
}

/// Fills in what a policy or its binding matches, if it says so.
pub(super) fn default_resources(owner: &mut Value, field: &str) {
    let Some(resources) = owner.get_mut(field).filter(|resources| resources.is_object()) else { return };
    default(resources, "matchPolicy", "Equivalent");
    object(resources, "namespaceSelector");
    object(resources, "objectSelector");
    default_rules(resources, "resourceRules");
    default_rules(resources, "excludeResourceRules");
}

/// What is wrong with what a policy or its binding matches.
pub(super) fn validate_resources(resources: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    supported(resources, "matchPolicy", MATCH_POLICIES, path, errors);
    selector(resources, "namespaceSelector", path, errors);
    selector(resources, "objectSelector", path, errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        let at_list = path.child(list);
        for (index, rule) in items(resources, &[list]).iter().enumerate() {
            let at_rule = at_list.index(index);
            validate_names(rule, &at_rule.child("resourceNames"), errors);
            validate_rule(rule, &at_rule, errors);
        }
    }
}

fn validate_names(rule: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, name) in texts(rule, "resourceNames").enumerate() {
        invalid(&path.index(index), name, path_segment(name), errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.index(index), name));
        }
    }
}

fn texts<'a>(tree: &'a Value, list: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    items(tree, &[list]).iter().map(|item| item.as_str().unwrap_or_default())
}

/// What is wrong with a rule: operations, and resources of groups and versions.
pub(super) fn validate_rule(rule: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let at_operations = path.child("operations");
    alone(rule, "operations", "operations", &at_operations, errors);
    for (index, operation) in texts(rule, "operations").enumerate() {
        if !OPERATIONS.contains(&operation) {
            errors.push(FieldError::not_supported(&at_operations.index(index), operation, OPERATIONS));
        }
    }
    alone(rule, "apiGroups", "API groups", &path.child("apiGroups"), errors);
    let at_versions = path.child("apiVersions");
    alone(rule, "apiVersions", "API versions", &at_versions, errors);
    for (index, _) in texts(rule, "apiVersions").enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(FieldError::required(&at_versions.index(index), ""));
    }
    validate_plurals(rule, &path.child("resources"), errors);
    supported(rule, "scope", SCOPES, path, errors);
}

/// A list that is not empty, and has nothing beside `*`.
fn alone(rule: &Value, list: &str, words: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let count = texts(rule, list).count();
    if count == 0 {
        errors.push(FieldError::required(path, ""));
    }
    if count > 1 && texts(rule, list).any(|item| item == "*") {
        let why = format!("if '*' is present, must not specify other {words}");
        errors.push(FieldError::invalid(path, items(rule, &[list]).to_vec(), why));
    }
}

/// `pods`, `pods/status`, `*/scale`, …: nothing that something else in the list says already.
fn validate_plurals(rule: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let all = || items(rule, &["resources"]).to_vec();
    if texts(rule, "resources").next().is_none() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut any_part, mut any_owner) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut every_plural, mut some_plural) = (false, false, false);
    for (index, name) in texts(rule, "resources").enumerate() {
        let at_name = path.index(index);
        everything |= name == "*/*";
        every_plural |= name == "*";
        let Some((plural, part)) = name.split_once('/') else {
            if name.is_empty() {
                errors.push(FieldError::required(&at_name, ""));
            } else {
                // As upstream does it, the last such name counts.
                some_plural = name != "*";
            }
            continue;
        };
        if any_part.contains(plural) {
            let why = format!("if '{plural}/*' is present, must not specify {name}");
            errors.push(FieldError::invalid(&at_name, name, why));
        }
        if any_owner.contains(part) {
            let why = format!("if '*/{part}' is present, must not specify {name}");
            errors.push(FieldError::invalid(&at_name, name, why));
        }
        if part == "*" {
            any_part.insert(plural);
        }
        if plural == "*" {
            any_owner.insert(part);
        }
    }
    if everything && texts(rule, "resources").count() > 1 {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, all(), why));
    }
    if every_plural && some_plural {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, all(), why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_word_is_not_an_absent_one() {
        let mut owner = json!({"a": {"matchPolicy": ""}, "b": {}});
        for (field, expected) in [("a", 1), ("b", 0)] {
            default_resources(&mut owner, field);
            let mut errors = Vec::new();
            validate_resources(&owner[field], &Path::new("spec"), &mut errors);
            assert_eq!(errors.len(), expected, "{field}");
        }
    }
}
