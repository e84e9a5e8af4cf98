//! Roles of the controllers. Upstream's controllers may run each under its own service account, for which its roles
//! stand here; ours run as `system:kube-controller-manager`, which `system:monoplane:controllers` gives what they need.

use super::table::{CORE, EVENTS, LIST_WATCH, READ, RoleSpec, RuleSpec, named, role, rule};

const APPS: &[&str] = &["apps", "extensions"];
const BATCH: &[&str] = &["batch"];
const RBAC: &[&str] = &["rbac.authorization.k8s.io"];
const CERTIFICATES: &[&str] = &["certificates.k8s.io"];
const ADMISSION: &[&str] = &["admissionregistration.k8s.io"];
const NETWORKING: &[&str] = &["networking.k8s.io"];
const DEVICES: &[&str] = &["resource.k8s.io"];
/// Whose requests are approved without anybody looking at them.
const APPROVE: RuleSpec =
    named(&["approve"], CERTIFICATES, &["signers"], &["kubernetes.io/kube-apiserver-client-kubelet"]);
/// For whom the plane's own authority signs.
const SIGN: RuleSpec = named(
    &["sign"],
    CERTIFICATES,
    &["signers"],
    &[
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/legacy-unknown",
    ],
);

/// The role of ours.
pub(super) const OUR_ROLE: &str = "system:monoplane:controllers";

/// What it needs beside its rules here where the API server is upstream's, which knows no lesser right to keep roles that are
/// made of others.
pub(super) const ON_UPSTREAM: &[RuleSpec] = &[rule(&["escalate"], RBAC, &["clusterroles"])];

