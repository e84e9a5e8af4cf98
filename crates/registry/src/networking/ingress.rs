//! Ingresses.

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta::annotation;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::ingress_validation as validation;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{items, object, text};

/// Hosts that a row shows before it says how many more there are.
const SHOWN: usize = 3;
/// How a class was named before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

struct Ingress;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("networking.k8s.io", "v1", "Ingress"),
        rules: Rules { generation: Generation::Spec, status: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("Ingress")],
        scale: None,
        columns: Column::parse(&["Name", "Class", "Hosts", "Address", "Ports", "Age"]),
        strategy: Arc::new(Ingress),
    }
}

impl Strategy for Ingress {
    fn prepare_create(&self, ingress: &mut Value) {
        object(ingress, "status").insert("loadBalancer".into(), json!({}));
    }

    fn validate(&self, ingress: &Value, errors: &mut Vec<FieldError>) {
        validation::spec(ingress, None, errors);
        let class = ingress.pointer("/spec/ingressClassName").and_then(Value::as_str);
        if let (Some(class), Some(old)) = (class, annotation(ingress, CLASS_ANNOTATION))
            && class != old
        {
            validation::class_differs(CLASS_ANNOTATION, old, errors);
        }
    }

    fn validate_update(&self, ingress: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validation::spec(ingress, Some(old), errors);
    }

    fn validate_status(&self, ingress: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validation::status(ingress, old, errors);
    }

    fn cells(&self, ingress: &Value, now: Timestamp) -> Vec<Value> {
        let points = items(ingress, &["status", "loadBalancer", "ingress"]).iter();
        let mut addresses: Vec<&str> = points
            .map(|point| match text(point, &["ip"]) {
                "" => text(point, &["hostname"]),
                ip => ip,
            })
            .filter(|address| !address.is_empty())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        let encrypted = !items(ingress, &["spec", "tls"]).is_empty();
        vec![
            table::name(ingress),
            table::or_none(text(ingress, &["spec", "ingressClassName"])),
            hosts(items(ingress, &["spec", "rules"])),
            addresses.join(",").into(),
            if encrypted { "80, 443" } else { "80" }.into(),
            table::age(ingress, now),
        ]
    }
}

fn hosts(rules: &[Value]) -> Value {
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == SHOWN;
        let host = text(rule, &["host"]);
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".into(),
        (false, false) => shown.join(",").into(),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - SHOWN).into(),
    }
}
