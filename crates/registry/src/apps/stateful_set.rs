//! StatefulSets.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::NameRule;
use apimachinery::meta::names::dns1123_label;
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rolling;
use crate::core::{persistent_volume_claim, template};
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Scale, Strategy};
use crate::table;
use crate::tree::{at, at_mut, default, default_text, items, items_mut, map, number, object, same, text};

/// What of a spec may change; the rest is how the set was made.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const COUNTS: [&str; 5] =
    ["replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];

struct StatefulSet;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("apps", "v1", "StatefulSet"),
        rules: Rules {
            name: NameRule::Label,
            generation: Generation::Spec,
            status: true,
            ..Rules::default()
        },
        fields: Vec::new(),
        subresources: vec![table::scale(), table::status("StatefulSet")],
        scale: Some(Scale::of_workload()),
        columns: Column::parse(&["Name", "Ready", "Age", "Containers+", "Images+"]),
        strategy: Arc::new(StatefulSet),
    }
}

impl Strategy for StatefulSet {
    fn default(&self, set: &mut Value) {
        object(set, "spec");
        if let Some(spec) = set.get_mut("spec") {
            object(spec, "template");
            default_text(spec, "podManagementPolicy", "OrderedReady");
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            object(spec, "updateStrategy");
            object(spec, "persistentVolumeClaimRetentionPolicy");
        }
        template::default(set);
        if let Some(strategy) = at_mut(set, &["spec", "updateStrategy"]) {
            default_text(strategy, "type", "RollingUpdate");
            if text(strategy, &["type"]) == "RollingUpdate" {
                object(strategy, "rollingUpdate");
            }
            if let Some(update) = strategy.get_mut("rollingUpdate") {
                default(update, "partition", 0);
                default(update, "maxUnavailable", 1);
            }
        }
        if let Some(policy) = at_mut(set, &["spec", "persistentVolumeClaimRetentionPolicy"]) {
            default_text(policy, "whenDeleted", "Retain");
            default_text(policy, "whenScaled", "Retain");
        }
        for claim in items_mut(set, &["spec", "volumeClaimTemplates"]) {
            fill_claim(claim);
        }
    }

    fn prepare_create(&self, set: &mut Value) {
        map(set).insert("status".into(), json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn validate(&self, set: &Value, errors: &mut Vec<FieldError>) {
        validate_spec(set, errors);
        validate_claims(set, errors);
        let service = text(set, &["spec", "serviceName"]);
        if !service.is_empty() {
            let spec = Path::new("spec");
            let path = spec.child("serviceName");
            errors.extend(
                dns1123_label(service).into_iter().map(|why| FieldError::invalid(&path, service, why)),
            );
        }
    }

    fn validate_update(&self, set: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_spec(set, errors);
        let fixed = |set: &Value| {
            let mut spec = set.get("spec").cloned().unwrap_or_default();
            MUTABLE.iter().for_each(|field| {
                map(&mut spec).remove(*field);
            });
            spec
        };
        if !same(Some(&fixed(set)), Some(&fixed(old))) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&Path::new("spec"), why));
        }
    }

    fn validate_status(&self, set: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        template::counts(set, &COUNTS, errors);
        template::counts(set, &["observedGeneration", "collisionCount"], errors);
        let status = Path::new("status");
        let count = |field: &str| number(set, &["status", field]).unwrap_or_default();
        for field in &COUNTS[1..] {
            if count(field) > count("replicas") {
                let why = "cannot be greater than status.replicas";
                errors.push(FieldError::invalid(&status.child(field), count(field), why));
            }
        }
        if count("availableReplicas") > count("readyReplicas") {
            let why = "cannot be greater than status.readyReplicas";
            let path = status.child("availableReplicas");
            errors.push(FieldError::invalid(&path, count("availableReplicas"), why));
        }
        template::collisions_grow(set, old, errors);
    }

    fn warnings(&self, set: &Value) -> Vec<String> {
        let keeps_all =
            number(set, &["spec", "revisionHistoryLimit"]).is_some_and(|limit| limit < 0).then(|| {
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                 recommended"
                    .to_owned()
            });
        template::spec_warnings(set).into_iter().chain(keeps_all).collect()
    }

    fn cells(&self, set: &Value, now: Timestamp) -> Vec<Value> {
        let ready = number(set, &["status", "readyReplicas"]).unwrap_or_default();
        let wanted = number(set, &["spec", "replicas"]).unwrap_or_default();
        let [names, images] = template::container_cells(at(set, &["spec", "template"]));
        vec![table::name(set), format!("{ready}/{wanted}").into(), table::age(set, now), names, images]
    }
}

