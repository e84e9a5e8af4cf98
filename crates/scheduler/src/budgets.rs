//! How many pods may be disturbed at once.

use crate::pod::PodFacts;
use crate::terms::{matches, selector_of};
use apimachinery::selector::Selector;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use std::collections::{BTreeMap, BTreeSet};

struct Budget {
    selector: Selector,
    allowed: i32,
    /// Pods whose going has been counted already.
    disrupted: BTreeSet<String>,
}

/// PodDisruptionBudgets by namespace and name.
#[derive(Default)]
pub(crate) struct Budgets(BTreeMap<(String, String), Budget>);

impl Budgets {
    /// Takes in a budget, by namespace and name, as it is, or that it is gone.
    pub(crate) fn set(&mut self, key: &(String, String), now: Option<PodDisruptionBudget>) {
        let Some(budget) = now else {
            self.0.remove(key);
            return;
        };
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
        let budget = Budget {
            selector: selector_of(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: disrupted.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        };
        self.0.insert(key.clone(), budget);
    }

    /// Of pods in the order of their importance: for each whether its going, after those before it, would be one too many.
    pub(crate) fn violated<'a>(&self, pods: impl IntoIterator<Item = &'a PodFacts>) -> Vec<bool> {
        let mut left: BTreeMap<&(String, String), i32> =
            self.0.iter().map(|(key, budget)| (key, budget.allowed)).collect();
        let mut one = |pod: &PodFacts| {
            let mut violated = false;
            let namespace = pod.namespace.to_string();
            let here = self.0.range((namespace.clone(), String::new())..);
            for (key, budget) in here.take_while(|((there, _), _)| *there == namespace) {
                // As upstream: an empty selector concerns nobody here.
                let concerns = !budget.selector.is_empty()
                    && !pod.class.labels.is_empty()
                    && matches(&budget.selector, &pod.class.labels)
                    && !budget.disrupted.contains(&*pod.name);
                if concerns && let Some(left) = left.get_mut(key) {
                    *left -= 1;
                    violated |= *left < 0;
                }
            }
            violated
        };
        pods.into_iter().map(&mut one).collect()
    }
}
