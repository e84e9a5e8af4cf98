//! What is wrong with what containers and pods ask for and may use.

use std::collections::BTreeMap;

use apimachinery::field::{FieldError, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::resource_names;
use crate::checks::{amount, quantity};
use crate::tree::{entries, items};

const HUGE_PAGES: &str = "hugepages-";

type Rule = fn(&str, &Path<'_>, &mut Vec<FieldError>);

/// Checks those of a container.
pub(crate) fn validate(resources: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(resources) = resources {
        check(resources, resource_names::validate_of_containers, path, errors);
    }
}

/// Checks what a pod uses beside its containers. Upstream takes it for their limits.
pub(crate) fn validate_limits(limits: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(limits) = limits {
        let resources = serde_json::json!({ "limits": limits });
        check(&resources, resource_names::validate_of_containers, path, errors);
    }
}

/// Checks those of the pod as a whole.
pub(crate) fn validate_pod(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(resources) = spec.get("resources") else { return };
    let path = path.child("resources");
    if crate::tree::text(spec, &["os", "name"]) == "windows" {
        errors.push(FieldError::forbidden(&path, "may not be set for a windows pod"));
        return;
    }
    if resources.get("claims").is_some() {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), why));
    }
    check(resources, pod_name, &path, errors);
    let at_containers = path.child("containers");
    for (index, container) in items(spec, &["containers"]).iter().enumerate() {
        for (name, limit) in entries(container, &["resources", "limits"]) {
            let (own, whole) = (quantity(limit), amount(resources, &["limits", name]));
            if let (Some(own), Some(whole)) = (own, whole)
                && own > whole
            {
                let why = format!("must be less than or equal to pod limits of {whole}");
                let (at_container, own) = (at_containers.index(index), own.to_string());
                errors.push(FieldError::invalid(&at_container.key(name).child("limits"), own, why));
            }
        }
    }
    for (kind, only) in [("requests", ""), ("limits", HUGE_PAGES)] {
        let at_kind = path.child(kind);
        for (name, sum) in together(spec, kind).into_iter().filter(|(name, _)| name.starts_with(only)) {
            if let Some(whole) = amount(resources, &[kind, name]).filter(|whole| sum > *whole) {
                let why = format!("must be greater than or equal to aggregate container {kind} of {sum}");
                errors.push(FieldError::invalid(&at_kind.key(name), whole.to_string(), why));
            }
        }
    }
}

/// What the containers ask for or may use when they need most: the ones that run on, or one that runs before them beside
/// those started earlier.
pub(super) fn together<'a>(spec: &'a Value, kind: &str) -> BTreeMap<&'a str, Quantity> {
    let (mut most, mut running): (BTreeMap<&str, Quantity>, BTreeMap<&str, Quantity>) = Default::default();
    for list in ["initContainers", "containers"] {
        for container in items(spec, &[list]) {
            let runs_on =
                list == "containers" || crate::tree::text(container, &["restartPolicy"]) == "Always";
            for (name, value) in entries(container, &["resources", kind]) {
                let Some(value) = quantity(value) else { continue };
                let sum = running.get(name.as_str()).map_or(value, |running| *running + value);
                if runs_on {
                    running.insert(name, sum);
                }
                let most = most.entry(name).or_insert(sum);
                *most = (*most).max(sum);
            }
        }
    }
    most
}

fn pod_name(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let before = errors.len();
    resource_names::validate(name, path, errors);
    if errors.len() == before && !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE_PAGES) {
        errors.push(FieldError::not_supported(path, name, &["cpu", HUGE_PAGES, "memory"]));
    }
}

fn check(resources: &Value, rule: Rule, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let (mut has_pages, mut has_others) = (false, false);
    for kind in ["limits", "requests"] {
        let at_kind = path.child(kind);
        for (name, value) in entries(resources, &[kind]) {
            let at_one = at_kind.key(name);
            rule(name, &at_one, errors);
            let Some(value) = quantity(value) else { continue };
            resource_names::validate_amount(name, value, &at_one, errors);
            if name.starts_with(HUGE_PAGES) && !is_whole_pages(name, value) {
                let why = format!("{value} is not positive integer multiple of {name}");
                errors.push(FieldError::invalid(&at_one, value.to_string(), why));
            }
            has_pages |= name.starts_with(HUGE_PAGES);
            has_others |= matches!(name.as_str(), "cpu" | "memory");
        }
    }
    let at_requests = path.child("requests");
    for (name, request) in entries(resources, &["requests"]) {
        let overcommits = resource_names::may_be_overcommitted(name);
        let Some(limit) = amount(resources, &["limits", name]) else {
            if !overcommits {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&path.child("limits"), why));
            }
            continue;
        };
        let Some(request) = quantity(request) else { continue };
        let words = match overcommits {
            true if request > limit => "less than or equal",
            false if request != limit => "equal",
            _ => continue,
        };
        let why = format!("must be {words} to {name} limit of {limit}");
        errors.push(FieldError::invalid(&at_requests, request.to_string(), why));
    }
    if has_pages && !has_others {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

fn is_whole_pages(name: &str, value: Quantity) -> bool {
    let page = name.strip_prefix(HUGE_PAGES).and_then(|size| size.parse::<Quantity>().ok());
    page.map(|page| page.value()).is_some_and(|page| page > 0 && value.value() % page == 0)
}
