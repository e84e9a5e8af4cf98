//! Nobody grants what they do not have: whoever writes a role must hold all of its rules, and whoever binds one all of
//! the role's, unless they may `escalate` or `bind` it. Who may `aggregate` it may say what rules a role has that is to be made
//! of others, which only the all-powerful can have asked for, and nothing else of it.

use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use auth::rbac::{PolicyRule, uncovered};
use auth::{Authorizer, Resource, Target, UserInfo};
use registry::{Attributes, Operation};
use serde_json::Value;

use crate::ApiServer;

const RBAC: &str = "rbac.authorization.k8s.io";
/// Metadata that grants nothing.
const UNCHECKED: [&str; 3] = ["finalizers", "managedFields", "ownerReferences"];

/// Refuses what would grant more than the user has.
pub(super) fn check(
    server: &Arc<ApiServer>,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
) -> Result<(), Status> {
    let Some(object) = object.filter(|_| attributes.kind.group == RBAC) else { return Ok(()) };
    if attributes.operation == Operation::Delete {
        return Ok(());
    }
    let grant = Grant { server, user, attributes };
    match attributes.kind.plural.as_str() {
        "roles" | "clusterroles" => grant.of_role(object),
        "rolebindings" | "clusterrolebindings" => grant.of_binding(object),
        _ => Ok(()),
    }
}

/// A write that may grant something.
struct Grant<'a> {
    server: &'a ApiServer,
    user: &'a UserInfo,
    attributes: &'a Attributes<'a>,
}

impl Grant<'_> {
    fn of_role(&self, role: &Value) -> Result<(), Status> {
        let plural = self.attributes.kind.plural.as_str();
        let may = |verb: &str| self.has_verb(verb, plural, self.attributes.namespace, self.attributes.name);
        if self.is_collectors(role) || may("escalate") || (self.is_aggregators(role) && may("aggregate")) {
            return Ok(());
        }
        let mut wanted = rules(role);
        if aggregates(role) || self.attributes.old.is_some_and(aggregates) {
            // Whatever the controller puts into it: nobody less than all-powerful can know.
            wanted.extend(everything());
        }
        self.must_hold(&wanted)
    }

    fn of_binding(&self, binding: &Value) -> Result<(), Status> {
        if self.is_collectors(binding) {
            return Ok(());
        }
        let text = |pointer: &str| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, role) = (text("/roleRef/kind"), text("/roleRef/name"));
        let (plural, of_namespace) = match kind {
            "Role" => ("roles", self.attributes.namespace),
            _ => ("clusterroles", ""),
        };
        if self.has_verb("bind", plural, self.attributes.namespace, role) {
            return Ok(());
        }
        let policy = self.server.authorization.policy();
        let Some(wanted) = policy.role(kind, of_namespace, role) else {
            return Err(Status::not_found(&GroupResource::new(RBAC, plural.to_owned()), role));
        };
        self.must_hold(wanted)
    }

    /// Whether the write changes nothing but what the garbage collector must be able to change.
    fn is_collectors(&self, object: &Value) -> bool {
        self.attributes.old.is_some_and(|old| checked(old) == checked(object))
    }

    /// Whether the write changes nothing but the rules of a role that is made of others.
    fn is_aggregators(&self, role: &Value) -> bool {
        let rest = |role: &Value| {
            let mut rest = checked(role);
            if let Some(role) = rest.as_object_mut() {
                role.remove("rules");
            }
            rest
        };
        aggregates(role) && self.attributes.old.is_some_and(|old| rest(old) == rest(role))
    }

    fn has_verb(&self, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let target = Resource { group: RBAC, version: "*", resource, namespace, name, ..Resource::default() };
        let attributes = auth::Attributes { user: self.user, verb, target: Target::Resource(target) };
        self.server.authorization.authorize(&attributes).is_allowed()
    }

    fn must_hold(&self, wanted: &[PolicyRule]) -> Result<(), Status> {
        let (held, errors) = self.server.authorization.rules_for(self.user, self.attributes.namespace);
        let missing = uncovered(&held, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let quoted: Vec<String> = self.user.groups.iter().map(|group| format!("{group:?}")).collect();
        let mut why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.name,
            quoted.join(" "),
            missing.iter().map(shown).collect::<Vec<_>>().join("\n")
        );
        if !errors.is_empty() {
            why.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        let resource = GroupResource::new(RBAC, self.attributes.kind.plural.clone());
        Err(Status::forbidden(&resource, self.attributes.name, why))
    }
}

fn aggregates(role: &Value) -> bool {
    role.get("aggregationRule").is_some_and(|rule| !rule.is_null())
}

/// An object without the metadata that grants nothing.
fn checked(object: &Value) -> Value {
    let mut checked = object.clone();
    if let Some(metadata) = checked.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| !UNCHECKED.contains(&field.as_str()));
    }
    checked
}

fn rules(role: &Value) -> Vec<PolicyRule> {
    let rules = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() },
    ]
}

/// A rule as upstream prints one.
fn shown(rule: &PolicyRule) -> String {
    let lists = [
        ("NonResourceURLs", &rule.non_resource_urls),
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let filled = lists.iter().filter(|(_, list)| !list.is_empty());
    let parts: Vec<String> = filled.map(|(name, list)| format!("{name}:{list:?}")).collect();
    format!("{{{}}}", parts.join(", "))
}
