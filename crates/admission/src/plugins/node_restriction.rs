//! A kubelet writes about its own node, its own lease and the pods bound to it, and nothing that would draw pods to it.

use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::node::Referenced;
use serde_json::Value;

use crate::tree::{at, entries, is_mirror, items, refers_to, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const LEASES: &str = "coordination.k8s.io";
const LEASE_NAMESPACE: &str = "kube-node-lease";
const NODES: GroupResource = GroupResource::of("", "nodes");
const PODS: GroupResource = GroupResource::of("", "pods");
/// What a mirror pod may not refer to, and its name in refusals.
const REFUSED: [(Referenced, &str); 5] = [
    (Referenced::ServiceAccount, "a service account"),
    (Referenced::Secret, "secrets"),
    (Referenced::ConfigMap, "configmaps"),
    (Referenced::PersistentVolumeClaim, "persistentvolumeclaims"),
    (Referenced::ResourceClaim, "resourceclaims"),
];
/// Labels of this domain say what may run on a node: never the node's own to write.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Labels of these domains a kubelet may write only if they are listed or of a prefix of its own.
const GUARDED: [&str; 2] = ["kubernetes.io", "k8s.io"];
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.user.is_in(auth::user::NODES) && attributes.user.name.starts_with(auth::user::NODE_PREFIX)
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let Some(node) = attributes.user.node().filter(|node| !node.is_empty()) else {
            return Err(attributes
                .forbid(format!("could not determine node identity from user {:?}", attributes.user.name)));
        };
        if attributes.is_any("", "pods") {
            return match attributes.subresource {
                "" => pod(attributes, node, object, lookup).await,
                "status" => pod_status(attributes, node, object),
                "eviction" => pod_eviction(attributes, node, lookup).await,
                other => Err(attributes.forbid(format!(
                    "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
                ))),
            };
        }
        if attributes.is_any("", "nodes") {
            return own_node(attributes, node, object);
        }
        if attributes.is(LEASES, "leases") {
            return lease(attributes, node, object);
        }
        if attributes.is("resource.k8s.io", "resourceslices") {
            return slice(attributes, node, object);
        }
        if attributes.is_any("", "persistentvolumes") {
            return volume(attributes, node, object);
        }
        if attributes.is_any("", "serviceaccounts") && attributes.subresource == "token" {
            return token(attributes, node, object.unwrap_or(&Value::Null), lookup).await;
        }
        Ok(())
    }
}

/// Of a volume a node changes nothing but whether it holds it.
fn volume(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let rest = |volume: &Value| {
        let mut rest = volume.clone();
        if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(held) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
                held.retain(|held| held != api::local_volumes::DATA);
            }
            metadata.retain(|name, value| {
                name != "finalizers" || value.as_array().is_some_and(|all| !all.is_empty())
            });
        }
        rest
    };
    match (attributes.operation, attributes.old, object) {
        (Operation::Update, Some(old), Some(new)) if rest(old) == rest(new) => Ok(()),
        _ => Err(attributes.forbid(format!(
            "node {node:?} can only hold and let go of persistentvolumes, by the finalizer {:?}",
            api::local_volumes::DATA
        ))),
    }
}

async fn pod(
    attributes: &Attributes<'_>,
    node: &str,
    object: Option<&Value>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    match (attributes.operation, object) {
        (Operation::Create, Some(pod)) => created_pod(attributes, node, pod, lookup).await,
        (Operation::Delete, _) => {
            let found;
            let pod = match attributes.old {
                Some(old) => old,
                None => {
                    let known = lookup.get(&PODS, attributes.namespace, attributes.name).await?;
                    found = known.ok_or_else(|| Status::not_found(&PODS, attributes.name))?;
                    &found
                }
            };
            if text(pod, &["spec", "nodeName"]) != node {
                return Err(attributes
                    .forbid(format!("node {node:?} can only delete pods with spec.nodeName set to itself")));
            }
            Ok(())
        }
        _ => Err(attributes.forbid(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            "UPDATE"
        ))),
    }
}

