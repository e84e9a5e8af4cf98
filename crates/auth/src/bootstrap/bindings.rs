//! Who has which ClusterRole everywhere.

use super::controllers::OUR_ROLE;
use super::table::BindingSpec;
use super::table::Who::{self, Group, ServiceAccount, User};
use crate::bootstrap_token;
use crate::edge::EDGES;
use crate::user::{AUTHENTICATED, NODES, UNAUTHENTICATED};

const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const JOINING: &[Who] = &[Group(bootstrap_token::NODES)];
const JOINING_EDGES: &[Who] = &[Group(bootstrap_token::EDGES)];

/// A binding of the same name as its role, as upstream's are.
const fn same(role: &'static str, subjects: &'static [Who]) -> BindingSpec<'static> {
    BindingSpec { name: role, role, subjects }
}

/// What our controllers have beyond upstream's.
pub(super) const CONTROLLERS: BindingSpec<'static> = same(OUR_ROLE, &[User(CONTROLLER_MANAGER)]);

pub(super) const CLUSTER: &[BindingSpec<'static>] = &[
    same("cluster-admin", &[Group("system:masters")]),
    same("system:monitoring", &[Group("system:monitoring")]),
    same("system:discovery", &[Group(AUTHENTICATED)]),
    same("system:basic-user", &[Group(AUTHENTICATED)]),
    same("system:public-info-viewer", &[Group(AUTHENTICATED), Group(UNAUTHENTICATED)]),
    same("system:service-account-issuer-discovery", &[Group("system:serviceaccounts")]),
    same("system:node-proxier", &[User("system:kube-proxy")]),
    same("system:kube-controller-manager", &[User(CONTROLLER_MANAGER)]),
    same("system:kube-dns", &[ServiceAccount("kube-system", "kube-dns")]),
    same("system:kube-scheduler", &[User(SCHEDULER)]),
    same("system:volume-scheduler", &[User(SCHEDULER)]),
    // Kubelets are authorized node by node instead.
    same("system:node", &[]),
    CONTROLLERS,
    same("system:monoplane:metrics", &[User("system:metrics-server")]),
    // What upstream leaves to network plugins is the proxy's here.
    same("system:monoplane:network", &[User("system:kube-proxy")]),
    same("system:monoplane:nodeproxy", &[Group(NODES)]),
    same("system:monoplane:tunnel", &[Group(NODES)]),
    // What kubeadm binds when it makes a cluster, under the same names: who holds one of its tokens may have a node's
    // certificate, and a node may renew its own.
    BindingSpec { name: "kubeadm:kubelet-bootstrap", role: "system:node-bootstrapper", subjects: JOINING },
    BindingSpec {
        name: "kubeadm:node-autoapprove-bootstrap",
        role: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        subjects: JOINING,
    },
    BindingSpec {
        name: "kubeadm:node-autoapprove-certificate-rotation",
        role: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        subjects: &[Group(NODES)],
    },
    same("kubeadm:get-nodes", JOINING),
    same("system:monoplane:edge", &[Group(EDGES)]),
    // Who holds a token for edges may have an edge's certificate, and an edge may renew its own.
    BindingSpec {
        name: "system:monoplane:edge-bootstrap",
        role: "system:node-bootstrapper",
        subjects: JOINING_EDGES,
    },
    same("system:monoplane:edgeclient", JOINING_EDGES),
    same("system:monoplane:selfedgeclient", &[Group(EDGES)]),
    same("system:monoplane:bootstrap", &[Group(super::BOOTSTRAP_GROUP)]),
    BindingSpec {
        name: "monoplane:cluster-admins",
        role: "cluster-admin",
        subjects: &[Group("monoplane:cluster-admins")],
    },
];
