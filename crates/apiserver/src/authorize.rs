//! The authorizers in force, and what keeps them in step with the stored roles, bindings, pods and objects that name Secrets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use api::k8s::api::core::v1::PersistentVolume;
use apimachinery::meta;
use arc_swap::ArcSwap;
use auth::bootstrap::BootstrapAuthorizer;
use auth::edge::{EdgeAuthorizer, NAMING, Named, Secrets};
use auth::node::{Graph, NodeAuthorizer, Referenced, Related};
use auth::rbac::{Binding, Objects, Policy, Role};
use auth::{Attributes, Authorizer, Decision, UserInfo};
use clock::{Clock, Tasks};
use futures::FutureExt;
use registry::{Kind, ListOptions, Object, Part, Registry};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::follow::{self, Follower};

/// The authorizers: what the server needs to install itself, kubelets, edges, then roles.
pub(crate) struct Authorization {
    bootstrap: BootstrapAuthorizer,
    node: NodeAuthorizer<Arc<SharedGraph>>,
    pods: Arc<SharedGraph>,
    edge: EdgeAuthorizer<Arc<SharedSecrets>>,
    secrets: Arc<SharedSecrets>,
    policy: ArcSwap<Policy>,
    stored: Mutex<Stored>,
    /// One bit for each followed kind that has been read once.
    synced: watch::Sender<u8>,
}

#[derive(Default)]
struct SharedGraph(RwLock<Graph>);

impl Related for SharedGraph {
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).pod_is_on(node, namespace, pod)
    }

    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_referenced(node, kind, namespace, name)
    }
}

#[derive(Default)]
struct SharedSecrets(RwLock<Secrets>);

impl Named for SharedSecrets {
    fn is_named(&self, namespace: &str, secret: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_named(namespace, secret)
    }
}

/// Namespace and name.
type Key = (String, String);

#[derive(Default)]
struct Stored {
    roles: HashMap<Key, Role>,
    cluster_roles: HashMap<Key, Role>,
    role_bindings: HashMap<Key, Binding>,
    cluster_role_bindings: HashMap<Key, Binding>,
}

impl Default for Authorization {
    fn default() -> Self {
        let pods = Arc::new(SharedGraph::default());
        let secrets = Arc::new(SharedSecrets::default());
        Self {
            bootstrap: BootstrapAuthorizer::default(),
            node: NodeAuthorizer::new(pods.clone()),
            pods,
            edge: EdgeAuthorizer::new(secrets.clone()),
            secrets,
            policy: ArcSwap::default(),
            stored: Mutex::default(),
            synced: watch::Sender::new(0),
        }
    }
}

impl Authorizer for Authorization {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let policy = self.policy.load();
        let chain: &[&dyn Authorizer] = &[&self.bootstrap, &self.node, &self.edge, &**policy];
        chain.authorize(attributes)
    }
}

impl Authorization {
    /// Decides on a request. A node or an edge that is refused is judged once more by what is stored now: it may have seen a
    /// pod or an object that names a Secret by its own watch before it was seen here.
    pub(crate) async fn decide(&self, attributes: &Attributes<'_>, registry: &Registry) -> Decision {
        let decision = self.authorize(attributes);
        match decision.is_allowed() {
            true => decision,
            false => self.decide_by_stored(attributes, registry).boxed().await.unwrap_or(decision),
        }
    }

    async fn decide_by_stored(&self, attributes: &Attributes<'_>, registry: &Registry) -> Option<Decision> {
        let target = attributes.resource()?;
        if let Some(node) = attributes.user.node().filter(|node| !node.is_empty())
            && (target.group, target.resource) == ("", "persistentvolumes")
        {
            return self.decide_on_volume(node, target, attributes.verb, registry).await;
        }
        let namespace = target.namespace;
        if namespace.is_empty() {
            return None;
        }
        let list = async |(group, version, plural), field_selector| {
            let kind = registry.kinds().lookup(group, version, plural)?.clone();
            let options = ListOptions { field_selector, ..ListOptions::default() };
            registry.list(&kind, namespace, &options).await.ok()
        };
        let decision = if let Some(node) = attributes.user.node().filter(|node| !node.is_empty()) {
            let pods = list(("", "v1", "pods"), format!("spec.nodeName={node}")).await?;
            self.node.over(graph_of(pods.objects())).authorize(attributes)
        } else if auth::edge::is_edge(attributes.user) {
            if (target.group, target.resource) != ("", "secrets") {
                return None;
            }
            let mut secrets = Secrets::default();
            for resource in NAMING {
                let Some(objects) = list(resource, String::new()).await else { continue };
                name(&mut secrets, resource.2, objects.objects());
            }
            EdgeAuthorizer::new(secrets).authorize(attributes)
        } else {
            return None;
        };
        decision.is_allowed().then_some(decision)
    }

