use super::*;
use crate::plan::{Action, Create};
use serde_json::{Value, from_value};

const START: &str = "2026-01-02T03:04:05Z";

fn now() -> Timestamp {
    START.parse().unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut job = json!({
        "metadata": { "name": "j", "namespace": "x", "uid": "job", "resourceVersion": "1" },
        "spec": {
            "parallelism": 2, "completions": 3, "backoffLimit": 6, "selector": { "matchLabels": { "job": "j" } },
            "template": {
                "metadata": { "labels": { "job": "j" } },
                "spec": { "containers": [{ "name": "c" }], "initContainers": [{ "name": "i" }] },
            },
        },
        "status": status,
    });
    testkit::merge(&mut job["spec"], &spec);
    from_value(job).unwrap()
}

/// A pod that the Job controls and holds, of an index, in a phase.
fn pod(name: &str, index: Option<u32>, phase: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "x", "uid": name, "labels": { "job": "j" }, "finalizers": [FINALIZER],
            "creationTimestamp": START,
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job", "controller": true }],
        },
        "status": { "phase": phase },
    });
    if let Some(index) = index {
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] = json!(index.to_string());
    }
    testkit::merge(&mut pod, &more);
    Arc::new(from_value(pod).unwrap())
}

fn planned(job: Job, pods: Vec<Arc<Pod>>) -> Plan<()> {
    plan(&View { job: Some(Arc::new(job)), pods, orphans: Vec::new(), strays: Vec::new() }, now())
}

/// What a plan does to pods, in short.
fn done(plan: &Plan<()>) -> Vec<String> {
    let short = |action: &Action| match action {
        Action::Create(Create { object, .. }) => {
            let annotations = &object["metadata"]["annotations"];
            let of = |name: &str| {
                annotations[format!("batch.kubernetes.io/job-{name}")].as_str().unwrap_or("-").to_owned()
            };
            Some(format!("create {} {}", of("completion-index"), of("index-failure-count")))
        }
        Action::Delete(delete) => Some(format!("delete {}", delete.key.name)),
        Action::Patch(patch) if patch.subresource.is_none() => Some(format!("let go of {}", patch.key.name)),
        _ => None,
    };
    plan.actions.iter().filter_map(short).collect()
}

fn status(plan: &Plan<()>) -> Value {
    let status = plan.actions.iter().find_map(|action| match action {
        Action::Patch(patch) if patch.subresource == Some("status") => Some(patch.body["status"].clone()),
        _ => None,
    });
    status.unwrap_or(Value::Null)
}

fn conditions(plan: &Plan<()>) -> Vec<String> {
    let conditions = status(plan)["conditions"].as_array().cloned().unwrap_or_default();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or("-").to_owned();
    conditions
        .iter()
        .map(|each| format!("{} {} {}", text(each, "type"), text(each, "status"), text(each, "reason")))
        .collect()
}

fn events(plan: &Plan<()>) -> Vec<&'static str> {
    let told = plan.actions.iter().filter_map(|action| match action {
        Action::Tell { reason, .. } => Some(*reason),
        _ => None,
    });
    told.collect()
}

fn started() -> Value {
    json!({ "startTime": START, "uncountedTerminatedPods": {} })
}

#[test]
fn a_new_job_starts() {
    let plan = planned(job(json!({}), json!({})), vec![]);
    assert_eq!(done(&plan), ["create - -", "create - -"]);
    assert_eq!(status(&plan)["startTime"], START);
}