async fn created_pod(
    attributes: &Attributes<'_>,
    node: &str,
    pod: &Value,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    if !is_mirror(pod) {
        let why = format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        );
        return Err(attributes.forbid(why));
    }
    if text(pod, &["spec", "nodeName"]) != node {
        return Err(
            attributes.forbid(format!("node {node:?} can only create pods with spec.nodeName set to itself"))
        );
    }
    owned_by_node(attributes, node, pod, lookup).await?;
    // Whoever can write a file on the node may not gain secrets by it.
    for (kind, what) in REFUSED {
        if refers_to(pod, kind) {
            return Err(attributes.forbid(format!("node {node:?} can not create pods that reference {what}")));
        }
    }
    Ok(())
}

/// A mirror pod ends with its Node, as it is now: it has exactly that owner.
async fn owned_by_node(
    attributes: &Attributes<'_>,
    node: &str,
    pod: &Value,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let forbid = |why: &str| Err(attributes.forbid(format!("node {node:?} {why}")));
    let owner = match items(pod, &["metadata", "ownerReferences"]) {
        [owner] => owner,
        [] => return forbid("can only create pods with an owner reference set to itself"),
        _ => return forbid("can only create pods with a single owner reference set to itself"),
    };
    let is_true = |field: &str| owner.get(field).and_then(Value::as_bool) == Some(true);
    let names = |field: &str| text(owner, &[field]);
    if (names("apiVersion"), names("kind"), names("name")) != ("v1", "Node", node) {
        return forbid("can only create pods with an owner reference set to itself");
    }
    if !is_true("controller") {
        return forbid("can only create pods with a controller owner reference set to itself");
    }
    if is_true("blockOwnerDeletion") {
        return forbid("must not set blockOwnerDeletion on an owner reference");
    }
    let found = lookup.get(&NODES, "", node).await?.ok_or_else(|| Status::not_found(&NODES, node))?;
    let (own, given) = (apimachinery::meta::uid(&found), names("uid"));
    if own != given {
        return Err(attributes.forbid(format!("node {node} UID mismatch: expected {given} got {own}")));
    }
    Ok(())
}

async fn pod_eviction(attributes: &Attributes<'_>, node: &str, lookup: &dyn Lookup) -> Result<(), Status> {
    let pod = lookup.get(&PODS, attributes.namespace, attributes.name).await?;
    let pod = pod.ok_or_else(|| Status::not_found(&PODS, attributes.name))?;
    if text(&pod, &["spec", "nodeName"]) != node {
        let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
        return Err(attributes.forbid(why));
    }
    Ok(())
}

