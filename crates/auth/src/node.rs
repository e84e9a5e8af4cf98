//! The node authorizer: a kubelet may touch its own node, its own lease, the pods bound to it, and the objects that
//! those pods refer to. What it may write is narrowed further by admission, which sees the objects.

use std::sync::Arc;

use apimachinery::selector::FieldSelector;

use crate::rbac::PolicyRule;
use crate::{Attributes, Authorizer, Decision, Resource};

mod graph;

pub use graph::{Graph, Reference, excerpt, references};

/// A kind of object that a pod refers to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referenced {
    /// A Secret: image pulls, environment, volumes.
    Secret,
    /// A ConfigMap: environment, volumes.
    ConfigMap,
    /// The pod's ServiceAccount.
    ServiceAccount,
    /// A PersistentVolumeClaim that a volume names.
    PersistentVolumeClaim,
    /// A ResourceClaim that the pod names, or that was made for it.
    ResourceClaim,
}

/// What the authorizer asks of whoever knows the pods.
pub trait Related: Send + Sync {
    /// Whether the pod is bound to the node.
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool;
    /// Whether a pod bound to the node refers to the object.
    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool;
}

impl<R: Related + ?Sized> Related for Arc<R> {
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        (**self).pod_is_on(node, namespace, pod)
    }

    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
        (**self).is_referenced(node, kind, namespace, name)
    }
}

/// Authorizes kubelets; has no opinion on anyone else.
#[derive(Debug)]
pub struct NodeAuthorizer<R> {
    related: R,
    rules: Arc<[PolicyRule]>,
    reason: Arc<str>,
}

impl<R: Related> NodeAuthorizer<R> {
    /// An authorizer over what `related` knows; what is not divided by node follows the `system:node` role.
    pub fn new(related: R) -> Self {
        Self { related, rules: crate::bootstrap::node_rules().into(), reason: Arc::from("") }
    }

    /// The same over what somebody else knows.
    pub fn over<S: Related>(&self, related: S) -> NodeAuthorizer<S> {
        NodeAuthorizer { related, rules: self.rules.clone(), reason: self.reason.clone() }
    }

    fn decide(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        let Some(target) = attributes.resource() else { return self.by_rules(attributes) };
        let verb = attributes.verb;
        match (target.group, target.resource) {
            ("", "secrets") => self.read_referenced(node, Referenced::Secret, verb, target),
            ("", "configmaps") => self.read_referenced(node, Referenced::ConfigMap, verb, target),
            ("", "persistentvolumeclaims") => self.claim(node, verb, target),
            ("", "persistentvolumes") => Err(unrelated(node)),
            ("", "serviceaccounts") => self.token(node, verb, target),
            ("", "nodes") => own_node(node, verb, target),
            ("", "pods") => self.pod(node, verb, target),
            ("coordination.k8s.io", "leases") => own_lease(node, verb, target),
            ("resource.k8s.io", "resourceclaims") => {
                allow(verb == "get", "can only get individual resources of this type")?;
                allow(target.subresource.is_empty(), "cannot get subresource")?;
                self.referenced(node, Referenced::ResourceClaim, target)
            }
            ("resource.k8s.io", "resourceslices") => own_slices(node, verb, target),
            _ => self.by_rules(attributes),
        }
    }

    fn by_rules(&self, attributes: &Attributes<'_>) -> Result<(), String> {
        allow(self.rules.iter().any(|rule| rule.allows(attributes)), "")
    }

