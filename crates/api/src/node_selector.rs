//! Node selectors and required node affinity: which nodes a pod may be on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, NodeSelectorRequirement, NodeSelectorTerm};

type Labels = BTreeMap<String, String>;

/// Whether a node of these labels and this name is one that a pod may be on.
pub fn selects(
    node_selector: Option<&BTreeMap<String, String>>,
    affinity: Option<&Affinity>,
    labels: &Labels,
    name: &str,
) -> bool {
    let mut selected = node_selector.into_iter().flatten();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected.all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| term_matches(term, labels, name))
        })
}

/// Whether a term selects a node. A term without any requirement selects none.
pub fn term_matches(term: &NodeSelectorTerm, labels: &Labels, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |requirement: &NodeSelectorRequirement| {
        requirement_matches(requirement, labels.get(&requirement.key).map(String::as_str))
    };
    let field = |requirement: &NodeSelectorRequirement| {
        requirement_matches(requirement, (requirement.key == "metadata.name").then_some(name))
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let compared = |than: fn(&i64, &i64) -> bool| {
        let (Some(value), [bound]) = (value, values) else { return false };
        matches!((value.parse(), bound.parse()), (Ok(value), Ok(bound)) if than(&value, &bound))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn terms_follow_their_operators() {
        let labels: Labels =
            [("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())].into();
        let matches = |term: Value| term_matches(&from_value(term).unwrap(), &labels, "node-1");
        let expression = |key: &str, operator: &str, values: Value| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        for (term, want) in [
            (expression("zone", "In", json!(["a", "b"])), true),
            (expression("zone", "NotIn", json!(["a"])), false),
            (expression("disk", "NotIn", json!(["ssd"])), true),
            (expression("zone", "Exists", json!([])), true),
            (expression("disk", "DoesNotExist", json!([])), true),
            (expression("cores", "Gt", json!(["7"])), true),
            (expression("cores", "Lt", json!(["8"])), false),
            (expression("zone", "Gt", json!(["1"])), false),
            (json!({}), false),
            (
                json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["node-1"] }] }),
                true,
            ),
        ] {
            assert_eq!(matches(term.clone()), want, "{term}");
        }
    }

    #[test]
    fn a_pod_says_where_it_may_be() {
        let labels: Labels = [("zone".to_owned(), "a".to_owned())].into();
        let check = |selector: Value, terms: Value, expected: bool| {
            let selector: BTreeMap<String, String> = from_value(selector).unwrap();
            let required =
                json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
            let affinity: Affinity = from_value(json!({ "nodeAffinity": required })).unwrap();
            let affinity = terms.as_array().is_some_and(|terms| !terms.is_empty()).then_some(&affinity);
            assert_eq!(selects(Some(&selector), affinity, &labels, "n"), expected, "{selector:?} {terms}");
        };
        let zone = |zone: &str| json!([{ "matchExpressions": [{ "key": "zone", "operator": "In", "values": [zone] }] }]);
        check(json!({}), json!([]), true);
        check(json!({ "zone": "a" }), zone("a"), true);
        check(json!({ "zone": "b" }), json!([]), false);
        check(json!({ "disk": "ssd" }), json!([]), false);
        check(json!({}), zone("b"), false);
    }
}