fn pod_status(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let pod = attributes.old.or(object).unwrap_or(&Value::Null);
    if text(pod, &["spec", "nodeName"]) != node {
        let why =
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself");
        return Err(attributes.forbid(why));
    }
    let labels = |pod: &Value| at(pod, &["metadata", "labels"]).cloned();
    if object.is_some_and(|object| labels(object) != labels(pod)) {
        return Err(attributes.forbid(format!("node {node:?} cannot update labels through pod status")));
    }
    // What these name the node may read.
    for (field, what) in [
        ("resourceClaimStatuses", "resource claim statuses"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
    ] {
        let of = |pod: &Value| at(pod, &["status", field]).cloned();
        if object.is_some_and(|object| of(object) != of(pod)) {
            return Err(attributes.forbid(format!("node {node:?} cannot update {what}")));
        }
    }
    Ok(())
}

fn own_node(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let name = match attributes.name {
        "" => object.map(|object| text(object, &["metadata", "name"])).unwrap_or_default(),
        name => name,
    };
    if name != node {
        return Err(attributes.forbid(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let Some(object) = object else { return Ok(()) };
    if let Some(old) = attributes.old {
        let taints = |node: &Value| at(node, &["spec", "taints"]).cloned();
        if taints(old) != taints(object) {
            return Err(attributes.forbid(format!("node {node:?} is not allowed to modify taints")));
        }
        // An owner that does not exist would make the garbage collector delete the node, and with it the taints.
        let owners = |node| items(node, &["metadata", "ownerReferences"]);
        if owners(old) != owners(object) {
            return Err(attributes.forbid(format!("node {node:?} is not allowed to modify ownerReferences")));
        }
    }
    let before = attributes.old.and_then(|old| at(old, &["metadata", "labels"]));
    let changed = entries(object, &["metadata", "labels"])
        .filter(|(key, value)| before.and_then(|labels| labels.get(*key)) != Some(*value))
        .map(|(key, _)| key);
    let removed =
        attributes.old.into_iter().flat_map(|old| entries(old, &["metadata", "labels"])).map(|(key, _)| key);
    let removed = removed.filter(|key| at(object, &["metadata", "labels", key]).is_none());
    let mut refused: Vec<&str> =
        changed.chain(removed).map(String::as_str).filter(|key| !is_own_label(key)).collect();
    refused.sort_unstable();
    if refused.is_empty() {
        return Ok(());
    }
    let verb = if attributes.operation == Operation::Create { "set" } else { "modify" };
    Err(attributes.forbid(format!("is not allowed to {verb} the following labels: {}", refused.join(", "))))
}

/// Whether a kubelet may write the label about its own node.
fn is_own_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if within(RESTRICTED) {
        return false;
    }
    !GUARDED.iter().any(|parent| within(parent))
        || OWN_LABELS.contains(&key)
        || OWN_PREFIXES.iter().any(|parent| within(parent))
}

/// A token that a kubelet asks for is for one of its own pods, and for somebody whom the pod names.
async fn token(
    attributes: &Attributes<'_>,
    node: &str,
    request: &Value,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let reference = |field: &str| text(request, &["spec", "boundObjectRef", field]);
    let (name, uid) = (reference("name"), reference("uid"));
    if reference("apiVersion") != "v1" || reference("kind") != "Pod" || name.is_empty() {
        return Err(attributes.forbid("node requested token not bound to a pod"));
    }
    if uid.is_empty() {
        return Err(attributes.forbid("node requested token with a pod binding without a uid"));
    }
    let found = lookup.get(&PODS, attributes.namespace, name).await?;
    let pod = found.ok_or_else(|| Status::not_found(&PODS, name))?;
    let own = apimachinery::meta::uid(&pod);
    if own != uid {
        return Err(attributes.forbid(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    if text(&pod, &["spec", "nodeName"]) != node {
        return Err(attributes.forbid("node requested token bound to a pod scheduled on a different node"));
    }
    let sources = items(&pod, &["spec", "volumes"]).iter();
    let sources = sources.flat_map(|volume| items(volume, &["projected", "sources"]));
    let mut named = sources
        .filter_map(|source| source.get("serviceAccountToken"))
        .map(|token| text(token, &["audience"]));
    // To name nobody means the API, in the pod's projection as in the request.
    let audience = match items(request, &["spec", "audiences"]) {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(attributes.forbid("node may only request 0 or 1 audiences")),
    };
    match named.any(|named| named == audience) {
        true => Ok(()),
        false => Err(attributes.forbid(format!("audience {audience:?} not found in pod spec volume"))),
    }
}

/// Devices that a kubelet's drivers offer are its own node's. Changes of a slice are the authorizer's.
fn slice(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    let (slice, verb) = match attributes.operation {
        Operation::Create => (object, "create"),
        Operation::Delete => (attributes.old, "delete"),
        _ => return Ok(()),
    };
    if slice.is_some_and(|slice| text(slice, &["spec", "nodeName"]) == node) {
        return Ok(());
    }
    let why = format!("can only {verb} ResourceSlice with the same NodeName as the requesting node");
    Err(attributes.forbid(why))
}

fn lease(attributes: &Attributes<'_>, node: &str, object: Option<&Value>) -> Result<(), Status> {
    if attributes.namespace != LEASE_NAMESPACE {
        let why = format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace");
        return Err(attributes.forbid(why));
    }
    let name = match attributes.operation {
        Operation::Create => object.map(|object| text(object, &["metadata", "name"])).unwrap_or_default(),
        _ => attributes.name,
    };
    if name != node {
        return Err(attributes.forbid("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}
