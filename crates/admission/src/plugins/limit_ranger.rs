//! LimitRanges: containers that say nothing get their namespace's defaults, and nothing is smaller or larger than allowed.

use std::collections::BTreeMap;

use api::quota::{Amounts, amounts, limits, requests};
use apimachinery::gvk::GroupResource;
use apimachinery::meta::annotations_mut;
use apimachinery::quantity::Quantity;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::tree::{at, items, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const RANGES: GroupResource = GroupResource::of("", "limitranges");
/// Where a pod says what was set for it.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The largest amount that is compared to the thousandth.
const MAX_MILLI: i64 = i64::MAX / 1000;
/// The lists of containers, and what a container of each is called.
const CONTAINERS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods") || attributes.is("", "persistentvolumeclaims"),
            Operation::Update => attributes.is("", "persistentvolumeclaims"),
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        if attributes.is("", "pods") {
            for range in lookup.known(&RANGES, attributes.namespace).await? {
                set_defaults(object, &range);
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        for range in lookup.known(&RANGES, attributes.namespace).await? {
            let mut faults = Vec::new();
            for limit in items(&range, &["spec", "limits"]) {
                if attributes.is("", "pods") {
                    check_pod(limit, object, &mut faults);
                } else {
                    check_claim(limit, object, &mut faults);
                }
            }
            match faults.len() {
                0 => {}
                1 => return Err(attributes.forbid(faults.swap_remove(0))),
                _ => return Err(attributes.forbid(format!("[{}]", faults.join(", ")))),
            }
        }
        Ok(())
    }
}

/// Gives the containers what they do not say themselves, and notes that in an annotation.
fn set_defaults(pod: &mut Value, range: &Value) {
    let (mut of_requests, mut of_limits) = (BTreeMap::new(), BTreeMap::new());
    let limits = items(range, &["spec", "limits"]).iter();
    for limit in limits.filter(|limit| text(limit, &["type"]) == "Container") {
        for (field, defaults) in [("defaultRequest", &mut of_requests), ("default", &mut of_limits)] {
            let given = at(limit, &[field]).and_then(Value::as_object).into_iter().flatten();
            defaults.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    let mut notes = Vec::new();
    for (list, word) in CONTAINERS {
        let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list));
        for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text(container, &["name"]).to_owned();
            // Before limits are filled in, as upstream does both from what was there.
            for (field, defaults, what) in
                [("requests", &of_requests, "request"), ("limits", &of_limits, "limit")]
            {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        annotations_mut(pod).insert(ANNOTATION.into(), note.into());
    }
}

/// Sets amounts that a container does not have; gives their names.
fn fill(container: &mut Value, field: &str, defaults: &BTreeMap<String, Value>) -> Vec<String> {
    let Some(container) = container.as_object_mut().filter(|_| !defaults.is_empty()) else {
        return Vec::new();
    };
    let object = || Value::Object(Map::new());
    let resources = container.entry("resources").or_insert_with(object);
    let Some(resources) = resources.as_object_mut() else { return Vec::new() };
    let Some(given) = resources.entry(field).or_insert_with(object).as_object_mut() else {
        return Vec::new();
    };
    let missing: Vec<&String> = defaults.keys().filter(|name| !given.contains_key(*name)).collect();
    for name in &missing {
        if let Some(value) = defaults.get(*name) {
            given.insert((*name).clone(), value.clone());
        }
    }
    missing.into_iter().cloned().collect()
}

fn check_pod(limit: &Value, pod: &Value, faults: &mut Vec<String>) {
    match text(limit, &["type"]) {
        "Container" => {
            for (list, _) in CONTAINERS {
                for container in items(pod, &["spec", list]) {
                    let of = |field| amounts(at(container, &["resources", field]));
                    check(limit, &of("requests"), &of("limits"), faults);
                }
            }
        }
        "Pod" => check(limit, &requests(pod), &limits(pod), faults),
        _ => {}
    }
}

/// Of a claim only what it asks for counts.
fn check_claim(limit: &Value, claim: &Value, faults: &mut Vec<String>) {
    let kind = text(limit, &["type"]);
    if kind != "PersistentVolumeClaim" {
        return;
    }
    let asked = amounts(at(claim, &["spec", "resources", "requests"]));
    for (name, least) in amounts(at(limit, &["min"])) {
        faults.extend(too_little(kind, &name, least, asked.get(&name), None));
    }
    for (name, most) in amounts(at(limit, &["max"])) {
        match asked.get(&name) {
            None => {
                faults.push(format!("maximum {name} usage per {kind} is {most}.  No request is specified"))
            }
            Some(request) if *request > most => {
                faults.push(format!("maximum {name} usage per {kind} is {most}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
}

fn check(limit: &Value, requests: &Amounts, limits: &Amounts, faults: &mut Vec<String>) {
    let kind = text(limit, &["type"]);
    for (name, least) in amounts(at(limit, &["min"])) {
        faults.extend(too_little(kind, &name, least, requests.get(&name), limits.get(&name)));
    }
    for (name, most) in amounts(at(limit, &["max"])) {
        faults.extend(too_much(kind, &name, most, requests.get(&name), limits.get(&name)));
    }
    for (name, ratio) in amounts(at(limit, &["maxLimitRequestRatio"])) {
        faults.extend(too_far_apart(kind, &name, ratio, requests.get(&name), limits.get(&name)));
    }
}

fn too_little(
    kind: &str,
    name: &str,
    least: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("minimum {name} usage per {kind} is {least}");
    let Some(request) = request else { return Some(format!("{rule}.  No request is specified")) };
    if *request < least {
        return Some(format!("{rule}, but request is {request}"));
    }
    limit.filter(|limit| **limit < least).map(|limit| format!("{rule}, but limit is {limit}"))
}

fn too_much(
    kind: &str,
    name: &str,
    most: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("maximum {name} usage per {kind} is {most}");
    let Some(limit) = limit else { return Some(format!("{rule}.  No limit is specified")) };
    if *limit > most {
        return Some(format!("{rule}, but limit is {limit}"));
    }
    request.filter(|request| **request > most).map(|request| format!("{rule}, but request is {request}"))
}

#[allow(clippy::cast_precision_loss, reason = "upstream compares as floats too")]
fn too_far_apart(
    kind: &str,
    name: &str,
    ratio: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let rule = format!("{name} max limit to request ratio per {kind} is {ratio}");
    let given = |amount: Option<&Quantity>| amount.copied().filter(|amount| !amount.is_zero());
    let Some(request) = given(request) else {
        return Some(format!("{rule}, but no request is specified or request is 0"));
    };
    let Some(limit) = given(limit) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    let fine = [request, limit, ratio].iter().all(|amount| amount.value() <= MAX_MILLI);
    let observed = if fine {
        limit.milli_value() as f64 / request.milli_value() as f64
    } else {
        limit.value() as f64 / request.value() as f64
    };
    let most =
        if ratio.value() <= MAX_MILLI { ratio.milli_value() as f64 / 1000.0 } else { ratio.value() as f64 };
    (observed > most).then(|| format!("{rule}, but provided ratio is {observed:.6}"))
}