#[test]
fn pods_of_indexes_know_them() {
    let plan = planned(
        job(json!({ "completionMode": "Indexed" }), started()),
        vec![pod("a", Some(0), "Running", json!({}))],
    );
    assert_eq!(done(&plan), ["create 1 -"]);
    let Some(Action::Create(create)) =
        plan.actions.into_iter().find(|action| matches!(action, Action::Create(_)))
    else {
        panic!("nothing is made")
    };
    let pod = &create.object;
    assert_eq!(
        (pod["spec"]["hostname"].as_str(), pod["metadata"]["generateName"].as_str()),
        (Some("j-1"), Some("j-1-"))
    );
    assert_eq!(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
    for containers in ["containers", "initContainers"] {
        let variable = &pod["spec"][containers][0]["env"][0];
        assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
        let path = "metadata.labels['batch.kubernetes.io/job-completion-index']";
        assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], path);
    }
}

#[test]
fn an_end_is_noted_then_let_go_of_then_counted() {
    let ended = || pod("a", None, "Succeeded", json!({}));
    let first = planned(job(json!({}), started()), vec![ended()]);
    assert_eq!(status(&first)["uncountedTerminatedPods"]["succeeded"], json!(["a"]));
    assert_eq!(done(&first), ["create - -", "create - -"], "it is not let go of before that is stored");
    let noted = || json!({ "startTime": START, "uncountedTerminatedPods": { "succeeded": ["a"] } });
    assert!(done(&planned(job(json!({}), noted()), vec![ended()])).contains(&"let go of a".to_owned()));
    let free = pod("a", None, "Succeeded", json!({ "metadata": { "finalizers": null } }));
    for pods in [vec![free], vec![]] {
        let last = planned(job(json!({}), noted()), pods);
        assert_eq!(status(&last)["succeeded"], 1);
        assert_eq!(status(&last)["uncountedTerminatedPods"]["succeeded"], Value::Null);
    }
}

#[test]
fn a_job_that_has_what_it_wants_says_so_and_ends_when_all_is_counted() {
    let all = || json!({ "startTime": START, "succeeded": 3, "uncountedTerminatedPods": {}, "ready": 0, "terminating": 0 });
    let first = planned(job(json!({}), all()), vec![]);
    assert_eq!(conditions(&first), ["SuccessCriteriaMet True CompletionsReached"]);
    let mut told = all();
    told["conditions"] = status(&first)["conditions"].clone();
    let going =
        pod("g", None, "Running", json!({ "metadata": { "deletionTimestamp": START, "finalizers": null } }));
    assert_eq!(conditions(&planned(job(json!({}), told.clone()), vec![going])), [""; 0], "one still ends");
    let last = planned(job(json!({}), told), vec![]);
    assert_eq!(
        conditions(&last),
        ["SuccessCriteriaMet True CompletionsReached", "Complete True CompletionsReached"]
    );
    assert_eq!((status(&last)["completionTime"].as_str(), events(&last)), (Some(START), vec!["Completed"]));
}

#[test]
fn too_many_failures_end_it_and_what_runs() {
    let limit = json!({ "backoffLimit": 0 });
    let pods = vec![pod("bad", None, "Failed", json!({})), pod("other", None, "Running", json!({}))];
    let first = planned(job(limit.clone(), started()), pods.clone());
    assert_eq!(conditions(&first), ["FailureTarget True BackoffLimitExceeded"]);
    assert_eq!(done(&first), ["delete other"], "no pod is let go of before the reason is stored");
    let mut told = json!({ "startTime": START, "uncountedTerminatedPods": { "failed": ["bad"] } });
    told["conditions"] = status(&first)["conditions"].clone();
    let going = pod("other", None, "Running", json!({ "metadata": { "deletionTimestamp": START } }));
    let second = planned(job(limit.clone(), told.clone()), vec![pods[0].clone(), going]);
    assert_eq!(done(&second), ["let go of bad"]);
    assert_eq!(status(&second)["uncountedTerminatedPods"]["failed"], json!(["bad", "other"]));
    told["uncountedTerminatedPods"] = json!({ "failed": ["bad", "other"] });
    let last = planned(job(limit, told), vec![]);
    assert_eq!(status(&last)["failed"], 2);
    assert_eq!(conditions(&last)[1], "Failed True BackoffLimitExceeded");
    assert_eq!(events(&last), ["BackoffLimitExceeded"]);
}

