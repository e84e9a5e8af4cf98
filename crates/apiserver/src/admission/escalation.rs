//! Nobody grants what they do not have: whoever writes a role must hold all of its rules, and whoever binds one all of
//! the role's, unless they may `escalate` or `bind` it.

use std::sync::Arc;

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::rbac::{PolicyRule, uncovered};
use auth::{Attributes, Authorizer, Resource, Target, UserInfo};
use registry::{Admit, Operation};
use serde_json::Value;

use super::Admission;
use crate::ApiServer;

const RBAC: &str = "rbac.authorization.k8s.io";

/// Adds the check behind another admission.
pub struct Escalation(pub Arc<dyn Admission>);

impl Admission for Escalation {
    fn of_request(&self, user: &Arc<UserInfo>, server: &Arc<ApiServer>) -> Arc<dyn Admit> {
        let inner = self.0.of_request(user, server);
        Arc::new(OfRequest { inner, user: user.clone(), server: server.clone() })
    }
}

struct OfRequest {
    inner: Arc<dyn Admit>,
    user: Arc<UserInfo>,
    server: Arc<ApiServer>,
}

#[async_trait]
impl Admit for OfRequest {
    async fn mutate(&self, attributes: registry::Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        self.inner.mutate(attributes, object).await
    }

    async fn validate(
        &self,
        attributes: registry::Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        self.inner.validate(attributes, object).await?;
        let Some(object) = object.filter(|_| attributes.kind.group == RBAC) else { return Ok(()) };
        if attributes.operation == Operation::Delete {
            return Ok(());
        }
        match attributes.kind.plural.as_str() {
            "roles" | "clusterroles" => self.may_write_role(&attributes, object),
            "rolebindings" | "clusterrolebindings" => self.may_bind(&attributes, object),
            _ => Ok(()),
        }
    }
}

impl OfRequest {
    fn may_write_role(&self, attributes: &registry::Attributes<'_>, role: &Value) -> Result<(), Status> {
        let unchanged = |field: &str| attributes.old.is_some_and(|old| old.get(field) == role.get(field));
        if unchanged("rules") && unchanged("aggregationRule") {
            return Ok(());
        }
        let plural = attributes.kind.plural.as_str();
        if self.has_verb("escalate", plural, attributes.namespace, attributes.name) {
            return Ok(());
        }
        let mut wanted = rules(role);
        if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) && !unchanged("aggregationRule") {
            // Whatever the controller will put into it: nobody less than all-powerful can know.
            wanted.extend(everything());
        }
        self.must_hold(attributes, &wanted)
    }

    fn may_bind(&self, attributes: &registry::Attributes<'_>, binding: &Value) -> Result<(), Status> {
        let unchanged = |field: &str| attributes.old.is_some_and(|old| old.get(field) == binding.get(field));
        if unchanged("roleRef") && unchanged("subjects") {
            return Ok(());
        }
        let text = |pointer: &str| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, role) = (text("/roleRef/kind"), text("/roleRef/name"));
        let (plural, of_namespace) = match kind {
            "Role" => ("roles", attributes.namespace),
            _ => ("clusterroles", ""),
        };
        if self.has_verb("bind", plural, attributes.namespace, role) {
            return Ok(());
        }
        let policy = self.server.authorization.policy();
        let Some(wanted) = policy.role(kind, of_namespace, role) else {
            return Err(Status::not_found(&GroupResource::new(RBAC, plural.to_owned()), role));
        };
        self.must_hold(attributes, wanted)
    }

    fn has_verb(&self, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let target = Resource { group: RBAC, version: "*", resource, namespace, name, ..Resource::default() };
        let attributes = Attributes { user: &self.user, verb, target: Target::Resource(target) };
        self.server.authorization.authorize(&attributes).is_allowed()
    }

    fn must_hold(&self, attributes: &registry::Attributes<'_>, wanted: &[PolicyRule]) -> Result<(), Status> {
        let (held, errors) = self.server.authorization.rules_for(&self.user, attributes.namespace);
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
        let resource = GroupResource::new(RBAC, attributes.kind.plural.clone());
        Err(Status::forbidden(&resource, attributes.name, why))
    }
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