    fn read_referenced(
        &self,
        node: &str,
        kind: Referenced,
        verb: &str,
        target: &Resource<'_>,
    ) -> Result<(), String> {
        allow(matches!(verb, "get" | "list" | "watch"), "can only read resources of this type")?;
        allow(target.subresource.is_empty(), "cannot read subresource")?;
        allow(!target.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.referenced(node, kind, target)
    }

    fn referenced(&self, node: &str, kind: Referenced, target: &Resource<'_>) -> Result<(), String> {
        allow(!target.name.is_empty(), "No Object name found")?;
        if self.related.is_referenced(node, kind, target.namespace, target.name) {
            return Ok(());
        }
        Err(unrelated(node))
    }

    fn claim(&self, node: &str, verb: &str, target: &Resource<'_>) -> Result<(), String> {
        if target.subresource == "status" {
            allow(matches!(verb, "update" | "patch"), "can only get/update/patch this type")?;
        } else {
            allow(verb == "get", "can only get individual resources of this type")?;
            allow(target.subresource.is_empty(), "cannot get subresource")?;
        }
        self.referenced(node, Referenced::PersistentVolumeClaim, target)
    }

    fn token(&self, node: &str, verb: &str, target: &Resource<'_>) -> Result<(), String> {
        let individual = verb == "create" && !target.name.is_empty();
        allow(individual, "can only create tokens for individual service accounts")?;
        allow(target.subresource == "token", "can only create token subresource of serviceaccount")?;
        self.referenced(node, Referenced::ServiceAccount, target)
    }

    fn pod(&self, node: &str, verb: &str, target: &Resource<'_>) -> Result<(), String> {
        let bound = || {
            if self.related.pod_is_on(node, target.namespace, target.name) {
                Ok(())
            } else {
                Err(unrelated(node))
            }
        };
        match (target.subresource, verb) {
            ("", "get") => bound(),
            ("", "list" | "watch") if selects_node(target.field_selector, node) => Ok(()),
            ("", "list" | "watch") if !target.name.is_empty() => bound(),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".to_owned())
            }
            // Admission limits these to pods of this node.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

impl<R: Related> Authorizer for NodeAuthorizer<R> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match attributes.user.node() {
            None => Decision::nothing(),
            Some("") => Decision::NoOpinion(format!("unknown node for user {:?}", attributes.user.name)),
            Some(node) => match self.decide(node, attributes) {
                Ok(()) => Decision::Allow(self.reason.clone()),
                Err(reason) => Decision::NoOpinion(reason),
            },
        }
    }
}

fn own_node(node: &str, verb: &str, target: &Resource<'_>) -> Result<(), String> {
    match (target.subresource, verb) {
        // Admission limits these to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if target.name == node => Ok(()),
        ("", "get" | "list" | "watch") if target.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Err(format!("node '{node}' cannot read '{}', only its own Node object", target.name))
        }
        _ => Err(String::new()),
    }
}

fn own_lease(node: &str, verb: &str, target: &Resource<'_>) -> Result<(), String> {
    let known = matches!(verb, "get" | "create" | "update" | "patch" | "delete");
    allow(known, "can only get, create, update, patch, or delete a node lease")?;
    let theirs = target.namespace == "kube-node-lease";
    allow(theirs, "can only access leases in the \"kube-node-lease\" system namespace")?;
    // The name of what is created is in the body: admission checks it.
    let own = verb == "create" || target.name == node;
    allow(own, "can only access node lease with the same name as the requesting node")
}

/// The slices of the node's devices. Of a single one that exists nobody here knows whose it is: it is refused.
fn own_slices(node: &str, verb: &str, target: &Resource<'_>) -> Result<(), String> {
    allow(target.subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
    match verb {
        // Admission limits this to slices of the node.
        "create" => Ok(()),
        "list" | "watch" | "deletecollection" => {
            let why = "can only list/watch/deletecollection resourceslices with nodeName field selector";
            allow(selects_node(target.field_selector, node), why)
        }
        "get" | "update" | "patch" | "delete" => Err(unrelated(node)),
        _ => {
            let why = "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, \
                       patch, delete, deletecollection";
            Err(why.to_owned())
        }
    }
}

fn allow(condition: bool, otherwise: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// Whether the selector requires `spec.nodeName` to be the node.
fn selects_node(selector: &str, node: &str) -> bool {
    let selector = FieldSelector::parse(selector).unwrap_or_default();
    selector.required_value("spec.nodeName") == Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_required_node_name_selects() {
        for (selector, expected) in [
            ("spec.nodeName=one", true),
            ("spec.nodeName==one", true),
            ("status.phase=Running,spec.nodeName=one", true),
            ("spec.nodeName=two", false),
            ("spec.nodeName!=one", false),
            ("spec.nodeName=", false),
            ("spec.nodeNamex=one", false),
            ("spec.nodeName=one,x", false),
            ("", false),
        ] {
            assert_eq!(selects_node(selector, "one"), expected, "{selector}");
        }
    }
}
