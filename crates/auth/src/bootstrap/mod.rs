//! The roles and bindings that every plane begins with: upstream's, and those of our own identities; and how they are
//! brought in at each start without undoing what an administrator added.

mod apart;
mod bindings;
mod controllers;
mod namespaced;
mod reconcile;
mod render;
mod system;
mod table;
mod user_facing;

use serde_json::{Value, json};

use crate::rbac::PolicyRule;
use crate::{Attributes, Authorizer, Decision};

pub use reconcile::{Step, reconcile_binding, reconcile_role};

/// The group of the identity that installs these objects. Its rights are compiled in: before the first role is
/// stored, nothing else could grant them.
pub const BOOTSTRAP_GROUP: &str = "system:monoplane:bootstrap";

/// Every ClusterRole, as objects.
pub fn cluster_roles() -> Vec<Value> {
    let tables = [user_facing::ROLES, system::ROLES, controllers::ROLES, apart::ROLES];
    let all: Vec<&table::RoleSpec> = tables.into_iter().flatten().collect();
    all.iter().map(|role| render::cluster_role(role, &all)).collect()
}

/// Every ClusterRoleBinding, as objects.
pub fn cluster_role_bindings() -> Vec<Value> {
    let of_controllers = [controllers::ROLES, apart::ROLES].into_iter().flatten();
    let of_controllers = of_controllers.filter_map(|role| render::controller_binding(role.name));
    bindings::CLUSTER.iter().map(render::cluster_role_binding).chain(of_controllers).collect()
}

/// What our controllers need on upstream's API server, beyond what that grants `system:kube-controller-manager`: a ClusterRole
/// and its binding.
pub fn controllers_on_upstream() -> [Value; 2] {
    let rules = [controllers::OURS, controllers::ON_UPSTREAM].map(render::rules).concat();
    let mut role = render::cluster_role(&table::role(controllers::OUR_ROLE, &[]), &[]);
    role["rules"] = json!(rules);
    [role, render::cluster_role_binding(&bindings::CONTROLLERS)]
}

/// Every Role, as objects.
pub fn roles() -> Vec<Value> {
    namespaced::ROLES.iter().map(|(namespace, role)| render::role(namespace, role)).collect()
}

/// Every RoleBinding, as objects.
pub fn role_bindings() -> Vec<Value> {
    namespaced::BINDINGS.iter().map(|(namespace, binding)| render::role_binding(namespace, binding)).collect()
}

/// The rules of `system:node`: what a kubelet may do that does not depend on which node it is.
pub(crate) fn node_rules() -> Vec<PolicyRule> {
    render::rules(system::NODE)
}

/// Grants the bootstrap group what installing needs, whatever is stored.
#[derive(Debug)]
pub struct BootstrapAuthorizer {
    rules: Vec<PolicyRule>,
    reason: std::sync::Arc<str>,
}

impl Default for BootstrapAuthorizer {
    fn default() -> Self {
        Self { rules: render::rules(system::BOOTSTRAP), reason: "the server installs itself".into() }
    }
}

impl BootstrapAuthorizer {
    /// The rules that it grants.
    pub fn rules(&self) -> &[PolicyRule] {
        &self.rules
    }
}

impl Authorizer for BootstrapAuthorizer {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(BOOTSTRAP_GROUP) && self.rules.iter().any(|rule| rule.allows(attributes)) {
            return Decision::Allow(self.reason.clone());
        }
        Decision::nothing()
    }
}
