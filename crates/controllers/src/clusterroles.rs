//! ClusterRoles that are made of others: the rules of those that their selectors select.

use crate::ownership::selects;
use crate::plan::{Plan, patch};
use crate::{Controller, World};
use client::kube::ResourceExt;
use client::kube::core::Selector;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;
use std::sync::Arc;

/// The controller; see the module.
pub struct ClusterRoles {
    roles: Reader<ClusterRole>,
}

/// What it looks at.
pub struct View {
    /// The role, if it is made of others.
    pub role: Option<Arc<ClusterRole>>,
    /// All roles.
    pub roles: Vec<Arc<ClusterRole>>,
}

fn is_aggregated(role: &ClusterRole) -> bool {
    role.aggregation_rule.is_some()
}

impl Controller for ClusterRoles {
    const NAME: &'static str = "clusterrole-aggregation-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = ();

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let roles = world.reader::<ClusterRole>();
        let (add, all) = (queue.clone(), roles.clone());
        roles.informer().on_change(move |_| {
            // Any role may be a part of any such one, or have been.
            let aggregated = all.informer().store().list();
            aggregated
                .iter()
                .filter(|role| is_aggregated(role))
                .for_each(|role| add.add(ObjectKey::of(&**role)));
        });
        Self { roles }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let role = self.roles.get(key).filter(|role| is_aggregated(role));
        let roles = if role.is_some() { self.roles.list() } else { Vec::new() };
        View { role, roles }
    }

    fn plan(_: &ObjectKey, view: &View, (): &(), _: Timestamp) -> Plan<()> {
        let mut plan = Plan::default();
        let Some(role) = view.role.as_deref() else { return plan };
        let rules = rules(role, &view.roles);
        if role.rules.as_deref().unwrap_or_default() != rules {
            plan.then(patch(role, json!({ "rules": rules })));
        }
        plan
    }
}

/// The rules of its parts in the order of their names, each once.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let selectors =
        role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.filter_map(|selector| Selector::try_from(selector.clone()).ok()) {
        let is_part = |part: &&Arc<ClusterRole>| {
            part.metadata.name != role.metadata.name && selects(&selector, &***part)
        };
        let mut parts: Vec<_> = all.iter().filter(is_part).collect();
        parts.sort_by_key(|part| part.name_any());
        for rule in parts.into_iter().flat_map(|part| part.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value};

    fn role(name: &str, more: Value) -> Arc<ClusterRole> {
        let mut role = json!({ "metadata": { "name": name } });
        testkit::merge(&mut role, &more);
        Arc::new(from_value(role).unwrap())
    }

    fn part(name: &str, verb: &str) -> Arc<ClusterRole> {
        role(name, json!({ "metadata": { "labels": { "of": "all" } }, "rules": [{ "verbs": [verb] }] }))
    }

    #[test]
    fn a_role_has_the_rules_of_its_parts() {
        let whole = role(
            "all",
            json!({
                "metadata": { "labels": { "of": "all" } }, "rules": [{ "verbs": ["old"] }],
                "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "of": "all" } }] },
            }),
        );
        let roles =
            vec![part("b", "get"), part("a", "list"), part("c", "get"), whole.clone(), role("d", json!({}))];
        let verbs: Vec<_> = rules(&whole, &roles).into_iter().flat_map(|rule| rule.verbs).collect();
        assert_eq!(verbs, ["list", "get"]);
    }
}
