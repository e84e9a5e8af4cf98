//! Jobs.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use apimachinery::meta::names::dns1123_label;
use apimachinery::selector::Selector;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{job_spec, job_status, job_update};
use crate::cache::Field;
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, default, entries, is_true, items, items_mut, map, number, object, text};

/// The labels by which a job's pods are found, under their first names and under those with a domain.
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
/// How often a job's pods may fail.
const BACKOFF_LIMIT: i64 = 6;

struct Job;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("batch", "v1", "Job"),
        rules: Rules { generation: Generation::Spec, status: true, orphans: true, ..Rules::default() },
        fields: vec![Field::from("status.successful", &["status.succeeded"], "0")],
        subresources: vec![table::status("Job")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Status",
            "Completions",
            "Duration",
            "Age",
            "Containers+",
            "Images+",
            "Selector+",
        ]),
        strategy: Arc::new(Job),
    }
}

impl Strategy for Job {
    fn default(&self, job: &mut Value) {
        object(job, "spec");
        if let Some(spec) = job.get_mut("spec") {
            object(spec, "template");
        }
        let labels = at(job, &["spec", "template", "metadata", "labels"]).cloned();
        if let Some(labels) = labels.filter(|_| entries(job, &["metadata", "labels"]).next().is_none()) {
            object(job, "metadata").insert("labels".into(), labels);
        }
        template::default(job);
        if let Some(spec) = job.get_mut("spec") {
            default_spec(spec);
        }
    }

    fn prepare_create(&self, job: &mut Value) {
        if is_true(job, &["spec", "manualSelector"]) {
            return;
        }
        let (name, uid) = (meta::name(job).to_owned(), meta::uid(job).to_owned());
        object(job, "spec");
        let Some(spec) = job.get_mut("spec") else { return };
        object(spec, "template");
        if let Some(template) = spec.get_mut("template") {
            let metadata = object(template, "metadata");
            let labels = map(metadata.entry("labels").or_insert_with(|| json!({})));
            let generated = NAME_LABELS.map(|label| (label, &name)).into_iter();
            for (label, value) in generated.chain(UID_LABELS.map(|label| (label, &uid))) {
                // One that is there already and says something else is refused below.
                labels.entry(label).or_insert_with(|| value.as_str().into());
            }
        }
        let selector = object(spec, "selector");
        let labels = map(selector.entry("matchLabels").or_insert_with(|| json!({})));
        labels.entry(UID_LABELS[1]).or_insert_with(|| uid.into());
    }

    fn validate(&self, job: &Value, errors: &mut Vec<FieldError>) {
        validate(job, true, errors);
    }

