//! Nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::cidr::Cidr;
use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::{label_value, qualified_name};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod_status::condition;
use crate::cache::Field;
use crate::checks::invalid;
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{entries, is_true, items, object, text};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

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
        validate_ranges(node, &Path::new("spec"), errors);
        validate_taints(node, errors);
    }

    fn validate_update(&self, node: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        self.validate(node, errors);
        validate_kept(node, old, &Path::new("spec"), errors);
        // Upstream looks at them twice.
        validate_taints(node, errors);
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
        spec.insert("podCIDRs".into(), json!([one]));
    }
}

fn validate_taints(node: &Value, errors: &mut Vec<FieldError>) {
    // Upstream's words for where they are.
    let metadata = Path::new("metadata");
    let path = metadata.child("taints");
    let mut seen = BTreeSet::new();
    for (index, taint) in items(node, &["spec", "taints"]).iter().enumerate() {
        let at = path.index(index);
        let of = |field| text(taint, &[field]);
        let (key, value, effect) = (of("key"), of("value"), of("effect"));
        invalid(&at.child("key"), key, qualified_name(key), errors);
        invalid(&at.child("value"), value, label_value(value), errors);
        if effect.is_empty() {
            errors.push(FieldError::required(&at.child("effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(FieldError::not_supported(&at.child("effect"), effect, &EFFECTS));
        }
        if !seen.insert((key, effect)) {
            let mut fault = FieldError::duplicate(&at, shown(taint));
            fault.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(fault);
        }
    }
}

/// What a node keeps once it has it.
fn validate_kept(node: &Value, old: &Value, spec: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut forbid = |field, why: &str| errors.push(FieldError::forbidden(&spec.child(field), why));
    let (now, before) = (items(node, &["spec", "podCIDRs"]), items(old, &["spec", "podCIDRs"]));
    let changed = match (before.len(), now.len()) {
        (0, _) => 0,
        (before, now) if before != now => 1,
        _ => before.iter().zip(now).filter(|(before, now)| before != now).count(),
    };
    for _ in 0..changed {
        forbid("podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
    }
    let of = |node, field| text(node, &["spec", field]);
    let provider = of(old, "providerID");
    if !provider.is_empty() && provider != of(node, "providerID") {
        forbid("providerID", "node updates may not change providerID except from \"\" to valid");
    }
    if of(old, "externalID") != of(node, "externalID") {
        forbid("externalID", "may not be updated");
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

/// A taint as upstream prints one.
fn shown(taint: &Value) -> Value {
    let of = |field| text(taint, &[field]);
    let since = taint.get("timeAdded").cloned().unwrap_or_default();
    json!({"Key": of("key"), "Value": of("value"), "Effect": of("effect"), "TimeAdded": since})
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_may_not_say_and_not_change() {
        let check = |new: Value, old: Option<Value>, expected: &[&str]| {
            let (new, mut errors) = (json!({"spec": new}), Vec::new());
            match old {
                Some(old) => Node.validate_update(&new, &json!({"spec": old}), &mut errors),
                None => Node.validate(&new, &mut errors),
            }
            let found: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(found, expected, "{new}");
        };
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        check(json!({"taints": [taint]}), None, &[]);
        check(json!({"taints": [taint, taint]}), None, &["metadata.taints[1]"]);
        check(json!({"taints": [{"key": "a"}]}), None, &["metadata.taints[0].effect"]);
        let ranges = json!({"podCIDRs": ["10.1.0.0/24"]});
        check(ranges.clone(), Some(json!({})), &[]);
        check(json!({}), Some(ranges.clone()), &["spec.podCIDRs"]);
        check(json!({"podCIDRs": ["10.2.0.0/24"]}), Some(ranges), &["spec.podCIDRs"]);
        check(json!({"providerID": "b"}), Some(json!({"providerID": "a"})), &["spec.providerID"]);
        check(json!({"externalID": "b"}), Some(json!({})), &["spec.externalID"]);
    }
}
