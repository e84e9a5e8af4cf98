//! APIServices: who serves which version of which group. Those of this server itself are local.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path, quote};
use apimachinery::meta::names::{dns1035_label, dns1123_subdomain, port_number};
use apimachinery::meta::{NameRule, generate_name};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::checks::{invalid, required};
use crate::kind::Column;
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, default, is_true, items, number, object, text};

const STATUSES: &[&str] = &["True", "False", "Unknown"];

struct ApiService;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apiregistration.k8s.io", "v1", "APIService"),
        rules: Rules {
            name: NameRule::PathSegment,
            status: true,
            unconditional_update: false,
            any_finalizer: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: vec![table::status("APIService")],
        scale: None,
        columns: Column::parse(&["Name", "Service", "Available", "Age"]),
        strategy: Arc::new(ApiService),
    }
}

impl Strategy for ApiService {
    fn default(&self, service: &mut Value) {
        if let Some(service) = at_mut(service, &["spec", "service"]) {
            default(service, "port", 443);
        }
    }

    /// What this server serves itself is always there.
    fn prepare_create(&self, service: &mut Value) {
        if at(service, &["spec", "service"]).is_some() {
            return;
        }
        let since = at(service, &["metadata", "creationTimestamp"]).cloned().unwrap_or_default();
        let condition = json!({
            "type": "Available", "status": "True", "lastTransitionTime": since,
            "reason": "Local", "message": "Local APIServices are always available",
        });
        object(service, "status").insert("conditions".into(), json!([condition]));
    }

    fn validate(&self, service: &Value, errors: &mut Vec<FieldError>) {
        let path = Path::new("spec");
        let spec = service.get("spec").unwrap_or(&Value::Null);
        let (group, version) = (text(spec, &["group"]), text(spec, &["version"]));
        let (name, wanted) = (apimachinery::meta::name(service), format!("{version}.{group}"));
        let metadata = Path::new("metadata");
        for (field, given) in [("generateName", generate_name(service)), ("name", name)] {
            // That there is no name at all is said elsewhere.
            if !given.is_empty() && given != wanted {
                let why = format!("must be `spec.version+\".\"+spec.group`: {}", quote(&wanted));
                errors.push(FieldError::invalid(&metadata.child(field), given, why));
            }
        }
        if group.is_empty() {
            if version != "v1" {
                let why = "only v1 may have an empty group and it better be legacy kube";
                errors.push(FieldError::required(&path.child("group"), why));
            }
        } else {
            invalid(&path.child("group"), group, dns1123_subdomain(group), errors);
        }
        invalid(&path.child("version"), version, dns1035_label(version), errors);
        for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
            let given = number(spec, &[field]).unwrap_or_default();
            if !(1..=most).contains(&given) {
                let why = format!("must be positive and less than {most}");
                errors.push(FieldError::invalid(&path.child(field), given, why));
            }
        }
        validate_service(spec, &path, errors);
    }

    fn validate_status(&self, service: &Value, _old: &Value, errors: &mut Vec<FieldError>) {
        let status = Path::new("status");
        let path = status.child("conditions");
        for (index, condition) in items(service, &["status", "conditions"]).iter().enumerate() {
            let state = text(condition, &["status"]);
            if !STATUSES.contains(&state) {
                let at_condition = path.index(index);
                errors.push(FieldError::not_supported(&at_condition.child("status"), state, STATUSES));
            }
        }
    }

    fn cells(&self, service: &Value, now: Timestamp) -> Vec<Value> {
        let by = at(service, &["spec", "service"])
            .map(|service| format!("{}/{}", text(service, &["namespace"]), text(service, &["name"])));
        let mut conditions = items(service, &["status", "conditions"]).iter();
        let available = conditions.find(|condition| text(condition, &["type"]) == "Available");
        let of = |field| available.map(|condition| text(condition, &[field])).unwrap_or_default();
        let shown = match (of("status"), of("reason")) {
            ("", _) => "Unknown".to_owned(),
            (status @ "True", _) | (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        };
        vec![
            table::name(service),
            by.unwrap_or_else(|| "Local".to_owned()).into(),
            shown.into(),
            table::age(service, now),
        ]
    }
}

fn validate_service(spec: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let skips = is_true(spec, &["insecureSkipTLSVerify"]);
    let bundle = text(spec, &["caBundle"]);
    let (at_skips, at_bundle) = (path.child("insecureSkipTLSVerify"), path.child("caBundle"));
    let Some(service) = spec.get("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3);
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&at_bundle, shown, why));
        }
        if skips {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&at_skips, true, why));
        }
        return;
    };
    let at_service = path.child("service");
    required(service, "namespace", &at_service, errors);
    required(service, "name", &at_service, errors);
    let port = number(service, &["port"]).unwrap_or_default();
    let faults = port_number(port);
    if !faults.is_empty() {
        let why = format!("port is not valid: {}", faults.join(", "));
        errors.push(FieldError::invalid(&at_service.child("port"), port, why));
    }
    if skips && !bundle.is_empty() {
        errors.push(FieldError::invalid(&at_skips, true, "may not be true if caBundle is present"));
    }
}
