//! Names and amounts of resources where limits and quotas speak of them, in upstream's words.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::qualified_name;
use apimachinery::quantity::Quantity;

use crate::checks::invalid;

const HUGE_PAGES: &str = "hugepages-";
const REQUESTS: &str = "requests.";

/// What only a quota counts, in whole numbers.
const COUNTS: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// What pods compute with, as a quota may name it.
const COMPUTE: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// Those of them that a quota with a scope may name.
const SCOPED: &[&str] =
    &["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods"];

fn is_huge_pages(name: &str) -> bool {
    name.starts_with(HUGE_PAGES)
}

/// Whether Kubernetes itself gives the name its meaning.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A name that somebody else gives its meaning, such as a device plugin.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with(REQUESTS) && qualified_name(&format!("{REQUESTS}{name}")).is_empty()
}

/// Whether more may be promised of it than there is.
pub(crate) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// Whether a quota may name it without a domain.
pub(crate) fn is_standard_in_quotas(name: &str) -> bool {
    COUNTS.contains(&name)
        || COMPUTE.contains(&name)
        || name == "requests.storage"
        || is_huge_pages(name.strip_prefix(REQUESTS).unwrap_or(name))
}

/// Whether a quota of that scope may count the resource.
pub(crate) fn fits_scope(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => SCOPED.contains(&name),
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        _ => true,
    }
}

/// The name of any resource.
pub(crate) fn validate(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let faults = qualified_name(name);
    let is_standard = name == "storage" || is_standard_in_quotas(name) || name.contains('/');
    if faults.is_empty() && !is_standard {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, why));
    }
    invalid(path, name, faults, errors);
}

/// The name of a resource that containers have.
pub(crate) fn validate_of_containers(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    validate(name, path, errors);
    let known = ["cpu", "memory", "ephemeral-storage"].contains(&name) || is_huge_pages(name);
    if !name.contains('/') {
        if !known {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// The name of a resource that a quota counts.
pub(crate) fn validate_of_quotas(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    validate(name, path, errors);
    if !name.contains('/') && !is_standard_in_quotas(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for quota"));
    }
}

/// How much of a resource there may be.
pub(crate) fn validate_amount(name: &str, amount: Quantity, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if amount.signum() < 0 {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(path, amount.to_string(), why));
    }
    let is_counted = COUNTS.contains(&name) || is_extended(name);
    if is_counted && amount.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(path, amount.to_string(), "must be an integer"));
    }
}