#[test]
fn failures_are_waited_after_for_longer_and_longer() {
    let at = |second: i64| now().checked_sub(jiff::SignedDuration::from_secs(second)).unwrap();
    let bad = |name: &str, ago: i64| {
        let state = json!({ "terminated": { "exitCode": 1, "finishedAt": at(ago) } });
        let ended = json!({ "status": { "containerStatuses": [{ "name": "c", "state": state }] } });
        pod(name, None, "Failed", ended)
    };
    let one = planned(job(json!({}), started()), vec![bad("a", 4)]);
    assert_eq!((done(&one), one.requeue_at), (vec![], Some(at(-6))));
    let two = planned(job(json!({}), started()), vec![bad("a", 14), bad("b", 4)]);
    assert_eq!(two.requeue_at, Some(at(-16)));
    assert_eq!(done(&planned(job(json!({}), started()), vec![bad("a", 14)])).len(), 2);
}

#[test]
fn an_index_that_failed_is_tried_again_with_its_count_before_its_pod_is_let_go_of() {
    let spec = json!({ "completionMode": "Indexed", "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX });
    let bad = |failures: u32| {
        let name = "batch.kubernetes.io/job-index-failure-count";
        let long_ago = json!({ "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": { name: failures.to_string() } } });
        pod("bad", Some(0), "Failed", long_ago)
    };
    let plan = planned(job(spec.clone(), started()), vec![bad(0)]);
    assert_eq!(done(&plan), ["create 0 1", "create 1 0"]);
    assert_eq!(
        status(&plan)["uncountedTerminatedPods"],
        Value::Null,
        "it is kept until another has its count"
    );
    let plan = planned(job(spec, started()), vec![bad(1)]);
    assert_eq!(done(&plan), ["create 1 0", "create 2 0"]);
    assert_eq!(status(&plan)["failedIndexes"], "0");
}

#[test]
fn a_suspended_job_has_no_pods_and_starts_anew() {
    let suspended = job(json!({ "suspend": true }), started());
    let plan = planned(suspended, vec![pod("a", None, "Running", json!({}))]);
    assert_eq!(done(&plan), ["let go of a", "delete a"]);
    assert_eq!(
        (conditions(&plan), events(&plan)),
        (vec!["Suspended True JobSuspended".to_owned()], vec!["Suspended"])
    );
    let mut stopped = json!({ "startTime": "2026-01-01T00:00:00Z", "uncountedTerminatedPods": {} });
    stopped["conditions"] = status(&plan)["conditions"].clone();
    let plan = planned(job(json!({ "activeDeadlineSeconds": 100, "suspend": false }), stopped), vec![]);
    assert_eq!(conditions(&plan), ["Suspended False JobResumed"]);
    assert_eq!((status(&plan)["startTime"].as_str(), events(&plan)), (Some(START), vec!["Resumed"]));
    let late = json!({ "startTime": "2026-01-01T00:00:00Z", "uncountedTerminatedPods": {} });
    let plan = planned(job(json!({ "activeDeadlineSeconds": 100 }), late), vec![]);
    assert_eq!(conditions(&plan), ["FailureTarget True DeadlineExceeded"]);
}

#[test]
fn strays_are_let_go_of() {
    let stray = pod("s", None, "Running", json!({}));
    let none = View { job: None, pods: vec![], orphans: vec![], strays: vec![stray.clone()] };
    assert_eq!(done(&plan(&none, now())), ["let go of s"]);
    let managed = job(json!({ "managedBy": "example.com/other" }), json!({}));
    assert_eq!(planned(managed, vec![stray.clone()]), Plan::independent());
    let ended = job(json!({}), json!({ "conditions": [{ "type": "Complete", "status": "True" }] }));
    assert_eq!(done(&planned(ended, vec![stray])), ["let go of s"]);
}
