//! What may I do in this namespace?

use apimachinery::field::{FieldError, Path};
use apimachinery::status::Status;
use serde_json::{Map, Value, json};

use super::Asked;

pub(super) fn own(asked: &Asked<'_>) -> Result<Value, Status> {
    let namespace = asked.text("/spec/namespace");
    if namespace.is_empty() {
        let path = Path::new("spec");
        let why = "namespace is required in request body";
        asked.sound(vec![FieldError::required(&path.child("namespace"), why)])?;
    }
    let (rules, errors) = asked.server.authorization.rules_for(asked.call.user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in &rules {
        if !rule.resources.is_empty() {
            let lists = [
                ("verbs", &rule.verbs),
                ("apiGroups", &rule.api_groups),
                ("resources", &rule.resources),
                ("resourceNames", &rule.resource_names),
            ];
            resources.push(named(&lists));
        }
        if !rule.non_resource_urls.is_empty() {
            paths.push(named(&[("verbs", &rule.verbs), ("nonResourceURLs", &rule.non_resource_urls)]));
        }
    }
    let mut status =
        json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": !errors.is_empty()});
    if !errors.is_empty() {
        status["evaluationError"] = json!(errors.join(", "));
    }
    Ok(asked.with_status(status))
}

/// The lists that are not empty, under their names.
fn named(lists: &[(&str, &Vec<String>)]) -> Value {
    let filled = lists.iter().filter(|(name, list)| !list.is_empty() || *name == "verbs");
    Value::Object(filled.map(|(name, list)| ((*name).to_owned(), json!(list))).collect::<Map<_, _>>())
}
