//! Pods.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    pod_affinity, pod_defaults, pod_ephemeral, pod_resize, pod_spec, pod_status, pod_update, pod_volumes,
    pod_warnings,
};
use crate::Part;
use crate::cache::Field;
use crate::kind::{Column, Subresource};
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, items, number, object, text};

struct Pod;

pub(crate) fn builtin() -> Builtin {
    let subresource =
        |name, kind: &str, verbs| Subresource { name, group_version: None, kind: kind.into(), verbs };
    Builtin {
        name: ("", "v1", "Pod"),
        rules: Rules { generation: Generation::Spec, status: true, shows_deleted: true, ..Rules::default() },
        fields: fields(),
        subresources: vec![
            subresource("attach", "PodAttachOptions", &["create", "get"]),
            subresource("binding", "Binding", &["create"]),
            subresource("ephemeralcontainers", "Pod", &["get", "patch", "update"]),
            Subresource {
                group_version: Some(("policy", "v1")),
                ..subresource("eviction", "Eviction", &["create"])
            },
            subresource("exec", "PodExecOptions", &["create", "get"]),
            subresource("log", "Pod", &["get"]),
            subresource("portforward", "PodPortForwardOptions", &["create", "get"]),
            table::proxy("PodProxyOptions"),
            subresource("resize", "Pod", &["get", "patch", "update"]),
            table::status("Pod"),
        ],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Ready",
            "Status",
            "Restarts",
            "Age",
            "IP+",
            "Node+",
            "Nominated Node+",
            "Readiness Gates+",
        ]),
        strategy: Arc::new(Pod),
    }
}

fn fields() -> Vec<Field> {
    vec![
        Field::at("spec.nodeName"),
        Field::at("spec.restartPolicy"),
        Field::at("spec.schedulerName"),
        Field::at("spec.serviceAccountName"),
        Field::from("spec.hostNetwork", &["spec.hostNetwork"], "false"),
        Field::at("status.phase"),
        Field::at("status.podIP"),
        Field::at("status.nominatedNodeName"),
    ]
}

impl Strategy for Pod {
    fn default(&self, pod: &mut Value) {
        object(pod, "spec");
        if let Some(spec) = pod.get_mut("spec") {
            pod_defaults::pod_spec(spec);
            pod_defaults::pod_only(spec);
        }
    }

    fn prepare_create(&self, pod: &mut Value) {
        let class = pod_defaults::qos_class(pod.get("spec").unwrap_or(&Value::Null));
        pod_affinity::add_own_labels(pod);
        let gated = !items(pod, &["spec", "schedulingGates"]).is_empty();
        let created = at(pod, &["metadata", "creationTimestamp"]).cloned().unwrap_or_default();
        let status = object(pod, "status");
        status.insert("phase".into(), "Pending".into());
        status.insert("qosClass".into(), class.into());
        if gated {
            let condition = serde_json::json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "lastTransitionTime": created,
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            status.insert("conditions".into(), vec![condition].into());
        }
    }

    fn validate(&self, pod: &Value, errors: &mut Vec<FieldError>) {
        let spec = Path::new("spec");
        let found = pod.get("spec").unwrap_or(&Value::Null);
        pod_spec::validate(found, &spec, errors);
        pod_spec::validate_of_pod(found, &spec, errors);
        super::pod_claims::validate_made(pod, errors);
        pod_volumes::validate_made(pod, errors);
        super::pod_annotations::validate(pod, &Path::new("metadata").child("annotations"), errors);
        if !text(pod, &["spec", "nodeName"]).is_empty()
            && !items(pod, &["spec", "schedulingGates"]).is_empty()
        {
            let why = "cannot be set until all schedulingGates have been cleared";
            errors.push(FieldError::forbidden(&spec.child("nodeName"), why));
        }
        if !items(pod, &["spec", "ephemeralContainers"]).is_empty() {
            let why = "cannot be set on create";
            errors.push(FieldError::forbidden(&spec.child("ephemeralContainers"), why));
        }
    }

    fn validate_update(&self, pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        pod_update::validate_annotations(pod, old, errors);
        pod_update::validate(pod, old, errors);
    }

    fn validate_status(&self, pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        pod_update::validate_annotations(pod, old, errors);
        pod_update::validate_status(pod, old, errors);
    }

    fn keep_part(&self, part: Part, pod: &mut Value, old: &Value, _now: Timestamp) {
        match part {
            Part::EphemeralContainers => pod_ephemeral::keep(pod, old),
            Part::Resize => pod_resize::keep(pod, old),
            _ => *pod = old.clone(),
        }
    }

    fn validate_part(&self, part: Part, pod: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        match part {
            Part::EphemeralContainers => pod_ephemeral::validate(pod, old, errors),
            Part::Resize => pod_resize::validate(pod, old, errors),
            _ => {}
        }
    }

    fn grace(&self, pod: &Value, asked: Option<i64>) -> Option<i64> {
        let own = number(pod, &["spec", "terminationGracePeriodSeconds"]).unwrap_or_default();
        let unscheduled = text(pod, &["spec", "nodeName"]).is_empty();
        let ended = matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded");
        let period = match asked.unwrap_or(own) {
            _ if unscheduled || ended => 0,
            period if period < 0 => 1,
            period => period,
        };
        Some(period)
    }

    fn cells(&self, pod: &Value, now: Timestamp) -> Vec<Value> {
        let sum = pod_status::summary(pod);
        let restarts = match sum.last_restart.filter(|_| sum.restarts != 0) {
            Some(last) => format!("{} ({} ago)", sum.restarts, apimachinery::time::age(last, now)),
            None => sum.restarts.to_string(),
        };
        vec![
            table::name(pod),
            format!("{}/{}", sum.ready, sum.total).into(),
            sum.reason.into(),
            restarts.into(),
            table::age(pod, now),
            table::or_none(text(pod, &["status", "podIP"])),
            table::or_none(text(pod, &["spec", "nodeName"])),
            table::or_none(text(pod, &["status", "nominatedNodeName"])),
            readiness_gates(pod),
        ]
    }

    fn warnings(&self, pod: &Value) -> Vec<String> {
        pod_warnings::of_pod(pod)
    }
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return table::NONE.into();
    }
    let open = gates.iter().filter(|gate| {
        let found = pod_status::condition(pod, text(gate, &["conditionType"]));
        found.is_some_and(|found| text(found, &["status"]) == "True")
    });
    format!("{}/{}", open.count(), gates.len()).into()
}
