//! CronJobs.

use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta;
use jiff::Timestamp;
use serde_json::Value;

use super::{job_spec, schedule};
use crate::core::template;
use crate::kind::Column;
use crate::strategy::{Builtin, Generation, Rules, Strategy};
use crate::table;
use crate::tree::{at, at_mut, default, default_text, is_true, items, object, text};

/// A job's name has eleven letters more than that of what made it, and 63 at most.
const NAME_MAX: usize = 52;
/// The longest part of a time zone's name.
const ZONE_PART_MAX: usize = 14;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

struct CronJob;

pub(crate) fn builtin() -> Builtin {
    Builtin {
        name: ("batch", "v1", "CronJob"),
        rules: Rules { generation: Generation::Spec, status: true, ..Rules::default() },
        fields: Vec::new(),
        subresources: vec![table::status("CronJob")],
        scale: None,
        columns: Column::parse(&[
            "Name",
            "Schedule",
            "Timezone",
            "Suspend",
            "Active:integer",
            "Last Schedule",
            "Age",
            "Containers+",
            "Images+",
            "Selector+",
        ]),
        strategy: Arc::new(CronJob),
    }
}

impl Strategy for CronJob {
    fn default(&self, cron: &mut Value) {
        object(cron, "spec");
        let Some(spec) = cron.get_mut("spec") else { return };
        default_text(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        object(spec, "jobTemplate");
        let Some(job) = spec.get_mut("jobTemplate") else { return };
        object(job, "metadata");
        object(job, "spec");
        if let Some(job) = job.get_mut("spec") {
            object(job, "template");
        }
        if let Some(template) = at_mut(job, &["spec", "template"]) {
            template::fill(template);
        }
    }

    fn validate(&self, cron: &Value, errors: &mut Vec<FieldError>) {
        validate(cron, None, errors);
        let name = meta::name(cron);
        if name.len() > NAME_MAX {
            let metadata = Path::new("metadata");
            let why = format!("must be no more than {NAME_MAX} characters");
            errors.push(FieldError::invalid(&metadata.child("name"), name, why));
        }
    }

    fn validate_update(&self, cron: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate(cron, Some(old), errors);
    }

    fn warnings(&self, cron: &Value) -> Vec<String> {
        let spec = Path::new("spec");
        let (template, spec_of) = (spec.child("jobTemplate"), ["spec", "jobTemplate", "spec"]);
        let job = at(cron, &spec_of).and_then(|job| job_spec::warning(job, &template.child("spec")));
        let at_pod = template.child("spec");
        let pod = template::warnings(
            at(cron, &["spec", "jobTemplate", "spec", "template"]),
            &at_pod.child("template"),
        );
        template::name_warning(cron).into_iter().chain(pod).chain(job).collect()
    }

    fn cells(&self, cron: &Value, now: Timestamp) -> Vec<Value> {
        let last = match text(cron, &["status", "lastScheduleTime"]) {
            "" => table::NONE.into(),
            time => table::since(apimachinery::time::parse(time).ok(), now),
        };
        let suspended = if is_true(cron, &["spec", "suspend"]) { "True" } else { "False" };
        let [names, images] =
            template::container_cells(at(cron, &["spec", "jobTemplate", "spec", "template"]));
        vec![
            table::name(cron),
            text(cron, &["spec", "schedule"]).into(),
            table::or_none(text(cron, &["spec", "timeZone"])),
            suspended.into(),
            items(cron, &["status", "active"]).len().into(),
            last,
            table::age(cron, now),
            names,
            images,
            template::selector_cell(at(cron, &["spec", "jobTemplate", "spec", "selector"])),
        ]
    }
}

fn validate(cron: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    validate_schedule(cron, old, &spec.child("schedule"), errors);
    let deadline = "startingDeadlineSeconds";
    template::not_negative(cron, &["spec", deadline], &spec.child(deadline), errors);
    let zone = |cron: &Value| at(cron, &["spec", "timeZone"]).cloned();
    let given = zone(cron);
    if let Some(Value::String(name)) = given.as_ref().filter(|_| old.and_then(zone) != given) {
        validate_zone(name, &spec.child("timeZone"), errors);
    }
    let path = spec.child("concurrencyPolicy");
    match text(cron, &["spec", "concurrencyPolicy"]) {
        "" => errors.push(FieldError::required(&path, "")),
        policy if POLICIES.contains(&policy) => {}
        other => errors.push(FieldError::not_supported(&path, other, &POLICIES)),
    }
    validate_job(cron, &spec.child("jobTemplate"), errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        template::not_negative(cron, &["spec", field], &spec.child(field), errors);
    }
}

fn validate_schedule(cron: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let given = text(cron, &["spec", "schedule"]);
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if let Err(why) = schedule::check(given) {
        errors.push(FieldError::invalid(path, given, why));
    }
    if !given.contains("TZ") {
        return;
    }
    // One that was made when this was possible goes on with it.
    let had = old.is_some_and(|old| text(old, &["spec", "schedule"]).contains("TZ"));
    if !had {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, given, why));
    } else if at(cron, &["spec", "timeZone"]).is_some() {
        let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(path, given, why));
    }
}

fn validate_zone(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut wrong = |why: String| errors.push(FieldError::invalid(path, name, why));
    if name.is_empty() {
        wrong("timeZone must be nil or non-empty string".to_owned());
        return;
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let is_part = |part: &str| {
        (1..=ZONE_PART_MAX).contains(&part.len())
            && part.bytes().all(fits)
            && ![".", ".."].contains(&part)
            && !part.starts_with('-')
    };
    if !name.split('/').all(is_part) {
        wrong(format!("unknown time zone {name}"));
        return;
    }
    if name.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        wrong(why.to_owned());
    }
    if let Err(why) = schedule::check_zone(name) {
        wrong(why);
    }
}

/// The jobs' selectors are the server's to make.
fn validate_job(cron: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let path = path.child("spec");
    let job = at(cron, &["spec", "jobTemplate", "spec"]).unwrap_or(&Value::Null);
    job_spec::validate(job, &path, errors);
    if let Some(selector) = job.get("selector") {
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&path.child("selector"), selector.clone(), why));
    }
    if is_true(job, &["manualSelector"]) {
        errors.push(FieldError::not_supported(&path.child("manualSelector"), true, &["nil", "false"]));
    }
}
