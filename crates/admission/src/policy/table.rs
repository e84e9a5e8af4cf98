//! Policies and their bindings, read from their objects, and the list of all that are in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::gvk::GroupVersionKind;
use apimachinery::meta;
use apimachinery::selector::Selector;
use arc_swap::ArcSwap;
use serde_json::Value;

use super::Part;
use crate::matching::{Criteria, selector};
use crate::tree::{items, text};

/// A policy.
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) criteria: Criteria,
    /// Of what its parameters are, or why nobody knows.
    pub(crate) param_kind: Option<Result<GroupVersionKind, String>>,
    /// What cannot be found out is allowed.
    pub(crate) ignores_failures: bool,
    pub(crate) expressions: expressions::Policy,
}

/// Where a policy is in force, with which parameters, and what follows.
pub(crate) struct Binding {
    pub(crate) name: String,
    policy: String,
    /// `None`: wherever the policy is.
    pub(crate) criteria: Option<Criteria>,
    pub(crate) params: Option<ParamRef>,
    pub(crate) denies: bool,
    pub(crate) warns: bool,
}

/// Which objects are the parameters.
pub(crate) struct ParamRef {
    pub(crate) name: String,
    /// Empty: that of the request.
    pub(crate) namespace: String,
    /// Where it goes without a name.
    pub(crate) selector: Option<Result<Selector, String>>,
    /// Where there are none the request is refused.
    pub(crate) denies_without: bool,
}

impl Policy {
    fn read(policy: &Value) -> Self {
        let spec = policy.get("spec").unwrap_or(&Value::Null);
        let kind = spec.get("paramKind").filter(|kind| kind.is_object()).map(|kind| {
            let parsed = GroupVersionKind::parse(text(kind, &["apiVersion"]), text(kind, &["kind"]));
            parsed.map_err(|error| format!("failed to parse paramKind APIVersion: {error}"))
        });
        Self {
            name: meta::name(policy).to_owned(),
            criteria: Criteria::of_resources(spec.get("matchConstraints").unwrap_or(&Value::Null)),
            param_kind: kind,
            ignores_failures: text(spec, &["failurePolicy"]) == "Ignore",
            expressions: expressions::Policy::compile(spec),
        }
    }
}

impl Binding {
    fn read(binding: &Value) -> Self {
        let spec = binding.get("spec").unwrap_or(&Value::Null);
        let given = |field: &str| spec.get(field).filter(|given| given.is_object());
        let does = |action: &str| items(spec, &["validationActions"]).iter().any(|each| each == action);
        Self {
            name: meta::name(binding).to_owned(),
            policy: text(spec, &["policyName"]).to_owned(),
            criteria: given("matchResources").map(Criteria::of_resources),
            params: given("paramRef").map(|reference| ParamRef {
                name: text(reference, &["name"]).to_owned(),
                namespace: text(reference, &["namespace"]).to_owned(),
                selector: reference.get("selector").map(|_| selector(reference, "selector")),
                denies_without: text(reference, &["parameterNotFoundAction"]) == "Deny",
            }),
            denies: does("Deny"),
            warns: does("Warn"),
        }
    }
}

/// Policies, each with its bindings; one without any is in force nowhere.
pub(crate) type InForce = Vec<(Arc<Policy>, Vec<Arc<Binding>>)>;

#[derive(Default)]
struct Known {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
}

/// All policies and bindings.
#[derive(Default)]
pub(crate) struct Table {
    known: Mutex<Known>,
    /// By their names.
    in_force: ArcSwap<InForce>,
}

impl Table {
    /// Those in force now.
    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    pub(crate) fn replace(&self, part: Part, objects: &[Value]) {
        self.change(|known| {
            match part {
                Part::Policy => known.policies.clear(),
                Part::Binding => known.bindings.clear(),
            }
            objects.iter().for_each(|object| known.set(part, object));
        });
    }

    pub(crate) fn set(&self, part: Part, object: &Value) {
        self.change(|known| known.set(part, object));
    }

    pub(crate) fn remove(&self, part: Part, name: &str) {
        self.change(|known| {
            match part {
                Part::Policy => drop(known.policies.remove(name)),
                Part::Binding => drop(known.bindings.remove(name)),
            };
        });
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let bound = known.policies.iter().filter_map(|(name, policy)| {
            let of_policy = known.bindings.values().filter(|binding| binding.policy == *name);
            let bindings: Vec<Arc<Binding>> = of_policy.cloned().collect();
            (!bindings.is_empty()).then(|| (policy.clone(), bindings))
        });
        self.in_force.store(Arc::new(bound.collect()));
    }
}

impl Known {
    fn set(&mut self, part: Part, object: &Value) {
        let name = meta::name(object).to_owned();
        match part {
            Part::Policy => drop(self.policies.insert(name, Arc::new(Policy::read(object)))),
            Part::Binding => drop(self.bindings.insert(name, Arc::new(Binding::read(object)))),
        }
    }
}