/// A claim's template says what it is, as any claim does.
fn fill_claim(claim: &mut Value) {
    default_text(claim, "apiVersion", "v1");
    default_text(claim, "kind", "PersistentVolumeClaim");
    object(claim, "metadata");
    object(claim, "spec");
    if let Some(spec) = claim.get_mut("spec") {
        object(spec, "resources");
        default(spec, "volumeMode", "Filesystem");
    }
    object(claim, "status");
    if let Some(status) = claim.get_mut("status") {
        default_text(status, "phase", "Pending");
    }
}

fn validate_spec(set: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let management = text(set, &["spec", "podManagementPolicy"]);
    if !["OrderedReady", "Parallel"].contains(&management) {
        let why = "must be 'OrderedReady' or 'Parallel'";
        errors.push(FieldError::invalid(&spec.child("podManagementPolicy"), management, why));
    }
    validate_strategy(set, &spec.child("updateStrategy"), errors);
    let path = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let policy = text(set, &["spec", "persistentVolumeClaimRetentionPolicy", field]);
        if !["Retain", "Delete"].contains(&policy) {
            errors.push(FieldError::not_supported(&path.child(field), policy, &["Retain", "Delete"]));
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        template::not_negative(set, &["spec", field], &spec.child(field), errors);
    }
    let ordinals = spec.child("ordinals");
    template::not_negative(set, &["spec", "ordinals", "start"], &ordinals.child("start"), errors);
    let empty = "empty selector is invalid for statefulset";
    let selector = template::validate_selector(set, Some(empty), errors);
    super::selector_is_readable(set, "", errors);
    validate_template(set, selector.as_ref(), &spec.child("template"), errors);
}

/// What is wrong with the claims that each pod gets.
fn validate_claims(set: &Value, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let path = spec.child("volumeClaimTemplates");
    for (index, claim) in items(set, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
        let of = claim.get("spec").unwrap_or(&Value::Null);
        persistent_volume_claim::validate_spec(of, &path.index(index).child("spec"), errors);
    }
}

fn validate_strategy(set: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let strategy = at(set, &["spec", "updateStrategy"]).unwrap_or(&Value::Null);
    let update = strategy.get("rollingUpdate");
    let at_update = path.child("rollingUpdate");
    match (text(strategy, &["type"]), update) {
        ("OnDelete", Some(update)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&at_update, update.clone(), why));
        }
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => {
            template::not_negative(update, &["partition"], &at_update.child("partition"), errors);
            let Some(unavailable) = update.get("maxUnavailable") else { return };
            let path = at_update.child("maxUnavailable");
            rolling::validate(unavailable, &path, errors);
            if rolling::amount(unavailable) == 0 {
                errors.push(FieldError::invalid(&path, unavailable.clone(), "cannot be 0"));
            }
            rolling::at_most_all(unavailable, &path, errors);
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, strategy.clone(), why));
        }
    }
}

fn validate_template(
    set: &Value,
    selector: Option<&Selector>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    let template = at(set, &["spec", "template"]).unwrap_or(&Value::Null);
    if let Some(selector) = selector {
        template::is_selected(selector, template, path, errors);
        template::validate_template_of(template, &pod_of(set, template), path, errors);
    }
    template::runs_always(template, path, errors);
    if at(template, &["spec", "activeDeadlineSeconds"]).is_some() {
        let spec = path.child("spec");
        let why = "activeDeadlineSeconds in StatefulSet is not Supported";
        errors.push(FieldError::forbidden(&spec.child("activeDeadlineSeconds"), why));
    }
}

/// A pod of the set has a volume for each claim, in place of one of the same name.
fn pod_of(set: &Value, template: &Value) -> Value {
    let mut pod = template.get("spec").cloned().unwrap_or_default();
    let claims = items(set, &["spec", "volumeClaimTemplates"]);
    if claims.is_empty() {
        return pod;
    }
    let names: Vec<&str> = claims.iter().map(|claim| text(claim, &["metadata", "name"])).collect();
    let own = items(&pod, &["volumes"]).iter().filter(|volume| !names.contains(&text(volume, &["name"])));
    let claimed = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let volumes: Vec<Value> = own.cloned().chain(names.iter().map(claimed)).collect();
    map(&mut pod).insert("volumes".into(), volumes.into());
    pod
}
