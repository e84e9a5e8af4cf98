//! Node selectors, node affinity, taints and tolerations: what pods and nodes say about each other.

use api::taints::tolerates;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// Whether a term selects a node. A term without any requirement selects none.
pub(crate) fn term_matches(term: &NodeSelectorTerm, labels: &Labels, name: &str) -> bool {
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

/// The first of the node's taints with one of these effects that nothing tolerates.
pub(crate) fn untolerated<'a>(
    taints: &'a [Taint],
    tolerations: &[Toleration],
    effects: &[&str],
) -> Option<&'a Taint> {
    let concerns = |taint: &&Taint| effects.contains(&taint.effect.as_str());
    taints
        .iter()
        .filter(concerns)
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

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
    fn tolerations_cover_what_they_say() {
        let taint: Taint = from_value(json!({ "key": "k", "value": "v", "effect": "NoSchedule" })).unwrap();
        for (toleration, want) in [
            (json!({ "key": "k", "value": "v", "effect": "NoSchedule" }), true),
            (json!({ "key": "k", "value": "v" }), true),
            (json!({ "key": "k", "operator": "Exists" }), true),
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "k", "value": "w" }), false),
            (json!({ "key": "k", "operator": "Exists", "effect": "NoExecute" }), false),
            (json!({ "key": "j", "operator": "Exists" }), false),
        ] {
            assert_eq!(tolerates(&from_value(toleration.clone()).unwrap(), &taint), want, "{toleration}");
        }
    }
}
