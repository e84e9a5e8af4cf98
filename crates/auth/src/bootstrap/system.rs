//! Roles of the plane's parts and of everyone's first steps.

use super::table::{CORE, EVENTS, LIST_WATCH, READ, READ_WRITE, RoleSpec, RuleSpec, get, named, role, rule};

const RBAC: &[&str] = &["rbac.authorization.k8s.io"];
const LEASES: &[&str] = &["coordination.k8s.io"];
const STORAGE: &[&str] = &["storage.k8s.io"];
const DEVICES: &[&str] = &["resource.k8s.io"];
const CERTIFICATES: &[&str] = &["certificates.k8s.io"];
const AUTHENTICATION: &[&str] = &["authentication.k8s.io"];
const AUTHORIZATION: &[&str] = &["authorization.k8s.io"];
const OURS: &[&str] = &["monoplane.dev"];
const CREATE: &[&str] = &["create"];
const APPROVE: &[&str] = &["approve"];
const SIGNERS: &[&str] = &["signers"];

pub(super) const ROLES: &[RoleSpec] = &[
    role(
        "system:discovery",
        &[get(&[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/healthz",
            "/livez",
            "/openapi",
            "/openapi/*",
            "/readyz",
            "/version",
            "/version/",
        ])],
    ),
    role(
        "system:basic-user",
        &[
            rule(CREATE, AUTHORIZATION, &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
            rule(CREATE, AUTHENTICATION, &["selfsubjectreviews"]),
        ],
    ),
    role("system:public-info-viewer", &[get(&["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
    role(
        "system:monitoring",
        &[
            get(&[
                "/flagz",
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
                "/statusz",
            ]),
            rule(&["get"], CORE, &["nodes/metrics"]),
        ],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[get(&[
            "/.well-known/openid-configuration",
            "/.well-known/openid-configuration/",
            "/openid/v1/jwks",
            "/openid/v1/jwks/",
        ])],
    ),
    role(
        "system:auth-delegator",
        &[
            rule(CREATE, AUTHENTICATION, &["tokenreviews"]),
            rule(CREATE, AUTHORIZATION, &["subjectaccessreviews"]),
        ],
    ),
    role("system:kube-aggregator", &[rule(READ, CORE, &["endpoints", "services"])]),
    role("system:kube-dns", &[rule(LIST_WATCH, CORE, &["endpoints", "services"])]),
    role(
        "system:kubelet-api-admin",
        &[
            rule(READ, CORE, &["nodes"]),
            rule(&["proxy"], CORE, &["nodes"]),
            rule(&["*"], CORE, &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats"]),
            rule(&["*"], CORE, &["nodes/configz", "nodes/healthz", "nodes/pods"]),
        ],
    ),
    role(
        "system:heapster",
        &[
            rule(READ, CORE, &["events", "namespaces", "nodes", "pods"]),
            rule(READ, &["extensions"], &["deployments"]),
        ],
    ),
    role("system:node", NODE),
    role(
        "system:node-bootstrapper",
        &[rule(&["create", "get", "list", "watch"], CERTIFICATES, &["certificatesigningrequests"])],
    ),
    role(
        "system:node-problem-detector",
        &[rule(&["get"], CORE, &["nodes"]), rule(&["patch"], CORE, &["nodes/status"]), EVENTS],
    ),
    role(
        "system:node-proxier",
        &[
            rule(LIST_WATCH, CORE, &["endpoints", "services"]),
            rule(READ, CORE, &["nodes"]),
            EVENTS,
            rule(LIST_WATCH, &["networking.k8s.io"], &["servicecidrs"]),
            rule(LIST_WATCH, &["discovery.k8s.io"], &["endpointslices"]),
        ],
    ),
    role("system:kube-controller-manager", CONTROLLER_MANAGER),
    role("system:kube-scheduler", SCHEDULER),
    role(
        "system:volume-scheduler",
        &[
            rule(&["get", "list", "patch", "update", "watch"], CORE, &["persistentvolumes"]),
            rule(READ, STORAGE, &["storageclasses"]),
            rule(&["get", "list", "patch", "update", "watch"], CORE, &["persistentvolumeclaims"]),
        ],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            rule(&["create", "delete", "get", "list", "watch"], CORE, &["persistentvolumes"]),
            rule(&["get", "list", "update", "watch"], CORE, &["persistentvolumeclaims"]),
            rule(READ, STORAGE, &["storageclasses"]),
            rule(&["watch"], CORE, &["events"]),
            EVENTS,
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[rule(CREATE, CERTIFICATES, &["certificatesigningrequests/nodeclient"])],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[rule(CREATE, CERTIFICATES, &["certificatesigningrequests/selfnodeclient"])],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/legacy-unknown"])],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/kubelet-serving"])],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/kube-apiserver-client"])],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/kube-apiserver-client-kubelet"])],
    ),
    role(
        "system:monoplane:network",
        &[
            rule(LIST_WATCH, CORE, &["namespaces", "pods"]),
            rule(LIST_WATCH, &["networking.k8s.io"], &["networkpolicies"]),
        ],
    ),
    // The way to kubelets leads through the server, whatever is asked of them.
    role(
        "system:monoplane:metrics",
        &[rule(&["get", "list"], CORE, &["nodes", "pods"]), rule(&["get"], CORE, &["nodes/proxy"])],
    ),
    // A node asks for its proxy's certificate as well.
    role(
        "system:monoplane:nodeproxy",
        &[rule(CREATE, CERTIFICATES, &["certificatesigningrequests/nodeproxy"])],
    ),
    // A node keeps a way to itself.
    role("system:monoplane:tunnel", &[get(&["/monoplane/tunnel"])]),
    role(
        "system:monoplane:edgeclient",
        &[rule(CREATE, CERTIFICATES, &["certificatesigningrequests/edgeclient"])],
    ),
    role(
        "system:monoplane:selfedgeclient",
        &[rule(CREATE, CERTIFICATES, &["certificatesigningrequests/selfedgeclient"])],
    ),
    // As kubeadm's: who joins must not take the name of a machine that is there.
    role("kubeadm:get-nodes", &[rule(&["get"], CORE, &["nodes"])]),
    role("system:monoplane:edge", EDGE),
    role("system:monoplane:bootstrap", BOOTSTRAP),
];

