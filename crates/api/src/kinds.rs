//! The plain facts of the built-in kinds: what `kubectl api-resources` shows.

use apimachinery::gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};

/// One built-in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinKind {
    /// Empty for the core group.
    pub group: &'static str,
    /// The version that is served and stored.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `pods`.
    pub plural: &'static str,
    /// `pod`.
    pub singular: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
    /// A question rather than an object: it is created, answered and forgotten.
    pub create_only: bool,
}

impl BuiltinKind {
    /// Its group, version and kind.
    pub const fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::of(self.group, self.version, self.kind)
    }

    /// Its group, version and plural.
    pub const fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::of(self.group, self.version, self.plural)
    }

    /// Its group and version.
    pub const fn group_version(&self) -> GroupVersion {
        GroupVersion::of(self.group, self.version)
    }

    /// Its group and kind.
    pub const fn group_kind(&self) -> GroupKind {
        GroupKind::of(self.group, self.kind)
    }

    /// Its group and plural.
    pub const fn group_resource(&self) -> GroupResource {
        GroupResource::of(self.group, self.plural)
    }
}

const fn kind(
    (group, version): (&'static str, &'static str),
    kind: &'static str,
    (plural, singular): (&'static str, &'static str),
    short_names: &'static [&'static str],
    namespaced: bool,
) -> BuiltinKind {
    BuiltinKind {
        group,
        version,
        kind,
        plural,
        singular,
        short_names,
        categories: &[],
        namespaced,
        create_only: false,
    }
}

const fn in_all(kind: BuiltinKind) -> BuiltinKind {
    BuiltinKind { categories: &["all"], ..kind }
}

const fn question(kind: BuiltinKind) -> BuiltinKind {
    BuiltinKind { create_only: true, ..kind }
}

const fn extension(kind: BuiltinKind) -> BuiltinKind {
    BuiltinKind { categories: &["api-extensions"], ..kind }
}

type Served = (&'static str, &'static str);
const CORE: Served = ("", "v1");
const ADMISSION: Served = ("admissionregistration.k8s.io", "v1");
const APIEXTENSIONS: Served = ("apiextensions.k8s.io", "v1");
const APIREGISTRATION: Served = ("apiregistration.k8s.io", "v1");
const APPS: Served = ("apps", "v1");
const AUTHENTICATION: Served = ("authentication.k8s.io", "v1");
const AUTHORIZATION: Served = ("authorization.k8s.io", "v1");
const CERTIFICATES: Served = ("certificates.k8s.io", "v1");
const AUTOSCALING: Served = ("autoscaling", "v2");
const BATCH: Served = ("batch", "v1");
const COORDINATION: Served = ("coordination.k8s.io", "v1");
const DISCOVERY: Served = ("discovery.k8s.io", "v1");
const EVENTS: Served = ("events.k8s.io", "v1");
const NETWORKING: Served = ("networking.k8s.io", "v1");
const NODE: Served = ("node.k8s.io", "v1");
const POLICY: Served = ("policy", "v1");
const RBAC: Served = ("rbac.authorization.k8s.io", "v1");
const RESOURCE: Served = ("resource.k8s.io", "v1");
const STORAGE: Served = ("storage.k8s.io", "v1");
const SCHEDULING: Served = ("scheduling.k8s.io", "v1");