    /// A node reads a volume whose claim one of its pods uses, or that it keeps itself; the latter it may hold and let go of.
    async fn decide_on_volume(
        &self,
        node: &str,
        target: &auth::Resource<'_>,
        verb: &str,
        registry: &Registry,
    ) -> Option<Decision> {
        if target.name.is_empty() || !target.subresource.is_empty() || !matches!(verb, "get" | "patch") {
            return None;
        }
        let kind = |plural| registry.kinds().lookup("", "v1", plural).cloned();
        let found = registry.get(&kind("persistentvolumes")?, "", target.name, Part::Whole).await.ok()?;
        let volume: PersistentVolume = serde_json::from_value(found.tree()).ok()?;
        let keeps = api::local_volumes::node(&volume) == Some(node);
        let uses = async || {
            let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
            let (namespace, name) = (claim.namespace.as_deref()?, claim.name.as_deref()?);
            let field_selector = format!("spec.nodeName={node}");
            let options = ListOptions { field_selector, ..ListOptions::default() };
            let pods = registry.list(&kind("pods")?, namespace, &options).await.ok()?;
            let claims = Referenced::PersistentVolumeClaim;
            Some(graph_of(pods.objects()).is_referenced(node, claims, namespace, name))
        };
        let may = keeps || (verb == "get" && uses().await.unwrap_or(false));
        may.then(|| Decision::Allow(Arc::from("")))
    }

    /// The roles and bindings as last seen.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The rules that hold for a user in a namespace, and what was wrong while they were collected. A kubelet's cannot
    /// be listed whole.
    pub(crate) fn rules_for(
        &self,
        user: &UserInfo,
        namespace: &str,
    ) -> (Vec<auth::rbac::PolicyRule>, Vec<String>) {
        let (mut rules, mut errors) = self.policy.load().rules_for(user, namespace);
        if user.is_in(auth::bootstrap::BOOTSTRAP_GROUP) {
            rules.extend_from_slice(self.bootstrap.rules());
        }
        if user.node().is_some() {
            errors.insert(0, "node authorizer does not support user rule resolution".to_owned());
        }
        (rules, errors)
    }

    /// Returns when roles, bindings and pods have all been read once. Who names Secrets is asked anew when an edge is refused.
    pub(crate) async fn synced(&self) {
        // An error would mean that the sender is gone, and it is borrowed here.
        let _ = self.synced.subscribe().wait_for(|bits| *bits == ALL).await;
    }

    /// Whether a role or binding of that namespace and name is known.
    pub(crate) fn has(&self, plural: &str, (namespace, name): (&str, &str)) -> bool {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), name.to_owned());
        match plural {
            "roles" => stored.roles.contains_key(&key),
            "clusterroles" => stored.cluster_roles.contains_key(&key),
            "rolebindings" => stored.role_bindings.contains_key(&key),
            _ => stored.cluster_role_bindings.contains_key(&key),
        }
    }

    /// Whether they have.
    pub(crate) fn is_synced(&self) -> bool {
        *self.synced.borrow() == ALL
    }

    /// Follows the registry until the tasks are stopped.
    pub(crate) fn follow(self: &Arc<Self>, registry: &Arc<Registry>, clock: &Arc<dyn Clock>, tasks: &Tasks) {
        for (group, plural, _) in FOLLOWED {
            follow::start(self.clone(), (group, "v1", plural), registry, clock, tasks);
        }
        for resource in NAMING {
            follow::start(self.clone(), resource, registry, clock, tasks);
        }
    }

    fn change(&self, kind: &Kind, object: &Object, present: bool) {
        if kind.plural == "pods" {
            let mut graph = self.pods.0.write().unwrap_or_else(PoisonError::into_inner);
            let pod = object.excerpt(auth::node::excerpt());
            let (namespace, name) = (meta::namespace(&pod), meta::name(&pod));
            if present {
                graph.set(namespace, name, &pod)
            } else {
                graph.remove(namespace, name)
            }
            return;
        }
        if names_secrets(kind) {
            let mut secrets = self.secrets.0.write().unwrap_or_else(PoisonError::into_inner);
            let (namespace, name) = object.names();
            if present {
                secrets.set(&kind.plural, &namespace, &name, &object.tree())
            } else {
                secrets.remove(&kind.plural, &namespace, &name)
            }
            return;
        }
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.change(kind, object, present);
        self.policy.store(Arc::new(stored.policy()));
    }

    fn change_all(&self, kind: &Kind, objects: Vec<Object>) {
        if kind.plural == "pods" {
            let graph = graph_of(objects);
            *self.pods.0.write().unwrap_or_else(PoisonError::into_inner) = graph;
            return;
        }
        if names_secrets(kind) {
            let mut secrets = self.secrets.0.write().unwrap_or_else(PoisonError::into_inner);
            secrets.clear(&kind.plural);
            name(&mut secrets, &kind.plural, objects);
            return;
        }
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.clear(kind);
        for object in objects {
            stored.change(kind, &object, true);
        }
        self.policy.store(Arc::new(stored.policy()));
    }
}

