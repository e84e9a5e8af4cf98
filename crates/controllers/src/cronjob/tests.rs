use super::*;
use crate::plan::Action;
use serde_json::{Value, from_value, json};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn cron(spec: Value, status: Value) -> CronJob {
    let mut cron = json!({
        "metadata": { "name": "c", "namespace": "x", "uid": "cron", "creationTimestamp": "2026-01-02T03:00:30Z" },
        "spec": {
            "schedule": "*/2 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
            "jobTemplate": { "metadata": { "labels": { "a": "b" } }, "spec": { "template": {} } },
        },
        "status": status,
    });
    testkit::merge(&mut cron["spec"], &spec);
    from_value(cron).unwrap()
}

fn job(name: &str, end: Option<&str>, more: Value) -> Arc<Job> {
    let mut job = json!({
        "metadata": { "name": name, "namespace": "x", "uid": name, "annotations": { SCHEDULED: "then" } },
        "status": { "startTime": format!("2026-01-02T00:00:{:02}Z", name.len()) },
    });
    if let Some(end) = end {
        job["status"]["conditions"] = json!([{ "type": end, "status": "True" }]);
    }
    testkit::merge(&mut job, &more);
    Arc::new(from_value(job).unwrap())
}

fn planned(cron: CronJob, jobs: Vec<Arc<Job>>) -> Plan<Memory> {
    plan(&View { cron: Some(Arc::new(cron)), jobs }, &Memory::default(), now())
}

fn done(plan: &Plan<Memory>) -> Vec<String> {
    let short = |action: &Action| match action {
        Action::Create(create) => format!("create {}", create.object["metadata"]["name"].as_str().unwrap()),
        Action::Delete(delete) => format!("delete {}", delete.key.name),
        Action::Tell { reason, .. } => (*reason).to_owned(),
        Action::Patch(patch) => {
            format!("at {}", patch.body["status"]["lastScheduleTime"].as_str().unwrap_or("-"))
        }
        other => panic!("{other:?}"),
    };
    plan.actions.iter().map(short).collect()
}

// 03:04:00 in minutes.
const NAME: &str = "c-29455384";

#[test]
fn a_job_is_made_when_its_time_has_come_and_not_again() {
    let plan = planned(cron(json!({}), json!({})), vec![]);
    assert_eq!(done(&plan), [&format!("create {NAME}"), "at 2026-01-02T03:04:00Z"]);
    assert_eq!(plan.requeue_at, Some("2026-01-02T03:06:00Z".parse().unwrap()));
    let Action::Create(create) = &plan.actions[0] else { panic!() };
    assert_eq!(create.object["metadata"]["annotations"][SCHEDULED], "2026-01-02T03:04:00Z");
    assert_eq!(create.object["metadata"]["labels"]["a"], "b");
    // The status could not be written: the Job is there all the same.
    let plan = planned(cron(json!({}), json!({})), vec![job(NAME, None, json!({}))]);
    assert_eq!(done(&plan), ["at 2026-01-02T03:04:00Z"]);
    let then = json!({ "lastScheduleTime": "2026-01-02T03:04:00Z" });
    assert_eq!(done(&planned(cron(json!({}), then), vec![])), [""; 0]);
    assert_eq!(done(&planned(cron(json!({ "suspend": true }), json!({})), vec![])), [""; 0]);
    let rome = planned(cron(json!({ "timeZone": "Europe/Rome" }), json!({})), vec![]);
    let Action::Create(create) = &rome.actions[0] else { panic!() };
    assert_eq!(create.object["metadata"]["annotations"][SCHEDULED], "2026-01-02T04:04:00+01:00");
}

#[test]
fn one_that_runs_may_stand_in_the_way() {
    let known = || json!({ "active": [{ "uid": "before" }], "lastScheduleTime": "2026-01-02T03:02:00Z" });
    let before = || vec![job("before", None, json!({}))];
    let forbid = planned(cron(json!({ "concurrencyPolicy": "Forbid" }), known()), before());
    assert_eq!(done(&forbid), ["JobAlreadyActive"]);
    let replace = planned(cron(json!({ "concurrencyPolicy": "Replace" }), known()), before());
    assert_eq!(done(&replace), ["delete before", &format!("create {NAME}"), "at 2026-01-02T03:04:00Z"]);
    let allow = planned(cron(json!({}), known()), before());
    assert_eq!(done(&allow), [&format!("create {NAME}"), "at 2026-01-02T03:04:00Z"]);
}

#[test]
fn times_that_were_missed() {
    let long_ago = || json!({ "lastScheduleTime": "2020-01-02T03:04:00Z" });
    let many = planned(cron(json!({}), long_ago()), vec![]);
    assert_eq!(done(&many), ["TooManyMissedTimes", &format!("create {NAME}"), "at 2026-01-02T03:04:00Z"]);
    let late = planned(cron(json!({ "startingDeadlineSeconds": 3 }), long_ago()), vec![]);
    assert_eq!(done(&late), [""; 0], "the time before is out of the window");
    let in_time = planned(cron(json!({ "startingDeadlineSeconds": 300 }), long_ago()), vec![]);
    assert_eq!(done(&in_time), [&format!("create {NAME}"), "at 2026-01-02T03:04:00Z"]);
}

#[test]
fn ends_are_seen_and_the_oldest_forgotten() {
    let then = json!({ "lastScheduleTime": "2026-01-02T03:04:00Z", "active": [{ "uid": "a" }, { "uid": "gone", "name": "gone" }] });
    let jobs = vec![
        job("a", Some("Complete"), json!({ "status": { "completionTime": "2026-01-02T03:04:01Z" } })),
        job("bb", Some("Complete"), json!({})),
        job("ccc", Some("Failed"), json!({})),
        job("dddd", None, json!({ "metadata": { "annotations": null } })),
    ];
    let plan = planned(cron(json!({}), then), jobs.clone());
    assert_eq!(done(&plan), ["SawCompletedJob", "MissingJob", "UnexpectedJob", "at -", "delete a"]);
    let Action::Patch(patch) = &plan.actions[3] else { panic!() };
    assert_eq!(patch.body["status"], json!({ "active": null, "lastSuccessfulTime": "2026-01-02T03:04:01Z" }));
    let again =
        json!({ "lastScheduleTime": "2026-01-02T03:04:00Z", "lastSuccessfulTime": "2026-01-02T03:04:01Z" });
    let view = View { cron: Some(Arc::new(cron(json!({}), again))), jobs: jobs[1..].to_vec() };
    assert_eq!(
        done(&super::plan(&view, plan.memory.as_ref().unwrap(), now())),
        [""; 0],
        "it is told of once"
    );
}
