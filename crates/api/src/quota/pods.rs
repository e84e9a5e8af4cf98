//! What pods take: themselves, and what they compute with.

use std::collections::BTreeSet;

use apimachinery::meta::names::qualified_name;
use apimachinery::meta::{deletion_grace_period, deletion_timestamp};
use apimachinery::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, HUGE_PAGES, REQUESTS, amounts, at, items, raise, text};

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What every container must say something about where a quota limits it. Upstream calls this a mistake that later
/// resources do not repeat.
const NEEDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

pub(super) fn concerns(name: &str) -> bool {
    let own = name.strip_prefix(REQUESTS).or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    let asked = name.strip_prefix(REQUESTS);
    name == "pods"
        || COMPUTE.contains(&own)
        || asked.unwrap_or(name).starts_with(HUGE_PAGES)
        || asked.is_some_and(|_| !is_native(name))
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with(REQUESTS) && qualified_name(&format!("{REQUESTS}{name}")).is_empty()
}

pub(super) fn add(used: &mut Amounts, pod: &Value, now: Timestamp) {
    if is_running(pod, now) {
        used.insert("pods".into(), Quantity::from_units(1));
        used.extend(named(&requests(pod), &limits(pod)));
    }
}

/// Whether the pod takes anything beside its place: it has not ended, and is not overdue.
fn is_running(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let grace = deletion_grace_period(pod).map(SignedDuration::from_secs);
    let overdue = deletion_timestamp(pod)
        .zip(grace)
        .and_then(|(since, grace)| since.checked_add(grace).ok())
        .is_some_and(|deadline| now > deadline);
    !overdue
}

/// Requests and limits under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for name in COMPUTE {
        if let Some(request) = requests.get(name) {
            used.insert(name.to_owned(), *request);
            used.insert(format!("{REQUESTS}{name}"), *request);
        }
        if let Some(limit) = limits.get(name) {
            used.insert(format!("limits.{name}"), *limit);
        }
    }
    for (name, request) in requests {
        if name.starts_with(HUGE_PAGES) {
            used.insert(name.clone(), *request);
        }
        if name.starts_with(HUGE_PAGES) || is_extended(name) {
            used.insert(format!("{REQUESTS}{name}"), *request);
        }
    }
    used
}

/// What the pod asks for in all.
pub fn requests(pod: &Value) -> Amounts {
    let mut total = whole(pod, "requests");
    super::add(&mut total, &amounts(at(pod, &["spec", "overhead"])));
    total
}

/// What the pod may have at most. Overhead counts where there is a limit at all.
pub fn limits(pod: &Value) -> Amounts {
    let mut total = whole(pod, "limits");
    let overhead = amounts(at(pod, &["spec", "overhead"]));
    for (name, limit) in &mut total {
        if let Some(more) = overhead.get(name).filter(|_| !limit.is_zero()) {
            *limit = *limit + *more;
        }
    }
    total
}

/// The containers together with those that stay beside them, or the hungriest moment before, whichever is more; what is
/// said of the pod as a whole takes their place.
fn whole(pod: &Value, field: &str) -> Amounts {
    let mut running = Amounts::new();
    for container in items(pod, &["spec", "containers"]) {
        super::add(&mut running, &own(pod, container, field));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in items(pod, &["spec", "initContainers"]) {
        let own = own(pod, container, field);
        let mut moment = sidecars.clone();
        super::add(&mut moment, &own);
        if text(container, &["restartPolicy"]) == "Always" {
            super::add(&mut running, &own);
            sidecars.clone_from(&moment);
        }
        raise(&mut starting, &moment);
    }
    raise(&mut running, &starting);
    let of_pod = amounts(at(pod, &["spec", "resources", field]));
    let replaces = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES);
    running.extend(of_pod.into_iter().filter(|(name, _)| replaces(name)));
    running
}

/// A container's own amounts; while it is resized, what it still holds counts.
fn own(pod: &Value, container: &Value, field: &str) -> Amounts {
    let mut own = amounts(at(container, &["resources", field]));
    if field == "requests" {
        for list in ["containerStatuses", "initContainerStatuses"] {
            let statuses = items(pod, &["status", list]).iter();
            let of = statuses.filter(|status| text(status, &["name"]) == text(container, &["name"]));
            of.for_each(|status| raise(&mut own, &amounts(at(status, &["allocatedResources"]))));
        }
    }
    own
}

/// Which of those names of a quota containers of the pod say nothing about: `cpu for: a,b; memory for: a`.
pub fn missing<'n>(pod: &Value, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let needed: BTreeSet<&str> = names.filter(|name| NEEDED.contains(name)).collect();
    let resources = |owner: &Value, field| amounts(at(owner, &["resources", field]));
    let of_pod = at(pod, &["spec"])
        .map(|spec| named(&resources(spec, "requests"), &resources(spec, "limits")))
        .unwrap_or_default();
    let mut said = Vec::new();
    for name in needed.into_iter().filter(|name| !of_pod.contains_key(*name)) {
        let containers =
            items(pod, &["spec", "containers"]).iter().chain(items(pod, &["spec", "initContainers"]));
        let silent: BTreeSet<&str> = containers
            .filter(|each| {
                !named(&resources(each, "requests"), &resources(each, "limits")).contains_key(name)
            })
            .map(|each| text(each, &["name"]))
            .collect();
        if !silent.is_empty() {
            said.push(format!("{name} for: {}", silent.into_iter().collect::<Vec<_>>().join(",")));
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}
