//! Roles of the controllers. Upstream's controllers may run each under its own service account, for which its roles
//! stand here; ours run as `system:kube-controller-manager`, which `system:monoplane:controllers` gives what they need.

use super::table::{CORE, EVENTS, READ, RoleSpec, RuleSpec, role, rule};

const APPS: &[&str] = &["apps", "extensions"];

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
        "system:controller:generic-garbage-collector",
        &[rule(&["delete", "get", "list", "patch", "update", "watch"], &["*"], &["*"]), EVENTS],
    ),
    role(
        "system:controller:namespace-controller",
        &[
            rule(&["delete", "get", "list", "watch"], CORE, &["namespaces"]),
            rule(&["update"], CORE, &["namespaces/finalize", "namespaces/status"]),
            rule(&["delete", "deletecollection", "get", "list"], &["*"], &["*"]),
        ],
    ),
    role(
        "system:controller:service-account-controller",
        &[rule(&["create"], CORE, &["serviceaccounts"]), EVENTS],
    ),
    role(
        "system:controller:node-controller",
        &[
            rule(&["delete", "get", "list", "patch", "update"], CORE, &["nodes"]),
            rule(&["patch", "update"], CORE, &["nodes/status"]),
            rule(&["patch", "update"], CORE, &["pods/status"]),
            rule(&["delete", "get", "list"], CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role("system:monoplane:controllers", OURS),
];

const OURS: &[RuleSpec] = &[
    // Deployments and ReplicaSets.
    rule(&["get", "list", "patch", "update", "watch"], &["apps"], &["deployments"]),
    rule(&["create", "delete", "get", "list", "patch", "update", "watch"], &["apps"], &["replicasets"]),
    rule(&["patch", "update"], &["apps"], &["deployments/status", "replicasets/status"]),
    rule(&["update"], &["apps"], &["deployments/finalizers", "replicasets/finalizers"]),
    rule(&["create", "delete", "get", "list", "patch", "update", "watch"], CORE, &["pods"]),
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
    // Leader election.
    rule(&["create", "get", "patch", "update"], &["coordination.k8s.io"], &["leases"]),
    EVENTS,
];
