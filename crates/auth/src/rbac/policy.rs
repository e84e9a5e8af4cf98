//! Roles and bindings, indexed by subject. A request costs a hash look-up for the user and for each of their groups,
//! and then only the rules of their own bindings.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Binding, PolicyRule, Role, Subject};
use crate::user::SERVICE_ACCOUNT_PREFIX;
use crate::{Attributes, Authorizer, Decision, UserInfo};

/// Every RBAC object of the plane.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// All Roles.
    pub roles: Vec<Role>,
    /// All ClusterRoles.
    pub cluster_roles: Vec<Role>,
    /// All RoleBindings.
    pub role_bindings: Vec<Binding>,
    /// All ClusterRoleBindings.
    pub cluster_role_bindings: Vec<Binding>,
}

/// An immutable index of the RBAC objects. Build a new one when they change.
#[derive(Debug, Default)]
pub struct Policy {
    roles: Roles,
    everywhere: Grants,
    in_namespace: HashMap<String, Grants>,
}

#[derive(Debug, Default)]
struct Roles {
    cluster: HashMap<String, Arc<[PolicyRule]>>,
    namespaced: HashMap<String, HashMap<String, Arc<[PolicyRule]>>>,
}

#[derive(Debug, Default)]
struct Grants {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

#[derive(Clone, Debug)]
struct Grant {
    /// The role's rules, or the complaint that there is no such role.
    rules: Result<Arc<[PolicyRule]>, Arc<str>>,
    /// What to say when one of them allows.
    reason: Arc<str>,
}

impl Policy {
    /// Indexes the objects.
    pub fn new(objects: Objects) -> Self {
        let mut roles = Roles::default();
        for role in objects.cluster_roles {
            roles.cluster.insert(role.metadata.name, role.rules.into());
        }
        for Role { metadata, rules } in objects.roles {
            roles.namespaced.entry(metadata.namespace).or_default().insert(metadata.name, rules.into());
        }
        let mut everywhere = Grants::default();
        for binding in &objects.cluster_role_bindings {
            everywhere.add(binding, "ClusterRoleBinding", &roles);
        }
        let mut in_namespace: HashMap<String, Grants> = HashMap::new();
        for binding in &objects.role_bindings {
            let namespace = binding.metadata.namespace.clone();
            in_namespace.entry(namespace).or_default().add(binding, "RoleBinding", &roles);
        }
        Self { roles, everywhere, in_namespace }
    }

    /// The rules of a role; `None` when there is no such role. `namespace` matters for Roles only.
    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<[PolicyRule]>> {
        self.roles.get(kind, namespace, name)
    }

    /// Every rule that holds for the user in the namespace (empty: those that hold everywhere), and what went wrong
    /// while collecting them.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for grant in self.grants(user, namespace) {
            match &grant.rules {
                Ok(granted) => rules.extend(granted.iter().cloned()),
                Err(missing) => errors.push(missing.to_string()),
            }
        }
        (rules, errors)
    }

    fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let local = if namespace.is_empty() { None } else { self.in_namespace.get(namespace) };
        [Some(&self.everywhere), local].into_iter().flatten().flat_map(|grants| grants.of(user))
    }
}

impl Authorizer for Policy {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let namespace = attributes.resource().map(|resource| resource.namespace).unwrap_or_default();
        let mut missing = Vec::new();
        for grant in self.grants(attributes.user, namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision::Allow(grant.reason.clone());
                }
                Ok(_) => {}
                Err(complaint) => missing.push(complaint.to_string()),
            }
        }
        if missing.is_empty() {
            return Decision::nothing();
        }
        missing.dedup();
        Decision::NoOpinion(match missing.as_slice() {
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }
}

impl Roles {
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<[PolicyRule]>> {
        match kind {
            "ClusterRole" => self.cluster.get(name),
            "Role" => self.namespaced.get(namespace)?.get(name),
            _ => None,
        }
    }
}

impl Grants {
    fn add(&mut self, binding: &Binding, kind: &str, roles: &Roles) {
        let (role, of) = (&binding.role_ref, &binding.metadata);
        let rules = roles.get(&role.kind, &of.namespace, &role.name).cloned().ok_or_else(|| {
            let resource = role.kind.to_lowercase();
            Arc::from(format!("{resource}.rbac.authorization.k8s.io {:?} not found", role.name))
        });
        let slash = if of.namespace.is_empty() { "" } else { "/" };
        // Upstream shows a RoleBinding as NAME/NAMESPACE.
        let binding_name = format!("{}{slash}{}", of.name, of.namespace);
        for subject in &binding.subjects {
            let Some((user, key, shown)) = place(subject, &of.namespace) else { continue };
            let index = if user { &mut self.users } else { &mut self.groups };
            let reason = Arc::from(format!(
                "RBAC: allowed by {kind} {binding_name:?} of {} {:?} to {shown}",
                role.kind, role.name
            ));
            index.entry(key).or_default().push(Grant { rules: rules.clone(), reason });
        }
    }

    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let named = self.users.get(&user.name);
        named.into_iter().chain(user.groups.iter().filter_map(|group| self.groups.get(group))).flatten()
    }
}

/// Whether a subject is found by user name (else by group), under which key, and how it is shown.
fn place(subject: &Subject, binding_namespace: &str) -> Option<(bool, String, String)> {
    let shown = format!("{} {:?}", subject.kind, subject.name);
    match subject.kind.as_str() {
        "User" => Some((true, subject.name.clone(), shown)),
        "Group" => Some((false, subject.name.clone(), shown)),
        "ServiceAccount" => {
            let namespace = if subject.namespace.is_empty() { binding_namespace } else { &subject.namespace };
            if namespace.is_empty() {
                return None;
            }
            let user = format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{}", subject.name);
            let shown = format!("ServiceAccount {:?}", format!("{}/{namespace}", subject.name));
            Some((true, user, shown))
        }
        _ => None,
    }
}