pub(super) const ROLES: &[RoleSpec] = &[
    role(
        "system:controller:deployment-controller",
        &[
            rule(&["get", "list", "update", "watch"], APPS, &["deployments"]),
            rule(&["update"], APPS, &["deployments/status"]),
            rule(&["update"], APPS, &["deployments/finalizers"]),
            rule(&["create", "delete", "get", "list", "patch", "update", "watch"], APPS, &["replicasets"]),
            rule(&["get", "list", "update", "watch"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:replicaset-controller",
        &[
            rule(&["get", "list", "update", "watch"], APPS, &["replicasets"]),
            rule(&["update"], APPS, &["replicasets/status"]),
            rule(&["update"], APPS, &["replicasets/finalizers"]),
            rule(&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:replication-controller",
        &[
            rule(&["get", "list", "update", "watch"], CORE, &["replicationcontrollers"]),
            rule(&["update"], CORE, &["replicationcontrollers/status"]),
            rule(&["update"], CORE, &["replicationcontrollers/finalizers"]),
            rule(&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:statefulset-controller",
        &[
            rule(READ, CORE, &["pods"]),
            rule(READ, &["apps"], &["statefulsets"]),
            rule(&["update"], &["apps"], &["statefulsets/status"]),
            rule(&["update"], &["apps"], &["statefulsets/finalizers"]),
            rule(&["create", "delete", "get", "patch", "update"], CORE, &["pods"]),
            rule(
                &["create", "delete", "get", "list", "patch", "update", "watch"],
                &["apps"],
                &["controllerrevisions"],
            ),
            rule(&["create", "get", "list", "watch"], CORE, &["persistentvolumeclaims"]),
            rule(&["delete", "update"], CORE, &["persistentvolumeclaims"]),
            rule(&["update"], CORE, &["pods/finalizers"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:daemon-set-controller",
        &[
            rule(READ, APPS, &["daemonsets"]),
            rule(&["update"], APPS, &["daemonsets/status"]),
            rule(&["update"], APPS, &["daemonsets/finalizers"]),
            rule(&["list", "watch"], CORE, &["nodes"]),
            rule(&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
            rule(&["create"], CORE, &["pods/binding"]),
            rule(
                &["create", "delete", "get", "list", "patch", "update", "watch"],
                &["apps"],
                &["controllerrevisions"],
            ),
            EVENTS,
        ],
    ),
    role(
        "system:controller:disruption-controller",
        &[
            rule(READ, APPS, &["deployments"]),
            rule(READ, APPS, &["replicasets"]),
            rule(READ, CORE, &["replicationcontrollers"]),
            rule(READ, &["policy"], &["poddisruptionbudgets"]),
            rule(READ, &["apps"], &["statefulsets"]),
            rule(&["update"], &["policy"], &["poddisruptionbudgets/status"]),
            rule(&["patch", "update"], CORE, &["pods/status"]),
            rule(&["get"], &["*"], &["*/scale"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:generic-garbage-collector",
        &[rule(&["delete", "get", "list", "patch", "update", "watch"], &["*"], &["*"]), EVENTS],
    ),
    role(
        "system:controller:horizontal-pod-autoscaler",
        &[
            rule(READ, &["autoscaling"], &["horizontalpodautoscalers"]),
            rule(&["update"], &["autoscaling"], &["horizontalpodautoscalers/status"]),
            rule(&["get", "update"], &["*"], &["*/scale"]),
            rule(LIST_WATCH, CORE, &["pods"]),
            rule(LIST_WATCH, &["metrics.k8s.io"], &["pods"]),
            rule(READ, &["custom.metrics.k8s.io"], &["*"]),
            rule(READ, &["external.metrics.k8s.io"], &["*"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:namespace-controller",
        &[
            rule(&["delete", "get", "list", "watch"], CORE, &["namespaces"]),
            rule(&["update"], CORE, &["namespaces/finalize", "namespaces/status"]),
            rule(&["delete", "deletecollection", "get", "list", "watch"], &["*"], &["*"]),
        ],
    ),
    role(
        "system:controller:service-account-controller",
        &[rule(&["create"], CORE, &["serviceaccounts"]), EVENTS],
    ),
    role(
        "system:controller:node-controller",
        &[
            rule(&["delete", "get", "list", "patch", "update", "watch"], CORE, &["nodes"]),
            rule(&["patch", "update"], CORE, &["nodes/status"]),
            rule(&["patch", "update"], CORE, &["pods/status"]),
            rule(&["delete", "get", "list", "watch"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:certificate-controller",
        &[
            rule(&["delete", "get", "list", "watch"], CERTIFICATES, &["certificatesigningrequests"]),
            rule(
                &["update"],
                CERTIFICATES,
                &["certificatesigningrequests/approval", "certificatesigningrequests/status"],
            ),
            APPROVE,
            SIGN,
            rule(&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:service-cidrs-controller",
        &[
            rule(&["get", "list", "patch", "update", "watch"], NETWORKING, &["servicecidrs"]),
            rule(&["patch", "update"], NETWORKING, &["servicecidrs/finalizers"]),
            rule(&["patch", "update"], NETWORKING, &["servicecidrs/status"]),
            rule(READ, NETWORKING, &["ipaddresses"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:resource-claim-controller",
        &[
            rule(READ, CORE, &["pods"]),
            rule(&["update"], CORE, &["pods/finalizers"]),
            rule(&["create", "delete", "get", "list", "watch"], DEVICES, &["resourceclaims"]),
            rule(&["patch", "update"], DEVICES, &["resourceclaims", "resourceclaims/status"]),
            rule(&["patch", "update"], DEVICES, &["resourceclaims/binding"]),
            rule(&["patch", "update"], CORE, &["pods/status"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:validatingadmissionpolicy-status-controller",
        &[
            rule(READ, ADMISSION, &["validatingadmissionpolicies"]),
            rule(&["get", "patch", "update"], ADMISSION, &["validatingadmissionpolicies/status"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:job-controller",
        &[
            rule(&["get", "list", "patch", "update", "watch"], BATCH, &["jobs"]),
            rule(&["update"], BATCH, &["jobs/status"]),
            rule(&["update"], BATCH, &["jobs/finalizers"]),
            rule(&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:cronjob-controller",
        &[
            rule(&["get", "list", "update", "watch"], BATCH, &["cronjobs"]),
            rule(&["create", "delete", "get", "list", "patch", "update", "watch"], BATCH, &["jobs"]),
            rule(&["update"], BATCH, &["cronjobs/status"]),
            rule(&["update"], BATCH, &["cronjobs/finalizers"]),
            rule(&["delete", "list", "watch"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:ttl-after-finished-controller",
        &[rule(&["delete", "get", "list", "watch"], BATCH, &["jobs"]), EVENTS],
    ),
    role(
        "system:controller:ttl-controller",
        &[rule(&["list", "patch", "update", "watch"], CORE, &["nodes"]), EVENTS],
    ),
    role(
        "system:controller:clusterrole-aggregation-controller",
        &[rule(&["escalate", "get", "list", "patch", "update", "watch"], RBAC, &["clusterroles"])],
    ),
    role(
        "system:controller:ephemeral-volume-controller",
        &[
            rule(READ, CORE, &["pods"]),
            rule(&["update"], CORE, &["pods/finalizers"]),
            rule(&["create", "get", "list", "watch"], CORE, &["persistentvolumeclaims"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:persistent-volume-binder",
        &[
            rule(&["create", "delete", "get", "list", "update", "watch"], CORE, &["persistentvolumes"]),
            rule(&["update"], CORE, &["persistentvolumes/status"]),
            rule(&["get", "list", "update", "watch"], CORE, &["persistentvolumeclaims"]),
            rule(&["update"], CORE, &["persistentvolumeclaims/status"]),
            rule(&["create", "delete", "get", "list", "watch"], CORE, &["pods"]),
            rule(READ, &["storage.k8s.io"], &["storageclasses"]),
            rule(LIST_WATCH, CORE, &["nodes"]),
            rule(&["watch"], CORE, &["events"]),
            EVENTS,
        ],
    ),
    role(OUR_ROLE, OURS),
];

pub(super) const OURS: &[RuleSpec] = &[
    // Deployments and ReplicaSets.
    rule(&["get", "list", "patch", "update", "watch"], &["apps"], &["deployments"]),
    rule(&["create", "delete", "get", "list", "patch", "update", "watch"], &["apps"], &["replicasets"]),
    rule(&["patch", "update"], &["apps"], &["deployments/status", "replicasets/status"]),
    rule(&["update"], &["apps"], &["deployments/finalizers", "replicasets/finalizers"]),
    rule(&["create", "delete", "get", "list", "patch", "update", "watch"], CORE, &["pods"]),
    // StatefulSets and DaemonSets: their histories and claims. The statuses of these kinds, and of budgets, are changed, as all
    // else that is there, by what follows.
    rule(&["create"], &["apps"], &["controllerrevisions"]),
    rule(&["create"], CORE, &["persistentvolumeclaims"]),
    // Garbage collector and namespace controller: every kind, and deletion only of what they were told to delete.
    rule(&["delete", "deletecollection", "get", "list", "patch", "update", "watch"], &["*"], &["*"]),
    rule(&["patch", "update"], CORE, &["namespaces/finalize", "namespaces/status"]),
    // Service account controller, and what every namespace gets with it: the authority's certificate.
    rule(&["create"], CORE, &["configmaps", "serviceaccounts"]),
    // Endpoints and endpoint slices.
    rule(&["create"], CORE, &["endpoints"]),
    rule(&["create"], &["discovery.k8s.io"], &["endpointslices"]),
    // Node lifecycle.
    rule(READ, &["coordination.k8s.io"], &["leases"]),
    rule(&["delete", "get", "list", "patch", "update", "watch"], CORE, &["nodes"]),
    rule(&["patch", "update"], CORE, &["nodes/status", "pods/status"]),
    rule(&["create"], CORE, &["pods/eviction"]),
    // Certificates: upstream's controller approves nothing for these two signers.
    named(
        &["approve"],
        CERTIFICATES,
        &["signers"],
        &["kubernetes.io/kube-apiserver-client", "kubernetes.io/kubelet-serving"],
    ),
    rule(
        &["patch", "update"],
        CERTIFICATES,
        &["certificatesigningrequests/approval", "certificatesigningrequests/status"],
    ),
    APPROVE,
    SIGN,
    // Bootstrap tokens.
    rule(&["delete", "get", "list", "watch"], CORE, &["secrets"]),
    // Ranges of Services.
    rule(&["patch", "update"], NETWORKING, &["servicecidrs", "servicecidrs/status"]),
    // CronJobs.
    rule(&["create"], BATCH, &["jobs"]),
    // The rules of roles that are made of others, and of no other role.
    rule(&["aggregate"], RBAC, &["clusterroles"]),
    // Claims of pods' own, and volumes on nodes.
    rule(&["create"], CORE, &["persistentvolumeclaims", "persistentvolumes"]),
    // Leader election.
    rule(&["create", "get", "patch", "update"], &["coordination.k8s.io"], &["leases"]),
    EVENTS,
];
