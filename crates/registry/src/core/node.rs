//! Nodes.

use std::sync::Arc;

use apimachinery::cidr::Cidr;
use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::pod_status::condition;
use crate::cache::Field;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{entries, is_true, items, object, text};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

struct Node;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("", "v1", "Node"),
        rules: Rules { status: true, status_on_create: true, ..Rules::default() },
        fields: vec![Field::from("spec.unschedulable", &["spec.unschedulable"], "false")],
        subresources: vec![table::proxy("NodeProxyOptions"), table::status("Node")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "Internal-IP+",
            "External-IP+",
            "OS-Image+",
            "Kernel-Version+",
            "Container-Runtime+",
        ]),
        strategy: Arc::new(Node),
    }
}

impl Strategy for Node {
    fn default(&self, node: &mut Value) {
        pair_ranges(node);
        let Some(status) = node.get_mut("status") else { return };
        // What a node has is what pods may have of it, unless it says otherwise.
        let capacity = status.get("capacity").cloned();
        if let Some(capacity) = capacity.filter(|_| status.get("allocatable").is_none()) {
            object(node, "status").insert("allocatable".into(), capacity);
        }
    }

    fn prepare_create(&self, node: &mut Value) {
        object(node, "spec");
    }

    fn validate(&self, node: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        validate_ranges(node, &spec, errors);
        let path = spec.child("taints");
        let mut seen = std::collections::BTreeSet::new();
        for (index, taint) in items(node, &["spec", "taints"]).iter().enumerate() {
            let at = path.index(index);
            let (key, effect) = (text(taint, &["key"]), text(taint, &["effect"]));
            for why in apimachinery::meta::names::qualified_name(key) {
                errors.push(FieldError::invalid(&at.child("key"), key, why));
            }
            let value = text(taint, &["value"]);
            for why in apimachinery::meta::names::label_value(value) {
                errors.push(FieldError::invalid(&at.child("value"), value, why));
            }
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            if effect.is_empty() {
                errors.push(FieldError::required(&at.child("effect"), ""));
            } else if !effects.contains(&effect) {
                errors.push(FieldError::not_supported(&at.child("effect"), effect, &effects));
            }
            if !seen.insert((key, effect)) {
                errors.push(FieldError::duplicate(&at, taint.clone()));
            }
        }
    }

    fn validate_update(&self, node: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(node, errors);
        let spec = Path::new("spec");
        for field in ["podCIDR", "podCIDRs", "providerID"] {
            let before = old.get("spec").and_then(|spec| spec.get(field));
            let now = node.get("spec").and_then(|spec| spec.get(field));
            if before.is_some() && before != now {
                let why = "node updates may not change this field once it is set";
                errors.push(FieldError::forbidden(&spec.child(field), why));
            }
        }
    }

    fn cells(&self, node: &Value, now: Timestamp) -> Vec<Value> {
        let info = |field: &str| match text(node, &["status", "nodeInfo", field]) {
            "" => "<unknown>".into(),
            value => Value::from(value),
        };
        vec![
            table::name(node),
            status(node).into(),
            roles(node),
            table::age(node, now),
            text(node, &["status", "nodeInfo", "kubeletVersion"]).into(),
            address(node, "InternalIP"),
            address(node, "ExternalIP"),
            info("osImage"),
            info("kernelVersion"),
            info("containerRuntimeVersion"),
        ]
    }
}

/// `podCIDR` and `podCIDRs` say the same; the one is the first of the others, whatever those say.
fn pair_ranges(node: &mut Value) {
    let one = text(node, &["spec", "podCIDR"]).to_owned();
    let first =
        items(node, &["spec", "podCIDRs"]).first().and_then(Value::as_str).unwrap_or_default().to_owned();
    if one == first {
        return;
    }
    let spec = object(node, "spec");
    if one.is_empty() {
        spec.insert("podCIDR".into(), first.into());
    } else {
        spec.insert("podCIDRs".into(), serde_json::json!([one]));
    }
}

fn validate_ranges(node: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = spec.child("podCIDRs");
    let all = items(node, &["spec", "podCIDRs"]);
    let texts = all.iter().map(|range| range.as_str().unwrap_or_default());
    errors
        .extend(texts.clone().enumerate().filter_map(|(index, text)| Cidr::check(text, &path.index(index))));
    let mut families: Vec<bool> =
        texts.filter_map(Cidr::parse_leniently).map(|range| range.address.is_ipv6()).collect();
    let count = families.len();
    families.sort_unstable();
    families.dedup();
    if count > families.len() {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&path, all.to_vec(), why));
    }
}

fn status(node: &Value) -> String {
    let ready = match condition(node, "Ready").map(|found| text(found, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let disabled = if is_true(node, &["spec", "unschedulable"]) { ",SchedulingDisabled" } else { "" };
    format!("{ready}{disabled}")
}

fn roles(node: &Value) -> Value {
    let mut roles: Vec<&str> = entries(node, &["metadata", "labels"])
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role).filter(|role| !role.is_empty()),
            None if key == ROLE_LABEL => value.as_str().filter(|role| !role.is_empty()),
            None => None,
        })
        .collect();
    roles.sort_unstable();
    table::joined(roles.into_iter())
}

fn address(node: &Value, kind: &str) -> Value {
    let mut all = items(node, &["status", "addresses"]).iter();
    let found = all.find(|address| text(address, &["type"]) == kind);
    table::or_none(found.map(|address| text(address, &["address"])).unwrap_or_default())
}
