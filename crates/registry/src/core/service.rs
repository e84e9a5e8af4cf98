//! Services.

use std::sync::Arc;

use apimachinery::field::FieldError;
use apimachinery::meta::NameRule;
use apimachinery::selector::Selector;
use apimachinery::status::Status;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{service_claims, service_families, service_fields, service_validation};
use crate::cache::Field;
use crate::claims::Claims;
use crate::kind::Column;
use crate::ranges::Ranges;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, copy, default, default_text, items, items_mut, map, number, object, text};

struct Service {
    /// The families that the cluster has addresses of, the default one first.
    families: Vec<&'static str>,
}

/// `families` are those that the cluster has addresses of for services, the default one first.
pub(crate) fn builtin(families: &[&'static str]) -> Builtin {
    Builtin {
        name: ("", "v1", "Service"),
        rules: Rules {
            name: NameRule::Label,
            status: true,
            create_on_update: true,
            shows_deleted: true,
            ..Rules::default()
        },
        fields: vec![Field::at("spec.clusterIP"), Field::at("spec.type")],
        subresources: vec![table::proxy("ServiceProxyOptions"), table::status("Service")],
        scale: None,
        columns: Column::parse(&["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector+"]),
        strategy: Arc::new(Service { families: families.to_vec() }),
    }
}

impl Strategy for Service {
    fn default(&self, service: &mut Value) {
        object(service, "spec");
        let Some(spec) = service.get_mut("spec") else { return };
        default_text(spec, "sessionAffinity", "None");
        default_text(spec, "type", "ClusterIP");
        if text(spec, &["sessionAffinity"]) == "ClientIP" {
            const THREE_HOURS: i64 = 10800;
            let affinity = object(spec, "sessionAffinityConfig");
            let client = affinity.entry("clientIP").or_insert_with(|| json!({}));
            default(client, "timeoutSeconds", THREE_HOURS);
        } else {
            map(spec).remove("sessionAffinityConfig");
        }
        for port in items_mut(spec, &["ports"]) {
            default_text(port, "protocol", "TCP");
            let target =
                port.get("targetPort").is_none_or(|target| *target == json!(0) || *target == json!(""));
            if let Some(number) = port.get("port").cloned().filter(|_| target) {
                map(port).insert("targetPort".into(), number);
            }
        }
        let kind = text(spec, &["type"]).to_owned();
        if kind != "ExternalName" {
            default(spec, "internalTrafficPolicy", "Cluster");
        }
        if service_validation::is_outward(spec) {
            default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
            for point in items_mut(service, &["status", "loadBalancer", "ingress"]) {
                if !text(point, &["ip"]).is_empty() {
                    default_text(point, "ipMode", "VIP");
                }
            }
        }
    }

    fn prepare_create(&self, service: &mut Value) {
        object(service, "status").insert("loadBalancer".into(), json!({}));
        service_families::normalize(service, None);
        service_families::infer(service, None, &self.families);
    }

    fn prepare_update(&self, service: &mut Value, old: &Value) {
        drop_what_went_with_the_type(service, old);
        keep_what_was_chosen(service, old);
        service_families::normalize(service, Some(old));
        service_families::infer(service, Some(old), &self.families);
        service_families::drop_with_the_type(service, old);
    }

    fn validate(&self, service: &Value, errors: &mut Vec<FieldError>) {
        errors.extend(service_families::errors(service, None, &self.families));
        if errors.is_empty() {
            service_validation::validate(service, errors);
        }
    }

    fn validate_update(&self, service: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        errors.extend(service_families::errors(service, Some(old), &self.families));
        if errors.is_empty() {
            service_validation::validate_update(service, old, errors);
        }
    }

    fn validate_status(&self, service: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        service_validation::validate_status(service, errors);
    }

    fn warnings(&self, service: &Value) -> Vec<String> {
        service_fields::warnings(service)
    }

    fn claim(&self, ranges: &Ranges, service: &mut Value, old: Option<&Value>) -> Result<Claims, Status> {
        service_claims::claim(ranges, service, old)
    }

    fn release(&self, old: &Value) -> Claims {
        service_claims::release(old)
    }

    fn unchoose(&self, claim: &str, service: &mut Value) {
        service_claims::unchoose(claim, service);
    }

    fn claimed(&self, claim: &str, namespace: &str, name: &str, stamp: &dyn Fn(&mut Value)) -> Option<Bytes> {
        service_claims::claimed(claim, namespace, name, stamp)
    }

    fn taken(&self, claim: &str, service: &Value) -> FieldError {
        service_claims::taken(claim, service)
    }

    fn cells(&self, service: &Value, now: Timestamp) -> Vec<Value> {
        let kind = text(service, &["spec", "type"]);
        let cluster = match text(service, &["spec", "clusterIP"]) {
            "" => table::NONE,
            address => address,
        };
        let selector = at(service, &["spec", "selector"]).and_then(Value::as_object);
        let selector = Selector::from_map(selector).to_string();
        vec![
            table::name(service),
            kind.into(),
            cluster.into(),
            external(service, kind),
            ports(service),
            table::age(service, now),
            table::or_none(&selector),
        ]
    }
}

/// Fields that the new type does not have go with the old one, where the client left them as they were: whoever changes
/// only the type of what was read need not know them.
fn drop_what_went_with_the_type(service: &mut Value, old: &Value) {
    /// Whether a spec has fields, and which.
    type Having = (fn(&Value) -> bool, &'static [&'static str]);
    let balanced = |spec: &Value| text(spec, &["type"]) == "LoadBalancer";
    let went: [Having; 3] = [
        (service_validation::is_outward, &["externalTrafficPolicy"]),
        (service_validation::is_asked_for_health, &["healthCheckNodePort"]),
        (balanced, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]),
    ];
    let before = old.get("spec").unwrap_or(&Value::Null);
    let Some(spec) = service.get_mut("spec") else { return };
    for (has, fields) in went {
        for field in fields.iter().filter(|_| has(before) && !has(spec)).collect::<Vec<_>>() {
            if spec.get(*field) == before.get(*field) {
                map(spec).remove(*field);
            }
        }
    }
    let unset = number(spec, &["healthCheckNodePort"]).unwrap_or_default() == 0;
    if unset
        && service_validation::is_asked_for_health(spec)
        && service_validation::is_asked_for_health(before)
    {
        copy(spec, before, "healthCheckNodePort");
    }
}