/// Every built-in kind, in the order of `kubectl api-resources`. An event is the same object in both of its groups.
pub const ALL: &[BuiltinKind] = &[
    kind(CORE, "ComponentStatus", ("componentstatuses", "componentstatus"), &["cs"], false),
    kind(CORE, "ConfigMap", ("configmaps", "configmap"), &["cm"], true),
    kind(CORE, "Endpoints", ("endpoints", "endpoints"), &["ep"], true),
    kind(CORE, "Event", ("events", "event"), &["ev"], true),
    kind(CORE, "LimitRange", ("limitranges", "limitrange"), &["limits"], true),
    kind(CORE, "Namespace", ("namespaces", "namespace"), &["ns"], false),
    kind(CORE, "Node", ("nodes", "node"), &["no"], false),
    kind(CORE, "PersistentVolumeClaim", ("persistentvolumeclaims", "persistentvolumeclaim"), &["pvc"], true),
    kind(CORE, "PersistentVolume", ("persistentvolumes", "persistentvolume"), &["pv"], false),
    in_all(kind(CORE, "Pod", ("pods", "pod"), &["po"], true)),
    kind(CORE, "PodTemplate", ("podtemplates", "podtemplate"), &[], true),
    in_all(kind(
        CORE,
        "ReplicationController",
        ("replicationcontrollers", "replicationcontroller"),
        &["rc"],
        true,
    )),
    kind(CORE, "ResourceQuota", ("resourcequotas", "resourcequota"), &["quota"], true),
    kind(CORE, "Secret", ("secrets", "secret"), &[], true),
    kind(CORE, "ServiceAccount", ("serviceaccounts", "serviceaccount"), &["sa"], true),
    in_all(kind(CORE, "Service", ("services", "service"), &["svc"], true)),
    extension(kind(
        ADMISSION,
        "MutatingWebhookConfiguration",
        ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration"),
        &[],
        false,
    )),
    extension(kind(
        ADMISSION,
        "ValidatingAdmissionPolicy",
        ("validatingadmissionpolicies", "validatingadmissionpolicy"),
        &[],
        false,
    )),
    extension(kind(
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding"),
        &[],
        false,
    )),
    extension(kind(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        ("validatingwebhookconfigurations", "validatingwebhookconfiguration"),
        &[],
        false,
    )),
    extension(kind(
        APIEXTENSIONS,
        "CustomResourceDefinition",
        ("customresourcedefinitions", "customresourcedefinition"),
        &["crd", "crds"],
        false,
    )),
    extension(kind(APIREGISTRATION, "APIService", ("apiservices", "apiservice"), &[], false)),
    kind(APPS, "ControllerRevision", ("controllerrevisions", "controllerrevision"), &[], true),
    in_all(kind(APPS, "DaemonSet", ("daemonsets", "daemonset"), &["ds"], true)),
    in_all(kind(APPS, "Deployment", ("deployments", "deployment"), &["deploy"], true)),
    in_all(kind(APPS, "ReplicaSet", ("replicasets", "replicaset"), &["rs"], true)),
    in_all(kind(APPS, "StatefulSet", ("statefulsets", "statefulset"), &["sts"], true)),
    question(kind(
        AUTHENTICATION,
        "SelfSubjectReview",
        ("selfsubjectreviews", "selfsubjectreview"),
        &[],
        false,
    )),
    question(kind(AUTHENTICATION, "TokenReview", ("tokenreviews", "tokenreview"), &[], false)),
    question(kind(
        AUTHORIZATION,
        "LocalSubjectAccessReview",
        ("localsubjectaccessreviews", "localsubjectaccessreview"),
        &[],
        true,
    )),
    question(kind(
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        ("selfsubjectaccessreviews", "selfsubjectaccessreview"),
        &[],
        false,
    )),
    question(kind(
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        ("selfsubjectrulesreviews", "selfsubjectrulesreview"),
        &[],
        false,
    )),
    question(kind(
        AUTHORIZATION,
        "SubjectAccessReview",
        ("subjectaccessreviews", "subjectaccessreview"),
        &[],
        false,
    )),
    in_all(kind(
        AUTOSCALING,
        "HorizontalPodAutoscaler",
        ("horizontalpodautoscalers", "horizontalpodautoscaler"),
        &["hpa"],
        true,
    )),
    in_all(kind(
        ("autoscaling", "v1"),
        "HorizontalPodAutoscaler",
        ("horizontalpodautoscalers", "horizontalpodautoscaler"),
        &["hpa"],
        true,
    )),
    in_all(kind(BATCH, "CronJob", ("cronjobs", "cronjob"), &["cj"], true)),
    in_all(kind(BATCH, "Job", ("jobs", "job"), &[], true)),
    kind(
        CERTIFICATES,
        "CertificateSigningRequest",
        ("certificatesigningrequests", "certificatesigningrequest"),
        &["csr"],
        false,
    ),
    kind(COORDINATION, "Lease", ("leases", "lease"), &[], true),
    kind(DISCOVERY, "EndpointSlice", ("endpointslices", "endpointslice"), &[], true),
    kind(EVENTS, "Event", ("events", "event"), &["ev"], true),
    kind(NETWORKING, "IngressClass", ("ingressclasses", "ingressclass"), &[], false),
    kind(NETWORKING, "Ingress", ("ingresses", "ingress"), &["ing"], true),
    kind(NETWORKING, "IPAddress", ("ipaddresses", "ipaddress"), &["ip"], false),
    kind(NETWORKING, "NetworkPolicy", ("networkpolicies", "networkpolicy"), &["netpol"], true),
    kind(NETWORKING, "ServiceCIDR", ("servicecidrs", "servicecidr"), &[], false),
    kind(NODE, "RuntimeClass", ("runtimeclasses", "runtimeclass"), &[], false),
    kind(POLICY, "PodDisruptionBudget", ("poddisruptionbudgets", "poddisruptionbudget"), &["pdb"], true),
    kind(RBAC, "ClusterRoleBinding", ("clusterrolebindings", "clusterrolebinding"), &[], false),
    kind(RBAC, "ClusterRole", ("clusterroles", "clusterrole"), &[], false),
    kind(RBAC, "RoleBinding", ("rolebindings", "rolebinding"), &[], true),
    kind(RBAC, "Role", ("roles", "role"), &[], true),
    kind(RESOURCE, "DeviceClass", ("deviceclasses", "deviceclass"), &[], false),
    kind(RESOURCE, "ResourceClaim", ("resourceclaims", "resourceclaim"), &[], true),
    kind(RESOURCE, "ResourceClaimTemplate", ("resourceclaimtemplates", "resourceclaimtemplate"), &[], true),
    kind(RESOURCE, "ResourceSlice", ("resourceslices", "resourceslice"), &[], false),
    kind(SCHEDULING, "PriorityClass", ("priorityclasses", "priorityclass"), &["pc"], false),
    kind(STORAGE, "CSIDriver", ("csidrivers", "csidriver"), &[], false),
    kind(STORAGE, "CSINode", ("csinodes", "csinode"), &[], false),
    kind(STORAGE, "CSIStorageCapacity", ("csistoragecapacities", "csistoragecapacity"), &[], true),
    kind(STORAGE, "StorageClass", ("storageclasses", "storageclass"), &["sc"], false),
    kind(STORAGE, "VolumeAttachment", ("volumeattachments", "volumeattachment"), &[], false),
    kind(
        STORAGE,
        "VolumeAttributesClass",
        ("volumeattributesclasses", "volumeattributesclass"),
        &["vac"],
        false,
    ),
];

/// The built-in kind of that name.
pub fn by_gvk(gvk: &GroupVersionKind) -> Option<&'static BuiltinKind> {
    ALL.iter()
        .find(|known| known.group == gvk.group && known.version == gvk.version && known.kind == gvk.kind)
}

/// The built-in kind of that resource.
pub fn by_resource(resource: &GroupResource) -> Option<&'static BuiltinKind> {
    ALL.iter().find(|known| known.group == resource.group && known.plural == resource.resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_schema_and_a_name_of_its_own() {
        for kind in ALL {
            assert!(crate::schemas::builtin().kind(&kind.gvk()).is_some(), "{}", kind.gvk());
            assert_eq!(by_gvk(&kind.gvk()), Some(kind));
            // Of two versions the one that is stored comes first.
            let found = by_resource(&kind.group_resource());
            assert_eq!(found.map(BuiltinKind::group_kind), Some(kind.group_kind()));
            assert_eq!(kind.singular, kind.kind.to_lowercase());
        }
    }
}
