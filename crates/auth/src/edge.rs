//! The edge authorizer: an edge may read the Secrets that Ingresses and Monoplane's own objects name, one by one, and no
//! others. Everything else that it may do its role says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::{Attributes, Authorizer, Decision, UserInfo};

/// The group of all edges.
pub(crate) const EDGES: &str = "system:monoplane:edges";

/// The resources (group, version, plural) whose objects name Secrets for the edge: in every field `secretName` of their
/// `spec`, whatever its depth, stands the name of a Secret of the object's own namespace.
pub const NAMING: [(&str, &str, &str); 3] = [
    ("networking.k8s.io", "v1", "ingresses"),
    ("monoplane.dev", "v1alpha1", "components"),
    ("monoplane.dev", "v1alpha1", "keyvaluestores"),
];

/// Whether this is an edge.
pub fn is_edge(user: &UserInfo) -> bool {
    user.is_in(EDGES)
}

/// What the authorizer asks of whoever knows the objects of [`NAMING`].
pub trait Named: Send + Sync {
    /// Whether an object of the namespace names the Secret.
    fn is_named(&self, namespace: &str, secret: &str) -> bool;
}

impl<N: Named + ?Sized> Named for Arc<N> {
    fn is_named(&self, namespace: &str, secret: &str) -> bool {
        (**self).is_named(namespace, secret)
    }
}

/// An object that names Secrets: its plural, namespace and name.
type Namer = (String, String, String);

/// Which objects name which Secrets. Fed with the objects of [`NAMING`] as they come and go.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    named: HashMap<Namer, HashSet<String>>,
    /// How many objects name a Secret, by its namespace and name.
    counts: HashMap<(String, String), usize>,
}

impl Secrets {
    /// Takes in an object as it is now; it may have been known before.
    pub fn set(&mut self, plural: &str, namespace: &str, name: &str, object: &Value) {
        self.remove(plural, namespace, name);
        let mut named = HashSet::new();
        if let Some(spec) = object.get("spec") {
            collect(spec, &mut named);
        }
        if named.is_empty() {
            return;
        }
        for secret in &named {
            *self.counts.entry((namespace.to_owned(), secret.clone())).or_default() += 1;
        }
        self.named.insert(namer(plural, namespace, name), named);
    }

    /// Forgets an object.
    pub fn remove(&mut self, plural: &str, namespace: &str, name: &str) {
        if let Some(named) = self.named.remove(&namer(plural, namespace, name)) {
            self.uncount(namespace, named);
        }
    }

    /// Forgets all objects of a resource.
    pub fn clear(&mut self, plural: &str) {
        for ((_, namespace, _), named) in
            self.named.extract_if(|namer, _| namer.0 == plural).collect::<Vec<_>>()
        {
            self.uncount(&namespace, named);
        }
    }

    fn uncount(&mut self, namespace: &str, named: HashSet<String>) {
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

fn namer(plural: &str, namespace: &str, name: &str) -> Namer {
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

/// Finds every `secretName`. The depth of `spec` is bounded by the decoder's.
fn collect(value: &Value, named: &mut HashSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match value.as_str().filter(|_| field == "secretName") {
                    Some("") => {}
                    Some(secret) => drop(named.insert(secret.to_owned())),
                    None => collect(value, named),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, named)),
        _ => {}
    }
}

impl Named for Secrets {
    fn is_named(&self, namespace: &str, secret: &str) -> bool {
        self.counts.contains_key(&(namespace.to_owned(), secret.to_owned()))
    }
}

/// Authorizes edges; has no opinion on anyone else.
#[derive(Debug)]
pub struct EdgeAuthorizer<N> {
    named: N,
}

impl<N: Named> EdgeAuthorizer<N> {
    /// An authorizer over what `named` knows.
    pub fn new(named: N) -> Self {
        Self { named }
    }
}

impl<N: Named> Authorizer for EdgeAuthorizer<N> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(target) = attributes.resource().filter(|_| is_edge(attributes.user)) else {
            return Decision::nothing();
        };
        let reads = matches!(attributes.verb, "get" | "list" | "watch") && target.subresource.is_empty();
        if !reads || (target.group, target.resource) != ("", "secrets") {
            return Decision::nothing();
        }
        if !target.name.is_empty() && self.named.is_named(target.namespace, target.name) {
            return Decision::Allow(Arc::from(""));
        }
        Decision::NoOpinion("no Ingress, component or store names this Secret".to_owned())
    }
}