/// What a kubelet may do, as far as it does not depend on which node it is.
pub(super) const NODE: &[RuleSpec] = &[
    rule(CREATE, AUTHENTICATION, &["tokenreviews"]),
    rule(CREATE, AUTHORIZATION, &["localsubjectaccessreviews", "subjectaccessreviews"]),
    rule(READ, CORE, &["services"]),
    rule(&["create", "get", "list", "watch"], CORE, &["nodes"]),
    rule(&["patch", "update"], CORE, &["nodes", "nodes/status"]),
    EVENTS,
    rule(READ, CORE, &["pods"]),
    rule(&["create", "delete"], CORE, &["pods"]),
    rule(&["patch", "update"], CORE, &["pods/status"]),
    rule(CREATE, CORE, &["pods/eviction"]),
    rule(READ, CORE, &["configmaps", "secrets"]),
    rule(&["get"], CORE, &["persistentvolumeclaims", "persistentvolumes"]),
    rule(&["get"], CORE, &["endpoints"]),
    rule(&["create", "get", "list", "watch"], CERTIFICATES, &["certificatesigningrequests"]),
    rule(&["create", "delete", "get", "patch", "update"], LEASES, &["leases"]),
    rule(&["get"], STORAGE, &["volumeattachments"]),
    rule(CREATE, CORE, &["serviceaccounts/token"]),
    rule(&["get", "patch", "update"], CORE, &["persistentvolumeclaims/status"]),
    rule(READ, STORAGE, &["csidrivers"]),
    rule(&["create", "delete", "get", "patch", "update"], STORAGE, &["csinodes"]),
    rule(READ, &["node.k8s.io"], &["runtimeclasses"]),
    rule(&["get"], DEVICES, &["resourceclaims"]),
    rule(&["deletecollection"], DEVICES, &["resourceslices"]),
    rule(&["get"], CORE, &["serviceaccounts"]),
];

const CONTROLLER_MANAGER: &[RuleSpec] = &[
    EVENTS,
    rule(CREATE, LEASES, &["leases"]),
    named(&["get", "update"], LEASES, &["leases"], &["kube-controller-manager"]),
    rule(CREATE, CORE, &["secrets", "serviceaccounts"]),
    rule(&["delete"], CORE, &["secrets"]),
    rule(&["get"], CORE, &["configmaps", "namespaces", "secrets", "serviceaccounts"]),
    rule(&["update"], CORE, &["secrets", "serviceaccounts"]),
    rule(CREATE, AUTHENTICATION, &["tokenreviews"]),
    rule(CREATE, AUTHORIZATION, &["subjectaccessreviews"]),
    rule(LIST_WATCH, &["*"], &["*"]),
    rule(CREATE, CORE, &["serviceaccounts/token"]),
];

