//! Roles and bindings inside `kube-system`.

use super::table::Who::User;
use super::table::{BindingSpec, CORE, READ, RoleSpec, named, role, rule};

const SYSTEM: &str = "kube-system";
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

pub(super) const ROLES: &[(&str, RoleSpec)] = &[
    (
        SYSTEM,
        role(
            "extension-apiserver-authentication-reader",
            &[named(READ, CORE, &["configmaps"], &["extension-apiserver-authentication"])],
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

pub(super) const BINDINGS: &[(&str, BindingSpec)] = &[
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
            subjects: &[User(CONTROLLER_MANAGER)],
        },
    ),
    (
        SYSTEM,
        BindingSpec {
            name: "system::leader-locking-kube-scheduler",
            role: "system::leader-locking-kube-scheduler",
            subjects: &[User(SCHEDULER)],
        },
    ),
];
