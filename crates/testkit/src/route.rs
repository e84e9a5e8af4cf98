//! From a request's path to what it is about.

use serde_json::{Value, json};

/// A kind that the fake serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The plural.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// A kind from `group/version` (or `v1`).
    pub fn new(api_version: &str, kind: &str, plural: &str, namespaced: bool) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced,
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// The built-in kinds that the controllers look at.
pub(crate) fn built_in() -> Vec<Kind> {
    vec![
        Kind::new("v1", "Namespace", "namespaces", false),
        Kind::new("v1", "Node", "nodes", false),
        Kind::new("v1", "Pod", "pods", true),
        Kind::new("v1", "ConfigMap", "configmaps", true),
        Kind::new("v1", "Secret", "secrets", true),
        Kind::new("v1", "Service", "services", true),
        Kind::new("v1", "Endpoints", "endpoints", true),
        Kind::new("v1", "ServiceAccount", "serviceaccounts", true),
        Kind::new("v1", "Event", "events", true),
        Kind::new("v1", "PersistentVolume", "persistentvolumes", false),
        Kind::new("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
        Kind::new("v1", "ReplicationController", "replicationcontrollers", true),
        Kind::new("v1", "ResourceQuota", "resourcequotas", true),
        Kind::new("apps/v1", "ControllerRevision", "controllerrevisions", true),
        Kind::new("apps/v1", "DaemonSet", "daemonsets", true),
        Kind::new("apps/v1", "Deployment", "deployments", true),
        Kind::new("apps/v1", "ReplicaSet", "replicasets", true),
        Kind::new("apps/v1", "StatefulSet", "statefulsets", true),
        Kind::new(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            false,
        ),
        Kind::new("batch/v1", "Job", "jobs", true),
        Kind::new("batch/v1", "CronJob", "cronjobs", true),
        Kind::new("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false),
        Kind::new("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
        Kind::new("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests", false),
        Kind::new("coordination.k8s.io/v1", "Lease", "leases", true),
        Kind::new("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
        Kind::new("networking.k8s.io/v1", "IPAddress", "ipaddresses", false),
        Kind::new("networking.k8s.io/v1", "ServiceCIDR", "servicecidrs", false),
        Kind::new("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
        Kind::new("storage.k8s.io/v1", "CSIDriver", "csidrivers", false),
        Kind::new("storage.k8s.io/v1", "CSINode", "csinodes", false),
        Kind::new("storage.k8s.io/v1", "CSIStorageCapacity", "csistoragecapacities", true),
        Kind::new("storage.k8s.io/v1", "StorageClass", "storageclasses", false),
        Kind::new("storage.k8s.io/v1", "VolumeAttributesClass", "volumeattributesclasses", false),
        Kind::new("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false),
    ]
}

pub(crate) struct Route {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

pub(crate) fn parse(path: &str, kinds: &[Kind]) -> Option<Route> {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version) = match *parts.first()? {
        "api" => {
            let version = *parts.get(1)?;
            parts.drain(..2);
            ("", version)
        }
        "apis" => {
            let (group, version) = (*parts.get(1)?, *parts.get(2)?);
            parts.drain(..3);
            (group, version)
        }
        _ => return None,
    };
    let find =
        |plural: &str| kinds.iter().find(|k| k.group == group && k.version == version && k.plural == plural);
    let mut namespace = String::new();
    if parts.first() == Some(&"namespaces") && parts.get(2).is_some_and(|plural| find(plural).is_some()) {
        namespace = parts[1].to_owned();
        parts.drain(..2);
    }
    let kind = find(parts.first()?)?.clone();
    let owned = |at: usize| parts.get(at).map(|part| (*part).to_owned());
    Some(Route { kind, namespace, name: owned(1), subresource: owned(2) })
}

/// Discovery in the form that every client knows.
pub(crate) fn discovery(path: &str, kinds: &[Kind]) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["api"] => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        ["apis"] => {
            let mut groups: Vec<&Kind> = kinds.iter().filter(|kind| !kind.group.is_empty()).collect();
            groups.sort_by_key(|kind| (&kind.group, &kind.version));
            groups.dedup_by_key(|kind| &kind.group);
            let groups: Vec<Value> = groups
                .into_iter()
                .map(|kind| {
                    let version = json!({ "groupVersion": kind.api_version(), "version": kind.version });
                    json!({ "name": kind.group, "versions": [version], "preferredVersion": version })
                })
                .collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["api", version] => Some(resources("", version, kinds)),
        ["apis", group, version] => Some(resources(group, version, kinds)),
        _ => None,
    }
}

fn resources(group: &str, version: &str, kinds: &[Kind]) -> Value {
    let of_version = kinds.iter().filter(|kind| kind.group == group && kind.version == version);
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let resources: Vec<Value> = of_version
        .map(|kind| {
            json!({
                "name": kind.plural, "singularName": "", "kind": kind.kind,
                "namespaced": kind.namespaced, "verbs": verbs,
            })
        })
        .collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources })
}