const SCHEDULER: &[RuleSpec] = &[
    EVENTS,
    rule(CREATE, LEASES, &["leases"]),
    named(&["get", "list", "patch", "update", "watch"], LEASES, &["leases"], &["kube-scheduler"]),
    rule(READ_WRITE, LEASES, &["leasecandidates"]),
    rule(READ, CORE, &["nodes"]),
    rule(&["delete", "get", "list", "watch"], CORE, &["pods"]),
    rule(CREATE, CORE, &["bindings", "pods/binding"]),
    rule(&["patch", "update"], CORE, &["pods/status"]),
    rule(READ, CORE, &["replicationcontrollers", "services"]),
    rule(READ, &["apps", "extensions"], &["replicasets"]),
    rule(READ, &["apps"], &["statefulsets"]),
    rule(READ, &["policy"], &["poddisruptionbudgets"]),
    rule(READ, CORE, &["persistentvolumeclaims", "persistentvolumes"]),
    rule(CREATE, AUTHENTICATION, &["tokenreviews"]),
    rule(CREATE, AUTHORIZATION, &["subjectaccessreviews"]),
    rule(READ, STORAGE, &["csinodes"]),
    rule(READ, STORAGE, &["volumeattachments"]),
    rule(READ, CORE, &["namespaces"]),
    rule(READ, STORAGE, &["csidrivers"]),
    rule(READ, STORAGE, &["csistoragecapacities"]),
    rule(READ, DEVICES, &["deviceclasses"]),
    rule(&["create", "delete", "get", "list", "patch", "update", "watch"], DEVICES, &["resourceclaims"]),
    rule(&["get", "list", "patch", "update", "watch"], DEVICES, &["resourceclaims/status"]),
    rule(&["patch", "update"], DEVICES, &["resourceclaims/binding"]),
    rule(&["update"], CORE, &["pods/finalizers"]),
    rule(READ, DEVICES, &["resourceslices"]),
];

/// The gateway, the component host and the durable worker of one edge.
const EDGE: &[RuleSpec] = &[
    rule(READ, OURS, &["components", "keyvaluestores"]),
    rule(&["patch", "update"], OURS, &["components/status", "keyvaluestores/status"]),
    rule(READ, CORE, &["namespaces", "services"]),
    rule(READ, &["discovery.k8s.io"], &["endpointslices"]),
    // The Secrets that Ingresses name for TLS are the edge authorizer's to grant, one by one.
    rule(READ, &["networking.k8s.io"], &["ingressclasses", "ingresses"]),
    rule(&["patch", "update"], &["networking.k8s.io"], &["ingresses/status"]),
    rule(&["create", "patch"], &["", "events.k8s.io"], &["events"]),
    // One that has joined renews its certificate.
    rule(&["create", "get"], CERTIFICATES, &["certificatesigningrequests"]),
];

/// What the server installs at each start, and nothing else.
pub(super) const BOOTSTRAP: &[RuleSpec] = &[
    rule(
        &["bind", "create", "delete", "escalate", "get", "list", "update", "watch"],
        RBAC,
        &["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
    ),
    rule(
        &["create", "get", "list", "patch", "update", "watch"],
        &["apiextensions.k8s.io"],
        &["customresourcedefinitions"],
    ),
    rule(
        &["create", "get", "update"],
        &["admissionregistration.k8s.io"],
        &["validatingadmissionpolicies", "validatingadmissionpolicybindings"],
    ),
    rule(&["create", "get", "list", "watch"], CORE, &["namespaces"]),
    rule(READ, CORE, &["pods"]),
    rule(CREATE, STORAGE, &["storageclasses"]),
    rule(&["create", "get", "update"], CORE, &["endpoints", "services"]),
    rule(&["create", "get", "update"], &["discovery.k8s.io"], &["endpointslices"]),
    rule(&["create", "get", "update"], &["node.k8s.io"], &["runtimeclasses"]),
    rule(&["create", "delete", "get", "list", "update"], LEASES, &["leases"]),
    rule(CREATE, &["networking.k8s.io"], &["ingressclasses"]),
    rule(&["create", "get", "update"], &["networking.k8s.io"], &["servicecidrs"]),
    rule(&["patch", "update"], &["networking.k8s.io"], &["servicecidrs/status"]),
    rule(CREATE, &["apiregistration.k8s.io"], &["apiservices"]),
    rule(CREATE, &["scheduling.k8s.io"], &["priorityclasses"]),
    named(&["get", "update"], CORE, &["configmaps"], &["extension-apiserver-authentication"]),
    named(&["get", "patch"], CORE, &["configmaps"], &["cluster-info"]),
    rule(CREATE, CORE, &["configmaps"]),
];
