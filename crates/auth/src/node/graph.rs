use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use apimachinery::excerpt::Excerpt;
use serde_json::Value;

use super::{Referenced, Related};

/// Which pods are bound to which node, and what they refer to. Fed with pods as they come and go; copy-free reads.
///
/// There is one of these for each pod of the cluster: nothing is kept twice, and nobody counts. A node's pods are few, so
/// whether one of them refers to an object is seen by looking at them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pods: HashSet<Pod>,
    nodes: HashMap<Arc<str>, Vec<Pod>>,
}

/// What of a pod a [`Graph`] looks at, its name and namespace included.
pub fn excerpt() -> &'static Excerpt {
    static EXCERPT: LazyLock<Excerpt> = LazyLock::new(|| {
        let fixed: [&[&str]; 7] = [
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "annotations", MIRROR],
            &["spec", "nodeName"],
            &["spec", "serviceAccountName"],
            &["status", "resourceClaimStatuses"],
            &["status", "extendedResourceClaimStatus", "resourceClaimName"],
        ];
        let lists = ["imagePullSecrets", "resourceClaims", "volumes"].map(|list| vec!["spec", list]);
        let environments = CONTAINERS
            .iter()
            .flat_map(|list| [vec!["spec", list, "envFrom"], vec!["spec", list, "env", "valueFrom"]]);
        Excerpt::of(fixed.into_iter().map(<[_]>::to_vec).chain(lists).chain(environments))
    });
    &EXCERPT
}

const MIRROR: &str = "kubernetes.io/config.mirror";
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// An object that a pod refers to, in the pod's own namespace: its kind and its name.
pub type Reference = (Referenced, Box<str>);

/// A pod that is bound to a node; the same as another of its name.
#[derive(Clone, Debug)]
struct Pod(Arc<Bound>);

#[derive(Debug)]
struct Bound {
    /// `namespace/name`.
    key: Box<str>,
    node: Arc<str>,
    references: Box<[Reference]>,
}

impl Pod {
    fn namespace(&self) -> &str {
        self.0.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

impl Borrow<str> for Pod {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl Hash for Pod {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for Pod {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Pod {}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Graph {
    /// Takes in a pod as it is now, or the [`excerpt`] of it; it may have been known before.
    pub fn set(&mut self, namespace: &str, name: &str, pod: &Value) {
        self.remove(namespace, name);
        let Some(node) = text(pod, "/spec/nodeName").filter(|node| !node.is_empty()) else { return };
        // A mirror pod stands for a file on the node: whoever can write that file may not gain secrets by it.
        let annotations = pod.pointer("/metadata/annotations");
        let mirror = annotations.is_some_and(|annotations| annotations.get(MIRROR).is_some());
        let references =
            if mirror { Box::default() } else { references(pod).into_iter().collect::<Box<[Reference]>>() };
        let node = self.nodes.get_key_value(node).map_or_else(|| Arc::from(node), |(node, _)| node.clone());
        let pod = Pod(Arc::new(Bound { key: key(namespace, name).into(), node, references }));
        self.nodes.entry(pod.0.node.clone()).or_default().push(pod.clone());
        self.pods.insert(pod);
    }

    /// Forgets a pod.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(pod) = self.pods.take(key(namespace, name).as_str()) else { return };
        let Some(pods) = self.nodes.get_mut(&pod.0.node) else { return };
        pods.retain(|other| *other != pod);
        if pods.is_empty() {
            self.nodes.remove(&pod.0.node);
        }
    }
}

impl Related for Graph {
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        self.pods.get(key(namespace, pod).as_str()).is_some_and(|pod| *pod.0.node == *node)
    }

    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
        let pods = self.nodes.get(node).into_iter().flatten().filter(|pod| pod.namespace() == namespace);
        pods.flat_map(|pod| &*pod.0.references).any(|(of, named)| *of == kind && **named == *name)
    }
}

/// Where a pod's spec names other objects, seen from one element of the list that the first column gives.
const PLACES: &[(&str, &str, Referenced)] = &[
    ("imagePullSecrets", "/name", Referenced::Secret),
    ("volumes", "/secret/secretName", Referenced::Secret),
    ("volumes", "/azureFile/secretName", Referenced::Secret),
    ("volumes", "/cephfs/secretRef/name", Referenced::Secret),
    ("volumes", "/cinder/secretRef/name", Referenced::Secret),
    ("volumes", "/flexVolume/secretRef/name", Referenced::Secret),
    ("volumes", "/iscsi/secretRef/name", Referenced::Secret),
    ("volumes", "/rbd/secretRef/name", Referenced::Secret),
    ("volumes", "/scaleIO/secretRef/name", Referenced::Secret),
    ("volumes", "/storageos/secretRef/name", Referenced::Secret),
    ("volumes", "/csi/nodePublishSecretRef/name", Referenced::Secret),
    ("volumes", "/configMap/name", Referenced::ConfigMap),
    ("volumes", "/persistentVolumeClaim/claimName", Referenced::PersistentVolumeClaim),
    ("resourceClaims", "/resourceClaimName", Referenced::ResourceClaim),
];

/// The objects that a pod refers to.
pub fn references(pod: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |kind, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            found.insert((kind, name.into()));
        }
    };
    let Some(spec) = pod.get("spec") else { return found };
    add(Referenced::ServiceAccount, text(spec, "/serviceAccountName"));
    for volume in
        elements(spec, "volumes").filter(|volume| volume.get("ephemeral").is_some_and(Value::is_object))
    {
        // The claim that is made for it.
        let pod = text(pod, "/metadata/name").unwrap_or_default();
        let own = text(volume, "/name").map(|volume| format!("{pod}-{volume}"));
        add(Referenced::PersistentVolumeClaim, own.as_deref());
    }
    for (list, place, kind) in PLACES {
        for element in elements(spec, list) {
            add(*kind, text(element, place));
        }
    }
    let status = pod.get("status").unwrap_or(&Value::Null);
    for made in elements(status, "resourceClaimStatuses") {
        add(Referenced::ResourceClaim, text(made, "/resourceClaimName"));
    }
    add(Referenced::ResourceClaim, text(status, "/extendedResourceClaimStatus/resourceClaimName"));
    for volume in elements(spec, "volumes") {
        for source in volume.get("projected").into_iter().flat_map(|projected| elements(projected, "sources"))
        {
            add(Referenced::Secret, text(source, "/secret/name"));
            add(Referenced::ConfigMap, text(source, "/configMap/name"));
        }
    }
    for list in CONTAINERS {
        for container in elements(spec, list) {
            for source in elements(container, "envFrom") {
                add(Referenced::Secret, text(source, "/secretRef/name"));
                add(Referenced::ConfigMap, text(source, "/configMapRef/name"));
            }
            for variable in elements(container, "env") {
                add(Referenced::Secret, text(variable, "/valueFrom/secretKeyRef/name"));
                add(Referenced::ConfigMap, text(variable, "/valueFrom/configMapKeyRef/name"));
            }
        }
    }
    found
}

fn elements<'a>(of: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    of.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(of: &'a Value, place: &str) -> Option<&'a str> {
    of.pointer(place).and_then(Value::as_str)
}
