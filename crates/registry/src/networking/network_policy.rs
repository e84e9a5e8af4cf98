//! NetworkPolicies.

use std::sync::Arc;

use apimachinery::cidr::Cidr;
use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names;
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, default, items, items_mut, map, object, text};

const TYPES: &[&str] = &["Egress", "Ingress"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// The two directions, and what the peers of a rule of each are called.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

struct NetworkPolicy;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("networking.k8s.io", "v1", "NetworkPolicy"),
        rules: Rules { generation: Generation::Spec, ..Rules::default() },
        fields: Vec::new(),
        subresources: Vec::new(),
        scale: None,
        columns: Column::parse(&["Name", "Pod-Selector", "Age"]),
        strategy: Arc::new(NetworkPolicy),
    }
}

impl Strategy for NetworkPolicy {
    fn default(&self, policy: &mut Value) {
        object(policy, "spec");
        let Some(spec) = policy.get_mut("spec") else { return };
        // Upstream's decoded form has a selector that was not given, and it selects everything.
        object(spec, "podSelector");
        for (direction, _) in DIRECTIONS {
            for rule in items_mut(spec, &[direction]) {
                items_mut(rule, &["ports"]).iter_mut().for_each(|port| default(port, "protocol", "TCP"));
            }
        }
        if items(spec, &["policyTypes"]).is_empty() {
            let both = !items(spec, &["egress"]).is_empty();
            let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            map(spec).insert("policyTypes".into(), types);
        }
    }

    fn validate(&self, policy: &Value, errors: &mut Vec<FieldError>) {
        validate(policy, &[], errors);
    }

    fn validate_update(&self, policy: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let known: Vec<&str> = ranges(old).into_iter().map(|(_, range)| range).collect();
        validate(policy, &known, errors);
    }

    fn warnings(&self, policy: &Value) -> Vec<String> {
        let of = |(path, range): &(String, &str)| Cidr::warnings(range, &Path::new(path));
        ranges(policy).iter().flat_map(of).collect()
    }

    fn cells(&self, policy: &Value, now: Timestamp) -> Vec<Value> {
        let selector = at(policy, &["spec", "podSelector"]).unwrap_or(&Value::Null);
        let selector = match Selector::from_object(selector, &Path::empty()) {
            Ok(selector) => table::or_none(&selector.to_string()),
            Err(_) => "<error>".into(),
        };
        vec![table::name(policy), selector, table::age(policy, now)]
    }
}

/// Every range of addresses in a policy, and where it is.
fn ranges(policy: &Value) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for (direction, peers) in DIRECTIONS {
        for (rule, tree) in items(policy, &["spec", direction]).iter().enumerate() {
            for (peer, tree) in items(tree, &[peers]).iter().enumerate() {
                let at = format!("spec.{direction}[{rule}].{peers}[{peer}].ipBlock");
                if let Some(range) = tree.pointer("/ipBlock/cidr").and_then(Value::as_str) {
                    found.push((format!("{at}.cidr"), range));
                }
                for (index, range) in items(tree, &["ipBlock", "except"]).iter().enumerate() {
                    found.push((format!("{at}.except[{index}]"), range.as_str().unwrap_or_default()));
                }
            }
        }
    }
    found
}

/// `known` are ranges that the policy had before: they are not looked at again.
fn validate(policy: &Value, known: &[&str], errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let tree = policy.get("spec").unwrap_or(&Value::Null);
    validate_selector(tree, "podSelector", &spec, errors);
    for (direction, peers) in DIRECTIONS {
        let path = spec.child(direction);
        for (index, rule) in items(tree, &[direction]).iter().enumerate() {
            let at_rule = path.index(index);
            let (ports, others) = (at_rule.child("ports"), at_rule.child(peers));
            for (index, port) in items(rule, &["ports"]).iter().enumerate() {
                validate_port(port, &ports.index(index), errors);
            }
            for (index, peer) in items(rule, &[peers]).iter().enumerate() {
                validate_peer(peer, &others.index(index), known, errors);
            }
        }
    }
    let (types, path) = (items(tree, &["policyTypes"]), spec.child("policyTypes"));
    if types.len() > TYPES.len() {
        let why = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(&path, types.to_vec(), why));
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        if !TYPES.contains(&kind) {
            errors.push(FieldError::not_supported(&path.index(index), kind, TYPES));
        }
    }
}

fn validate_selector(tree: &Value, field: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(selector) = tree.get(field)
        && let Err(found) = Selector::from_object(selector, &path.child(field))
    {
        errors.extend(found);
    }
}

fn validate_port(port: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let protocol = text(port, &["protocol"]);
    if !PROTOCOLS.contains(&protocol) {
        errors.push(FieldError::not_supported(&path.child("protocol"), protocol, PROTOCOLS));
    }
    let at_port = path.child("port");
    let (at_end, end) = (path.child("endPort"), port.get("endPort").and_then(Value::as_i64));
    match port.get("port") {
        Some(Value::String(name)) => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&at_end, end, why));
            }
            let faults = names::port_name(name).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_port, name.as_str(), why)));
        }
        Some(number) => {
            let number = number.as_i64().unwrap_or_default();
            let faults = names::port_number(number).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_port, number, why)));
            let Some(end) = end else { return };
            if end < number {
                // The value that upstream shows here is the port's.
                errors.push(FieldError::invalid(&at_end, number, "must be greater than or equal to `port`"));
            }
            let faults = names::port_number(end).into_iter();
            errors.extend(faults.map(|why| FieldError::invalid(&at_end, end, why)));
        }
        None => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is not specified";
                errors.push(FieldError::invalid(&at_end, end, why));
            }
        }
    }
}

fn validate_peer(peer: &Value, path: &Path<'_>, known: &[&str], errors: &mut Vec<FieldError>) {
    let has = |field| peer.get(field).is_some_and(|value: &Value| !value.is_null());
    validate_selector(peer, "podSelector", path, errors);
    validate_selector(peer, "namespaceSelector", path, errors);
    let selects = has("podSelector") || has("namespaceSelector");
    if has("ipBlock") {
        validate_block(&peer["ipBlock"], &path.child("ipBlock"), known, errors);
        if selects {
            errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
        }
    } else if !selects {
        errors.push(FieldError::required(path, "must specify a peer"));
    }
}

fn validate_block(block: &Value, path: &Path<'_>, known: &[&str], errors: &mut Vec<FieldError>) {
    let check = |range: &str, path: &Path<'_>| Cidr::check(range, path).filter(|_| !known.contains(&range));
    let (range, at_range) = (text(block, &["cidr"]), path.child("cidr"));
    if range.is_empty() {
        errors.push(FieldError::required(&at_range, ""));
        return;
    }
    errors.extend(check(range, &at_range));
    let Some(whole) = Cidr::parse_leniently(range) else { return };
    let excepts = path.child("except");
    for (index, except) in items(block, &["except"]).iter().enumerate() {
        let (except, at_except) = (except.as_str().unwrap_or_default(), excepts.index(index));
        errors.extend(check(except, &at_except));
        if Cidr::parse_leniently(except).is_some_and(|except| !except.is_strictly_within(&whole)) {
            let why = "must be a strict subset of `cidr`";
            errors.push(FieldError::invalid(&at_except, except, why));
        }
    }
}
