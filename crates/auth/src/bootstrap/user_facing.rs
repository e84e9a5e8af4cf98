//! `cluster-admin`, and `admin`, `edit` and `view`, which are made of the roles labelled as parts of them.

use super::table::{CORE, READ, READ_WRITE, RoleSpec, RuleSpec, WRITE, role, rule};

const ALL: &[&str] = &["*"];

pub(super) const ROLES: &[RoleSpec] = &[
    role(
        "cluster-admin",
        &[rule(ALL, ALL, ALL), RuleSpec { verbs: ALL, groups: &[], resources: &[], names: &[], urls: ALL }],
    ),
    RoleSpec { name: "admin", part_of: &[], aggregated: true, rules: &[] },
    RoleSpec { name: "edit", part_of: &["admin"], aggregated: true, rules: &[] },
    RoleSpec { name: "view", part_of: &["edit"], aggregated: true, rules: &[] },
    RoleSpec { name: "system:aggregate-to-admin", part_of: &["admin"], aggregated: false, rules: ADMIN },
    RoleSpec { name: "system:aggregate-to-edit", part_of: &["edit"], aggregated: false, rules: EDIT },
    RoleSpec { name: "system:aggregate-to-view", part_of: &["view"], aggregated: false, rules: VIEW },
    // As upstream's metrics-server brings it.
    RoleSpec {
        name: "system:aggregated-metrics-reader",
        part_of: &["admin", "edit", "view"],
        aggregated: false,
        rules: &[rule(&["get", "list", "watch"], &["metrics.k8s.io"], &["nodes", "pods"])],
    },
    // Our own kinds, for the same users.
    RoleSpec { name: "monoplane:aggregate-to-edit", part_of: &["edit"], aggregated: false, rules: OUR_EDIT },
    RoleSpec { name: "monoplane:aggregate-to-view", part_of: &["view"], aggregated: false, rules: OUR_VIEW },
];

const OURS: &[&str] = &["monoplane.dev"];
const OUR_EDIT: &[RuleSpec] = &[
    rule(WRITE, OURS, &["components", "keyvaluestores"]),
    // What it takes to bind one to a component.
    rule(&["use"], OURS, &["keyvaluestores"]),
];
const OUR_VIEW: &[RuleSpec] =
    &[rule(READ, OURS, &["components", "components/status", "keyvaluestores", "keyvaluestores/status"])];

const EVENT_GROUPS: &[&str] = &["", "events.k8s.io"];

const ADMIN: &[RuleSpec] = &[
    rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
    rule(READ_WRITE, &["rbac.authorization.k8s.io"], &["rolebindings", "roles"]),
];

const EDIT: &[RuleSpec] = &[
    rule(
        READ,
        CORE,
        &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"],
    ),
    rule(&["impersonate"], CORE, &["serviceaccounts"]),
    rule(WRITE, CORE, &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"]),
    rule(&["create"], CORE, &["pods/eviction"]),
    rule(
        WRITE,
        CORE,
        &[
            "configmaps",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
        ],
    ),
    rule(WRITE, EVENT_GROUPS, &["events"]),
    rule(&["create"], CORE, &["serviceaccounts/token"]),
    rule(
        WRITE,
        &["apps"],
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    rule(WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
    rule(WRITE, &["batch"], &["cronjobs", "jobs"]),
    rule(
        WRITE,
        &["extensions"],
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "ingresses",
            "networkpolicies",
            "replicasets",
            "replicasets/scale",
            "replicationcontrollers/scale",
        ],
    ),
    rule(WRITE, &["policy"], &["poddisruptionbudgets"]),
    rule(WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
    rule(READ_WRITE, &["coordination.k8s.io"], &["leases"]),
    rule(WRITE, &["resource.k8s.io"], &["resourceclaims", "resourceclaimtemplates"]),
];

const VIEW: &[RuleSpec] = &[
    rule(
        READ,
        CORE,
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "serviceaccounts",
            "services",
            "services/status",
        ],
    ),
    rule(
        READ,
        CORE,
        &[
            "bindings",
            "limitranges",
            "namespaces/status",
            "pods/log",
            "pods/status",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
        ],
    ),
    rule(READ, CORE, &["namespaces"]),
    rule(READ, EVENT_GROUPS, &["events"]),
    rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
    rule(
        READ,
        &["apps"],
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    rule(READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    rule(READ, &["batch"], &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    rule(
        READ,
        &["extensions"],
        &[
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "ingresses",
            "ingresses/status",
            "networkpolicies",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "replicationcontrollers/scale",
        ],
    ),
    rule(READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    rule(READ, &["networking.k8s.io"], &["ingresses", "ingresses/status", "networkpolicies"]),
    rule(READ, &["resource.k8s.io"], &["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"]),
];
