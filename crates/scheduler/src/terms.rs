//! What pods say of other pods: affinity, anti-affinity, and how evenly their like should be spread.

use apimachinery::selector::{Operator, Requirement, Selector};
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, TopologySpreadConstraint, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of a pod, a node or a namespace.
pub(crate) type Labels = BTreeMap<String, String>;

/// Pods by namespace and labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct PodSelection {
    pub(crate) namespaces: BTreeSet<String>,
    /// Namespaces that count as named, by their labels.
    #[serde(serialize_with = "as_text")]
    pub(crate) namespace_selector: Selector,
    #[serde(serialize_with = "as_text")]
    pub(crate) selector: Selector,
}

/// A selection, and the label of nodes that says what "together" means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Term {
    pub(crate) selection: PodSelection,
    pub(crate) topology_key: String,
}

/// All that a pod says of where it wants to be in relation to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Terms {
    pub(crate) required: Vec<Term>,
    pub(crate) required_apart: Vec<Term>,
    /// With their weights; below zero: rather apart.
    pub(crate) preferred: Vec<(i64, Term)>,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    pub(crate) topology_key: String,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: usize,
    /// `DoNotSchedule`, not `ScheduleAnyway`.
    pub(crate) hard: bool,
    #[serde(serialize_with = "as_text")]
    pub(crate) selector: Selector,
    pub(crate) honor_affinity: bool,
    pub(crate) honor_taints: bool,
}

/// A selector's text; that of one for nothing differs from that of one for everything.
fn as_text<S: Serializer>(selector: &Selector, serializer: S) -> Result<S::Ok, S::Error> {
    if *selector == Selector::nothing() {
        return serializer.serialize_none();
    }
    serializer.collect_str(selector)
}

/// Whether labels satisfy a selector.
pub(crate) fn matches(selector: &Selector, labels: &Labels) -> bool {
    selector.matches_with(|key| labels.get(key).map(String::as_str))
}

/// A selector from the object form; none holds for nothing, as does one that no API server should have let through.
pub(crate) fn selector_of(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else { return Selector::nothing() };
    requirements(selector).map_or_else(Selector::nothing, Selector::from_requirements)
}

fn requirements(selector: &LabelSelector) -> Option<Vec<Requirement>> {
    let mut all = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        all.push(Requirement::new(key, Operator::In, vec![value.clone()]).ok()?);
    }
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match expression.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        let values = expression.values.clone().unwrap_or_default();
        all.push(Requirement::new(&expression.key, operator, values).ok()?);
    }
    Some(all)
}

/// A selector narrowed to pods that have the same values as this one for some keys (`matchLabelKeys`), and others for others
/// (`mismatchLabelKeys`). API servers write these into the selector itself; what is there already changes nothing.
fn narrowed(
    selector: Option<&LabelSelector>,
    labels: &Labels,
    same: Option<&[String]>,
    other: Option<&[String]>,
) -> Selector {
    let Some(mut all) = selector.and_then(requirements) else { return Selector::nothing() };
    for (keys, operator) in [(same, Operator::In), (other, Operator::NotIn)] {
        for key in keys.unwrap_or_default() {
            let requirement =
                labels.get(key).and_then(|value| Requirement::new(key, operator, vec![value.clone()]).ok());
            if let Some(requirement) = requirement
                && !all.contains(&requirement)
            {
                all.push(requirement);
            }
        }
    }
    Selector::from_requirements(all)
}

fn term(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Term {
    let named = term.namespaces.iter().flatten().cloned();
    let mut namespaces: BTreeSet<String> = named.collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.insert(namespace.to_owned());
    }
    Term {
        selection: PodSelection {
            namespaces,
            namespace_selector: selector_of(term.namespace_selector.as_ref()),
            selector: narrowed(
                term.label_selector.as_ref(),
                labels,
                term.match_label_keys.as_deref(),
                term.mismatch_label_keys.as_deref(),
            ),
        },
        topology_key: term.topology_key.clone(),
    }
}

impl Terms {
    /// Reads a pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
            return Self::default();
        };
        let (namespace, labels) = (pod.namespace().unwrap_or_default(), pod.labels());
        let all = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
            terms.into_iter().flatten().map(|given| term(given, &namespace, labels)).collect()
        };
        let weighted = |terms: Option<&Vec<WeightedPodAffinityTerm>>, sign: i64| -> Vec<(i64, Term)> {
            let each = |given: &WeightedPodAffinityTerm| {
                (sign * i64::from(given.weight), term(&given.pod_affinity_term, &namespace, labels))
            };
            terms.into_iter().flatten().map(each).collect()
        };
        let (together, apart) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
        let mut preferred = weighted(
            together.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            1,
        );
        preferred.extend(weighted(
            apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            -1,
        ));
        Self {
            required: all(
                together.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
            ),
            required_apart: all(
                apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
            ),
            preferred,
        }
    }
}

impl Spread {
    /// A pod's constraints, in its order.
    pub(crate) fn all(pod: &Pod) -> Vec<Self> {
        let given = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_ref());
        given.into_iter().flatten().map(|constraint| Self::of(constraint, pod.labels())).collect()
    }

    /// One constraint, of a pod with these labels.
    pub(crate) fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            selector: narrowed(
                constraint.label_selector.as_ref(),
                labels,
                constraint.match_label_keys.as_deref(),
                None,
            ),
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    /// The pods that it counts, for a pod of this namespace.
    pub(crate) fn selection(&self, namespace: &str) -> PodSelection {
        PodSelection {
            namespaces: [namespace.to_owned()].into(),
            namespace_selector: Selector::nothing(),
            selector: self.selector.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn keys_of_labels_narrow_a_selector() {
        let pod: Pod = from_value(json!({
            "metadata": { "name": "p", "namespace": "x", "labels": { "app": "a", "hash": "1" } },
            "spec": { "containers": [], "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                { "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "a" } },
                  "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["app"] },
            ] } },
            "topologySpreadConstraints": [{ "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {}, "matchLabelKeys": ["hash"] }] },
        }))
        .unwrap();
        let terms = Terms::of(&pod);
        let selection = &terms.required_apart[0].selection;
        assert_eq!(selection.selector.to_string(), "app=a,app!=a,hash=1");
        assert_eq!(selection.namespaces, ["x".to_owned()].into());
        assert_eq!(Spread::all(&pod)[0].selector.to_string(), "hash=1");
    }

    #[test]
    fn no_selector_selects_nothing_and_an_empty_one_everything() {
        assert!(!matches(&selector_of(None), &Labels::new()));
        assert!(matches(&selector_of(Some(&LabelSelector::default())), &Labels::new()));
    }
}
