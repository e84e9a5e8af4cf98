//! Roles of upstream's controllers that ours have no role of their own for: those that kube-controller-manager runs under a
//! service account each when it is told to (`--use-service-account-credentials`), and those of work that nothing does here.

use super::table::{CORE, EVENTS, LIST_WATCH, READ, RoleSpec, named, role, rule};

const STORAGE: &[&str] = &["storage.k8s.io"];
const DEVICES: &[&str] = &["resource.k8s.io"];
const SLICES: &[&str] = &["discovery.k8s.io"];

pub(super) const ROLES: &[RoleSpec] = &[
    role(
        "system:controller:attachdetach-controller",
        &[
            rule(LIST_WATCH, CORE, &["persistentvolumeclaims", "persistentvolumes"]),
            rule(READ, CORE, &["nodes"]),
            rule(&["patch", "update"], CORE, &["nodes/status"]),
            rule(LIST_WATCH, CORE, &["pods"]),
            EVENTS,
            rule(&["create", "delete", "get", "list", "watch"], STORAGE, &["volumeattachments"]),
            rule(READ, STORAGE, &["csidrivers"]),
            rule(READ, STORAGE, &["csinodes"]),
        ],
    ),
    role(
        "system:controller:device-taint-eviction-controller",
        &[
            rule(&["delete", "get", "list", "watch"], CORE, &["pods"]),
            rule(&["patch", "update"], CORE, &["pods/status"]),
            rule(READ, DEVICES, &["resourceclaims"]),
            rule(READ, DEVICES, &["resourceslices"]),
            rule(READ, DEVICES, &["deviceclasses"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpoint-controller",
        &[
            rule(READ, CORE, &["pods", "services"]),
            rule(&["create", "delete", "get", "list", "update", "watch"], CORE, &["endpoints"]),
            rule(&["create"], CORE, &["endpoints/restricted"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpointslice-controller",
        &[
            rule(READ, CORE, &["nodes", "pods", "services"]),
            rule(&["update"], CORE, &["services/finalizers"]),
            rule(&["create", "delete", "get", "list", "update", "watch"], SLICES, &["endpointslices"]),
            rule(&["create"], SLICES, &["endpointslices/restricted"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:endpointslicemirroring-controller",
        &[
            rule(READ, CORE, &["endpoints", "services"]),
            rule(&["update"], CORE, &["services/finalizers"]),
            rule(&["update"], CORE, &["endpoints/finalizers"]),
            rule(&["create", "delete", "get", "list", "update", "watch"], SLICES, &["endpointslices"]),
            rule(&["create"], SLICES, &["endpointslices/restricted"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:expand-controller",
        &[
            rule(&["get", "list", "patch", "update", "watch"], CORE, &["persistentvolumes"]),
            rule(&["patch", "update"], CORE, &["persistentvolumeclaims/status"]),
            rule(READ, CORE, &["persistentvolumeclaims"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:legacy-service-account-token-cleaner",
        &[
            named(&["get"], CORE, &["configmaps"], &["kube-apiserver-legacy-service-account-token-tracking"]),
            rule(&["delete", "patch"], CORE, &["secrets"]),
        ],
    ),
    role(
        "system:controller:pod-garbage-collector",
        &[
            rule(&["delete", "list", "watch"], CORE, &["pods"]),
            rule(READ, CORE, &["nodes"]),
            rule(&["patch"], CORE, &["pods/status"]),
        ],
    ),
    role(
        "system:controller:pv-protection-controller",
        &[rule(&["get", "list", "update", "watch"], CORE, &["persistentvolumes"]), EVENTS],
    ),
    role(
        "system:controller:pvc-protection-controller",
        &[
            rule(&["get", "list", "update", "watch"], CORE, &["persistentvolumeclaims"]),
            rule(&["update"], CORE, &["persistentvolumeclaims/status"]),
            rule(READ, CORE, &["pods"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:resourcequota-controller",
        &[rule(LIST_WATCH, &["*"], &["*"]), rule(&["update"], CORE, &["resourcequotas/status"]), EVENTS],
    ),
    role(
        "system:controller:root-ca-cert-publisher",
        &[rule(&["create", "update"], CORE, &["configmaps"]), EVENTS],
    ),
    role(
        "system:controller:route-controller",
        &[rule(LIST_WATCH, CORE, &["nodes"]), rule(&["patch"], CORE, &["nodes/status"]), EVENTS],
    ),
    role(
        "system:controller:selinux-warning-controller",
        &[
            EVENTS,
            rule(READ, CORE, &["persistentvolumes"]),
            rule(READ, CORE, &["persistentvolumeclaims"]),
            rule(READ, CORE, &["pods"]),
            rule(READ, STORAGE, &["csidrivers"]),
        ],
    ),
    role(
        "system:controller:service-controller",
        &[
            rule(READ, CORE, &["services"]),
            rule(&["patch", "update"], CORE, &["services/status"]),
            rule(LIST_WATCH, CORE, &["nodes"]),
            EVENTS,
        ],
    ),
    role(
        "system:controller:volumeattributesclass-protection-controller",
        &[
            rule(READ, CORE, &["persistentvolumeclaims"]),
            rule(READ, CORE, &["persistentvolumes"]),
            rule(&["get", "list", "update", "watch"], STORAGE, &["volumeattributesclasses"]),
            EVENTS,
        ],
    ),
];