    fn validate_update(&self, job: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        // A job from before there were labels with a domain goes on without them.
        let labels = at(old, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
        let had = |label: &str| labels.get(label).is_some();
        validate(job, had(UID_LABELS[1]) && had(NAME_LABELS[1]), errors);
        job_update::validate(job, old, errors);
    }

    fn validate_status(&self, job: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        job_status::validate(job, old, errors);
    }

    fn orphan_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn warnings(&self, job: &Value) -> Vec<String> {
        let path = Path::new("spec");
        let spec = job.get("spec").unwrap_or(&Value::Null);
        let own = template::name_warning(job).into_iter().chain(template::spec_warnings(job));
        own.chain(job_spec::warning(spec, &path)).collect()
    }

    fn cells(&self, job: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![
            table::name(job),
            state(job).into(),
            completions(job).into(),
            duration(job, now).into(),
            table::age(job, now),
        ];
        cells.extend(template::wide_cells(job));
        cells
    }
}

fn default_spec(spec: &mut Value) {
    if spec.get("parallelism").is_none() && spec.get("completions").is_none() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    default(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { BACKOFF_LIMIT });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    for rule in items_mut(spec, &["podFailurePolicy", "rules"]) {
        for pattern in items_mut(rule, &["onPodConditions"]) {
            crate::tree::default_text(pattern, "status", "True");
        }
    }
    let failures = spec.get("podFailurePolicy").is_some();
    default(spec, "podReplacementPolicy", if failures { "Failed" } else { "TerminatingOrFailed" });
}

fn validate(job: &Value, domains: bool, errors: &mut Vec<FieldError>) {
    if !is_true(job, &["spec", "manualSelector"]) && at(job, &["spec", "selector"]).is_some() {
        validate_generated(job, domains, errors);
    }
    let spec = Path::new("spec");
    let given = job.get("spec").unwrap_or(&Value::Null);
    job_spec::validate(given, &spec, errors);
    if let Some(selector) = template::validate_selector(job, None, errors) {
        let template = given.get("template").unwrap_or(&Value::Null);
        template::is_selected(&selector, template, &spec.child("template"), errors);
    }
    validate_hostnames(job, errors);
}

/// Labels and selector that were not given are the server's to make, and what was given has to be the same.
fn validate_generated(job: &Value, domains: bool, errors: &mut Vec<FieldError>) {
    let (name, uid) = (meta::name(job), meta::uid(job));
    let spec = Path::new("spec");
    let template = spec.child("template");
    let metadata = template.child("metadata");
    let at_labels = metadata.child("labels");
    let given = at(job, &["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
    let mut expected = Vec::new();
    for index in 0..=usize::from(domains) {
        for (label, value) in [(UID_LABELS[index], uid), (NAME_LABELS[index], name)] {
            let (path, why) = (at_labels.key(label), format!("must be '{value}'"));
            match given.get(label).and_then(Value::as_str) {
                None => errors.push(FieldError::required(&path, why)),
                Some(found) if found != value => {
                    errors.push(FieldError::invalid(&path, given.clone(), why));
                }
                Some(_) => {}
            }
            expected.push((label.to_owned(), Value::from(value)));
        }
    }
    let path = spec.child("selector");
    let selector = at(job, &["spec", "selector"]).unwrap_or(&Value::Null);
    if let Ok(parsed) = Selector::from_object(selector, &path)
        && !parsed.matches(Some(&expected.into_iter().collect()))
    {
        errors.push(FieldError::invalid(&path, selector.clone(), "`selector` not auto-generated"));
    }
}

/// The hostname of an indexed job's pod ends in its index.
fn validate_hostnames(job: &Value, errors: &mut Vec<FieldError>) {
    let completions = number(job, &["spec", "completions"]).unwrap_or_default();
    if text(job, &["spec", "completionMode"]) != "Indexed" || completions <= 0 {
        return;
    }
    let last = format!("{}-{}", meta::name(job), completions - 1);
    if !dns1123_label(&last).is_empty() {
        let metadata = Path::new("metadata");
        let why = format!("will not able to create pod with invalid DNS label: {last}");
        errors.push(FieldError::invalid(&metadata.child("name"), meta::name(job), why));
    }
}

/// Whether a condition of that type holds.
pub(super) fn holds(job: &Value, kind: &str) -> bool {
    let conditions = items(job, &["status", "conditions"]).iter();
    conditions.into_iter().any(|each| text(each, &["type"]) == kind && text(each, &["status"]) == "True")
}

fn state(job: &Value) -> &'static str {
    match () {
        () if holds(job, "Complete") => "Complete",
        () if holds(job, "Failed") => "Failed",
        () if meta::is_deleting(job) => "Terminating",
        () if holds(job, "Suspended") => "Suspended",
        () if holds(job, "FailureTarget") => "FailureTarget",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, &["status", "succeeded"]).unwrap_or_default();
    match (number(job, &["spec", "completions"]), number(job, &["spec", "parallelism"])) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let time = |field: &str| apimachinery::time::parse(text(job, &["status", field])).ok();
    let Some(start) = time("startTime") else { return String::new() };
    apimachinery::time::age(start, time("completionTime").unwrap_or(now)).into_owned()
}
