//! Jobs and CronJobs with real containers.

use harness::{Plane, eventually};
use serde_json::Value;

use crate::containers::{IMAGE, plane_with_image};

fn job(name: &str, spec: &str, script: &str) -> String {
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{spec}  template:\n    spec:\n{}",
        pod(script, 6)
    )
}

fn pod(script: &str, indent: usize) -> String {
    let lines = format!(
        "restartPolicy: Never\nterminationGracePeriodSeconds: 1\ncontainers:\n- name: main\n  image: {IMAGE}\n  \
         imagePullPolicy: Never\n  command: [/bin/busybox, sh, -c]\n  args: ['{script}']\n"
    );
    lines.lines().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

fn conditions(object: &Value) -> Vec<String> {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |each: &Value, field: &str| each[field].as_str().unwrap_or_default().to_owned();
    let holds = conditions.iter().filter(|each| each["status"] == "True");
    holds.map(|each| format!("{} {}", text(each, "type"), text(each, "reason"))).collect()
}

fn holders(plane: &Plane) -> usize {
    let pods = plane.get(&["pods"]);
    let is_held =
        |pod: &&Value| pod["metadata"]["finalizers"].as_array().is_some_and(|held| !held.is_empty());
    pods["items"].as_array().into_iter().flatten().filter(is_held).count()
}

#[test]
fn jobs_complete_fail_and_wait() {
    let Some(plane) = plane_with_image() else { return };
    let indexed = "  completions: 3\n  parallelism: 2\n  completionMode: Indexed\n";
    plane.apply(&job("indexed", indexed, "echo I am $JOB_COMPLETION_INDEX of $HOSTNAME"));
    plane.apply(&job("failing", "  backoffLimit: 1\n", "exit 3"));
    plane.apply(&job("waiting", "  suspend: true\n", "exit 0"));
    plane.kubectl_ok(&["wait", "--for=condition=Complete", "job/indexed", "--timeout=90s"]);
    let done = plane.get(&["job", "indexed"]);
    assert_eq!(done["status"]["completedIndexes"], "0-2");
    assert_eq!((done["status"]["succeeded"].as_i64(), done["status"]["active"].as_i64()), (Some(3), None));
    assert_eq!(conditions(&done), ["SuccessCriteriaMet CompletionsReached", "Complete CompletionsReached"]);
    let second = "--selector=batch.kubernetes.io/job-completion-index=1";
    assert_eq!(plane.kubectl_ok(&["logs", second]), "I am 1 of indexed-1\n");

    plane.kubectl_ok(&["wait", "--for=condition=Suspended", "job/waiting", "--timeout=30s"]);
    assert_eq!(plane.get(&["pods", "-l", "job-name=waiting"])["items"], Value::Array(vec![]));
    plane.kubectl_ok(&["patch", "job", "waiting", "--patch", r#"{"spec":{"suspend":false}}"#]);
    plane.kubectl_ok(&["wait", "--for=condition=Complete", "job/waiting", "--timeout=60s"]);

    plane.kubectl_ok(&["wait", "--for=condition=Failed", "job/failing", "--timeout=90s"]);
    let failed = plane.get(&["job", "failing"]);
    assert_eq!(conditions(&failed), ["FailureTarget BackoffLimitExceeded", "Failed BackoffLimitExceeded"]);
    assert_eq!(failed["status"]["failed"], 2);
    let described = plane.kubectl_ok(&["describe", "job", "failing"]);
    assert!(
        described.contains("BackoffLimitExceeded") && described.contains("Created pod: failing-"),
        "{described}"
    );
    assert_eq!(holders(&plane), 0, "no pod is held when its Job has ended");
    plane.kubectl_ok(&["delete", "job", "--all", "--timeout=60s"]);
    eventually("the pods go with their Jobs", || {
        plane.get(&["pods"])["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_cron_job_makes_jobs_by_the_clock_and_by_hand() {
    let Some(plane) = plane_with_image() else { return };
    let cron = format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: tick}}\nspec:\n  schedule: '@every 2s'\n  \
         successfulJobsHistoryLimit: 1\n  concurrencyPolicy: Forbid\n  jobTemplate:\n    spec:\n      \
         ttlSecondsAfterFinished: 3600\n      template:\n        spec:\n{}",
        pod("echo tick", 10)
    );
    plane.apply(&cron);
    eventually("a Job was made and has ended", || {
        let status = &plane.get(&["cronjob", "tick"])["status"];
        (status["lastSuccessfulTime"].is_string() && status["lastScheduleTime"].is_string()).then_some(())
    });
    plane.kubectl_ok(&["patch", "cronjob", "tick", "--patch", r#"{"spec":{"suspend":true}}"#]);
    eventually("only the last of those that ended is kept", || {
        let jobs = plane.get(&["jobs"]);
        let jobs = jobs["items"].as_array().cloned().unwrap_or_default();
        (jobs.len() == 1 && plane.get(&["cronjob", "tick"])["status"]["active"].is_null()).then_some(())
    });
    // The other that is kept could be younger by name alone.
    plane.kubectl_ok(&["delete", "jobs", "--all", "--timeout=60s"]);
    plane.kubectl_ok(&["create", "job", "by-hand", "--from=cronjob/tick"]);
    plane.kubectl_ok(&["wait", "--for=condition=Complete", "job/by-hand", "--timeout=60s"]);
    let at_once = r#"{"spec":{"ttlSecondsAfterFinished":0}}"#;
    plane.kubectl_ok(&["patch", "job/by-hand", "--patch", at_once]);
    eventually("a Job goes when its time after its end is over", || {
        plane.get(&["jobs"])["items"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_role_is_made_of_others() {
    let plane = crate::start(&["--disable", "node", "--disable", "edge"]);
    plane.apply(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: whole}\naggregationRule:\n  \
         clusterRoleSelectors:\n  - matchLabels: {of: whole}\nrules: []\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: part, labels: {of: whole}}\nrules:\n\
         - {apiGroups: [\"\"], resources: [secrets], verbs: [get]}\n",
    );
    let rules = || plane.get(&["clusterrole", "whole"])["rules"].clone();
    eventually("it has its part's rules", || (rules()[0]["resources"][0] == "secrets").then_some(()));
    plane.kubectl_ok(&["delete", "clusterrole", "part"]);
    eventually("it no longer has them", || rules().as_array().is_none_or(Vec::is_empty).then_some(()));
}
