//! The edge authorizer: a gateway may read the Secrets that Ingresses name for TLS, one by one, and no others. Everything
//! else that it may do its role says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::{Attributes, Authorizer, Decision, UserInfo};

/// The group of all edges.
pub(crate) const EDGES: &str = "system:monoplane:edges";

/// Whether this is an edge.
pub fn is_edge(user: &UserInfo) -> bool {
    user.is_in(EDGES)
}

/// What the authorizer asks of whoever knows the Ingresses.
pub trait Encrypted: Send + Sync {
    /// Whether an Ingress of the namespace names the Secret for TLS.
    fn is_named(&self, namespace: &str, secret: &str) -> bool;
}

impl<E: Encrypted + ?Sized> Encrypted for Arc<E> {
    fn is_named(&self, namespace: &str, secret: &str) -> bool {
        (**self).is_named(namespace, secret)
    }
}

/// Which Ingress names which Secrets. Fed with Ingresses as they come and go.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// By the Ingress's namespace and name.
    named: HashMap<(String, String), HashSet<String>>,
    /// How many Ingresses name a Secret, by its namespace and name.
    counts: HashMap<(String, String), usize>,
}

impl Secrets {
    /// Takes in an Ingress as it is now; it may have been known before.
    pub fn set(&mut self, namespace: &str, name: &str, ingress: &Value) {
        self.remove(namespace, name);
        let entries = ingress.pointer("/spec/tls").and_then(Value::as_array).into_iter().flatten();
        let secrets = entries.filter_map(|tls| tls.get("secretName")?.as_str());
        let named: HashSet<String> = secrets.filter(|secret| !secret.is_empty()).map(str::to_owned).collect();
        if named.is_empty() {
            return;
        }
        for secret in &named {
            *self.counts.entry((namespace.to_owned(), secret.clone())).or_default() += 1;
        }
        self.named.insert((namespace.to_owned(), name.to_owned()), named);
    }

    /// Forgets an Ingress.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(named) = self.named.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for secret in named {
            let key = (namespace.to_owned(), secret);
            if let Some(count) = self.counts.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&key);
                }
            }
        }
    }
}

impl Encrypted for Secrets {
    fn is_named(&self, namespace: &str, secret: &str) -> bool {
        self.counts.contains_key(&(namespace.to_owned(), secret.to_owned()))
    }
}

/// Authorizes edges; has no opinion on anyone else.
#[derive(Debug)]
pub struct EdgeAuthorizer<E> {
    encrypted: E,
}

impl<E: Encrypted> EdgeAuthorizer<E> {
    /// An authorizer over what `encrypted` knows.
    pub fn new(encrypted: E) -> Self {
        Self { encrypted }
    }
}

impl<E: Encrypted> Authorizer for EdgeAuthorizer<E> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(target) = attributes.resource().filter(|_| is_edge(attributes.user)) else {
            return Decision::nothing();
        };
        let reads = matches!(attributes.verb, "get" | "list" | "watch") && target.subresource.is_empty();
        if !reads || (target.group, target.resource) != ("", "secrets") {
            return Decision::nothing();
        }
        if !target.name.is_empty() && self.encrypted.is_named(target.namespace, target.name) {
            return Decision::Allow(Arc::from(""));
        }
        Decision::NoOpinion("no Ingress names this Secret for TLS".to_owned())
    }
}