/// A client that writes the service back without what was chosen for it does not lose it.
fn keep_what_was_chosen(service: &mut Value, old: &Value) {
    let kind = text(service, &["spec", "type"]).to_owned();
    let before = text(old, &["spec", "type"]);
    if kind != "ExternalName" && before != "ExternalName" {
        let is_empty = |value: &Value| match value {
            Value::Array(all) => all.is_empty(),
            other => other.as_str().is_none_or(str::is_empty),
        };
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(spec) = service.get_mut("spec")
                && spec.get(field).is_none_or(is_empty)
            {
                copy(spec, &old["spec"], field);
            }
        }
    }
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") || !matches!(before, "NodePort" | "LoadBalancer")
    {
        if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            forget_node_ports(service, old);
        }
        return;
    }
    let known = items(old, &["spec", "ports"]).to_vec();
    for port in items_mut(service, &["spec", "ports"]) {
        if number(port, &["nodePort"]).unwrap_or_default() != 0 {
            continue;
        }
        let same =
            |other: &&Value| ["port", "protocol"].iter().all(|field| other.get(field) == port.get(field));
        if let Some(chosen) = known.iter().find(same).and_then(|known| known.get("nodePort")).cloned() {
            map(port).insert("nodePort".into(), chosen);
        }
    }
}

/// A service that no longer has node ports drops those that it was read with.
fn forget_node_ports(service: &mut Value, old: &Value) {
    let known: Vec<Value> =
        items(old, &["spec", "ports"]).iter().filter_map(|port| port.get("nodePort").cloned()).collect();
    for port in items_mut(service, &["spec", "ports"]) {
        if port.get("nodePort").is_some_and(|chosen| known.contains(chosen)) {
            map(port).remove("nodePort");
        }
    }
}

fn external(service: &Value, kind: &str) -> Value {
    let own = items(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str);
    match kind {
        "ExternalName" => text(service, &["spec", "externalName"]).into(),
        "LoadBalancer" => {
            let ingress = items(service, &["status", "loadBalancer", "ingress"]).iter();
            let given = ingress.map(|one| match text(one, &["ip"]) {
                "" => text(one, &["hostname"]),
                ip => ip,
            });
            let all: Vec<&str> = given.chain(own).collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",").into() }
        }
        _ => table::joined(own),
    }
}

fn ports(service: &Value) -> Value {
    let texts: Vec<String> = items(service, &["spec", "ports"])
        .iter()
        .map(|port| {
            let (own, protocol) = (number(port, &["port"]).unwrap_or_default(), text(port, &["protocol"]));
            match number(port, &["nodePort"]).filter(|port| *port > 0) {
                Some(node) => format!("{own}:{node}/{protocol}"),
                None => format!("{own}/{protocol}"),
            }
        })
        .collect();
    table::joined(texts.iter().map(String::as_str))
}