impl Follower for Authorization {
    fn replace(&self, kind: &Kind, objects: Vec<Object>) {
        self.change_all(kind, objects);
        let mut followed = FOLLOWED.into_iter();
        let bit = followed.find_map(|(group, plural, bit)| {
            (group == kind.group.as_str() && plural == kind.plural.as_str()).then_some(bit)
        });
        self.synced.send_modify(|bits| *bits |= bit.unwrap_or_default());
    }

    fn set(&self, kind: &Kind, object: &Object) {
        self.change(kind, object, true);
    }

    fn remove(&self, kind: &Kind, object: &Object) {
        self.change(kind, object, false);
    }
}

fn graph_of(pods: impl IntoIterator<Item = Object>) -> Graph {
    let mut graph = Graph::default();
    for pod in pods {
        let pod = pod.excerpt(auth::node::excerpt());
        graph.set(meta::namespace(&pod), meta::name(&pod), &pod);
    }
    graph
}

/// Whether objects of the kind name Secrets for edges.
fn names_secrets(kind: &Kind) -> bool {
    NAMING.iter().any(|(group, _, plural)| *group == kind.group && *plural == kind.plural)
}

fn name(secrets: &mut Secrets, plural: &str, objects: impl IntoIterator<Item = Object>) {
    for object in objects {
        let (namespace, name) = object.names();
        secrets.set(plural, &namespace, &name, &object.tree());
    }
}

/// Group, plural, and the bit that says that it has been read.
type Followed = (&'static str, &'static str, u8);
const RBAC: &str = "rbac.authorization.k8s.io";
const FOLLOWED: [Followed; 5] = [
    (RBAC, "roles", 1),
    (RBAC, "clusterroles", 2),
    (RBAC, "rolebindings", 4),
    (RBAC, "clusterrolebindings", 8),
    ("", "pods", 16),
];
const ALL: u8 = 31;

impl Stored {
    fn change(&mut self, kind: &Kind, object: &Object, present: bool) {
        match kind.plural.as_str() {
            "roles" => apply(&mut self.roles, object, present),
            "clusterroles" => apply(&mut self.cluster_roles, object, present),
            "rolebindings" => apply(&mut self.role_bindings, object, present),
            _ => apply(&mut self.cluster_role_bindings, object, present),
        }
    }

    fn clear(&mut self, kind: &Kind) {
        match kind.plural.as_str() {
            "roles" => self.roles.clear(),
            "clusterroles" => self.cluster_roles.clear(),
            "rolebindings" => self.role_bindings.clear(),
            _ => self.cluster_role_bindings.clear(),
        }
    }

    fn policy(&self) -> Policy {
        Policy::new(Objects {
            roles: self.roles.values().cloned().collect(),
            cluster_roles: self.cluster_roles.values().cloned().collect(),
            role_bindings: self.role_bindings.values().cloned().collect(),
            cluster_role_bindings: self.cluster_role_bindings.values().cloned().collect(),
        })
    }
}

/// Takes in an object as it is now. One that cannot be read grants nothing.
fn apply<T: DeserializeOwned>(map: &mut HashMap<Key, T>, object: &Object, present: bool) {
    let key = object.names();
    match serde_json::from_slice(object.body()) {
        Ok(read) if present => {
            map.insert(key, read);
        }
        _ => {
            map.remove(&key);
        }
    }
}
