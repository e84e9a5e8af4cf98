//! Users and the groups that the plane itself gives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Group of everyone who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everyone who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Name of a user who did not prove who they are.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of every node's kubelet.
pub const NODES: &str = "system:nodes";
/// What a node's user name begins with.
pub const NODE_PREFIX: &str = "system:node:";
/// What a service account's user name begins with.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// A user, as `authentication.k8s.io/v1` shows one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserInfo {
    /// The name that bindings and logs speak of.
    #[serde(rename = "username")]
    pub name: String,
    /// Distinguishes users who had the same name at different times; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Groups that the user belongs to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whatever else the authenticator said.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// The user of a request without credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The same user as a member of `system:authenticated`, as every authenticator's result is.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether the user belongs to the group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|has| has == group)
    }

    /// The node that this user speaks for, if it is a kubelet: named `system:node:NAME` in group `system:nodes`.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|_| self.is_in(NODES))
    }
}
