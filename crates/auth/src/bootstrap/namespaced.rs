//! Roles and bindings inside `kube-system` and `kube-public`.

use super::table::Who::{ServiceAccount, User};
use super::table::{BindingSpec, CORE, EVENTS, READ, RoleSpec, named, role, rule};

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

const SIGNER: BindingSpec<'static> = BindingSpec {
    name: "system:controller:bootstrap-signer",
    role: "system:controller:bootstrap-signer",
    subjects: &[ServiceAccount(SYSTEM, "bootstrap-signer")],
};

pub(super) const ROLES: &[(&str, RoleSpec)] = &[
    (
        SYSTEM,
        role(
            "extension-apiserver-authentication-reader",
            &[named(READ, CORE, &["configmaps"], &["extension-apiserver-authentication"])],
        ),
    ),
    (SYSTEM, role("system:controller:bootstrap-signer", &[rule(READ, CORE, &["secrets"])])),
    (
        SYSTEM,
        role(
            "system:controller:cloud-provider",
            &[rule(&["create", "get", "list", "watch"], CORE, &["configmaps"])],
        ),
    ),
    (
        SYSTEM,
        role(
            "system:controller:token-cleaner",
            &[rule(&["delete", "get", "list", "watch"], CORE, &["secrets"]), EVENTS],
        ),
    ),
    (
        PUBLIC,
        role(
            "system:controller:bootstrap-signer",
            &[
                rule(READ, CORE, &["configmaps"]),
                named(&["update"], CORE, &["configmaps"], &["cluster-info"]),
                EVENTS,
            ],
        ),
    ),
    // As kubeadm's: it is signed, so that everybody may read it.
    (
        PUBLIC,
        role(
            "kubeadm:bootstrap-signer-clusterinfo",
            &[named(&["get"], CORE, &["configmaps"], &["cluster-info"])],
        ),
    ),
    (
        SYSTEM,
        role(
            "system::leader-locking-kube-controller-manager",
            &[
                rule(&["watch"], CORE, &["configmaps"]),
                named(&["get", "update"], CORE, &["configmaps"], &["kube-controller-manager"]),
            ],
        ),
    ),
    (
        SYSTEM,
        role(
            "system::leader-locking-kube-scheduler",
            &[
                rule(&["watch"], CORE, &["configmaps"]),
                named(&["get", "update"], CORE, &["configmaps"], &["kube-scheduler"]),
            ],
        ),
    ),
];

pub(super) const BINDINGS: &[(&str, BindingSpec<'static>)] = &[
    (SYSTEM, SIGNER),
    (PUBLIC, SIGNER),
    (
        PUBLIC,
        BindingSpec {
            name: "kubeadm:bootstrap-signer-clusterinfo",
            role: "kubeadm:bootstrap-signer-clusterinfo",
            subjects: &[User("system:anonymous")],
        },
    ),
    (
        SYSTEM,
        BindingSpec {
            name: "system:controller:cloud-provider",
            role: "system:controller:cloud-provider",
            subjects: &[ServiceAccount(SYSTEM, "cloud-provider")],
        },
    ),
    (
        SYSTEM,
        BindingSpec {
            name: "system:controller:token-cleaner",
            role: "system:controller:token-cleaner",
            subjects: &[ServiceAccount(SYSTEM, "token-cleaner")],
        },
    ),
    (
        SYSTEM,
        BindingSpec {
            name: "system::extension-apiserver-authentication-reader",
            role: "extension-apiserver-authentication-reader",
            subjects: &[User(CONTROLLER_MANAGER), User(SCHEDULER)],
        },
    ),
    (
        SYSTEM,
        BindingSpec {
            name: "system::leader-locking-kube-controller-manager",
            role: "system::leader-locking-kube-controller-manager",
            subjects: &[User(CONTROLLER_MANAGER), ServiceAccount(SYSTEM, "kube-controller-manager")],
        },
    ),
    (
        SYSTEM,
        BindingSpec {
            name: "system::leader-locking-kube-scheduler",
            role: "system::leader-locking-kube-scheduler",
            subjects: &[User(SCHEDULER), ServiceAccount(SYSTEM, "kube-scheduler")],
        },
    ),
];
