use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use apimachinery::excerpt::Excerpt;
use serde_json::Value;

use super::{Referenced, Related};

/// Which pods are bound to which node, and what they refer to. Fed with pods as they come and go; copy-free reads.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pods: HashMap<(String, String), Bound>,
    /// How many of a node's pods refer to the object.
    references: HashMap<(String, Reference), usize>,
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

/// An object that a pod refers to: its kind, its namespace and its name.
pub type Reference = (Referenced, String, String);

#[derive(Clone, Debug)]
struct Bound {
    node: String,
    references: HashSet<Reference>,
}

impl Graph {
    /// Takes in a pod as it is now, or the [`excerpt`] of it; it may have been known before.
    pub fn set(&mut self, namespace: &str, name: &str, pod: &Value) {
        self.remove(namespace, name);
        let Some(node) = text(pod, "/spec/nodeName").filter(|node| !node.is_empty()) else { return };
        // A mirror pod stands for a file on the node: whoever can write that file may not gain secrets by it.
        let annotations = pod.pointer("/metadata/annotations");
        let mirror = annotations.is_some_and(|annotations| annotations.get(MIRROR).is_some());
        let references = if mirror { HashSet::new() } else { references(namespace, pod) };
        for reference in &references {
            *self.references.entry((node.to_owned(), reference.clone())).or_default() += 1;
        }
        let bound = Bound { node: node.to_owned(), references };
        self.pods.insert((namespace.to_owned(), name.to_owned()), bound);
    }

    /// Forgets a pod.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(bound) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for reference in bound.references {
            let key = (bound.node.clone(), reference);
            if let Some(count) = self.references.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.references.remove(&key);
                }
            }
        }
    }
}

impl Related for Graph {
    fn pod_is_on(&self, node: &str, namespace: &str, pod: &str) -> bool {
        self.pods.get(&(namespace.to_owned(), pod.to_owned())).is_some_and(|bound| bound.node == node)
    }

    fn is_referenced(&self, node: &str, kind: Referenced, namespace: &str, name: &str) -> bool {
        self.references.contains_key(&(node.to_owned(), (kind, namespace.to_owned(), name.to_owned())))
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
pub fn references(namespace: &str, pod: &Value) -> HashSet<Reference> {
    let mut found = HashSet::new();
    let mut add = |kind, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            found.insert((kind, namespace.to_owned(), name.to_owned()));
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
