//! Jobs and CronJobs.

use registry::{DeleteOptions, Part, Propagation};
use serde_json::{Value, json};

use crate::world::{World, cx, findings};

const JOBS: &str = "jobs.batch";
const CRON: &str = "cronjobs.batch";

fn pod() -> Value {
    json!({"spec": {"containers": [{"name": "c", "image": "i:1"}], "restartPolicy": "Never"}})
}

fn job(more: Value) -> Value {
    let mut spec = json!({"template": pod()});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    json!({"metadata": {"name": "a"}, "spec": spec})
}

fn cron(more: Value) -> Value {
    let mut spec = json!({"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": pod()}}});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    json!({"metadata": {"name": "a"}, "spec": spec})
}

async fn refused(resource: &str, object: Value, expected: &str) {
    let status = World::new().await.create(resource, object.clone()).await.unwrap_err();
    assert_eq!(findings(&status), expected, "{object}");
}

#[tokio::test]
async fn a_job_gets_its_selector_and_its_labels() {
    let world = World::new().await;
    let made = world.create(JOBS, job(json!({}))).await.unwrap();
    let uid = &made["metadata"]["uid"];
    let labels = json!({"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "a",
        "controller-uid": uid, "job-name": "a"});
    assert_eq!(made["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(made["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}));
    let mut rest = made["spec"].clone();
    ["template", "selector"].iter().for_each(|field| drop(rest.as_object_mut().unwrap().remove(*field)));
    let expected = json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
        "suspend": false, "manualSelector": false, "podReplacementPolicy": "TerminatingOrFailed"});
    assert_eq!((&rest, &made["status"]), (&expected, &json!({})));
    let row = world.row(JOBS, "a").await;
    let expected = json!({"Name": "a", "Status": "Running", "Completions": "0/1", "Duration": "", "Age": "2m30s",
        "Containers": "c", "Images": "i:1",
        "Selector": format!("batch.kubernetes.io/controller-uid={}", uid.as_str().unwrap())});
    assert_eq!(row, expected);
    // Written back as it is, it is still right.
    let again = world.update(JOBS, made.clone()).await.unwrap();
    assert_eq!(again["metadata"]["generation"], 1);
    let parallel = world
        .create(
            JOBS,
            json!({"metadata": {"generateName": "b-"}, "spec": {"parallelism": 3, "template": pod()}}),
        )
        .await
        .unwrap();
    let name = parallel["metadata"]["name"].as_str().unwrap();
    assert_eq!(parallel["spec"]["template"]["metadata"]["labels"]["job-name"], name);
    assert_eq!(world.row(JOBS, name).await["Completions"], "0/1 of 3");
}

#[tokio::test]
async fn labels_that_are_the_servers_to_make_cannot_say_something_else() {
    let mut other = job(json!({}));
    other["spec"]["template"]["metadata"] = json!({"labels": {"job-name": "other"}});
    let status = World::new().await.create(JOBS, other).await.unwrap_err();
    let path = "spec.template.metadata.labels[job-name]: Invalid value: ";
    assert!(findings(&status).starts_with(path) && findings(&status).ends_with("must be 'a'"), "{status}");
    let selector = json!({"selector": {"matchLabels": {"x": "y"}}});
    let status = World::new().await.create(JOBS, job(selector)).await.unwrap_err();
    assert!(findings(&status).contains("`selector` not auto-generated"), "{status}");
    let manual = json!({"manualSelector": true});
    let expected = "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {}: `selector` does not \
                    match template `labels`]";
    refused(JOBS, job(manual), expected).await;
    let mut manual = job(json!({"manualSelector": true, "selector": {"matchLabels": {"x": "y"}}}));
    manual["spec"]["template"]["metadata"] = json!({"labels": {"x": "y"}});
    let made = World::new().await.create(JOBS, manual).await.unwrap();
    assert_eq!(made["spec"]["template"]["metadata"]["labels"], json!({"x": "y"}));
}

#[tokio::test]
async fn what_a_job_may_not_say() {
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        more.as_object().unwrap().iter().for_each(|(name, value)| spec[name] = value.clone());
        spec
    };
    let failures = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let rule = "spec.podFailurePolicy.rules[0]";
    let success = |rule: Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    for (spec, expected) in [
        (
            json!({"backoffLimit": -1}),
            "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0".to_owned(),
        ),
        (
            json!({"completionMode": "Sorted"}),
            "spec.completionMode: Unsupported value: \"Sorted\": supported values: \"NonIndexed\", \"Indexed\""
                .to_owned(),
        ),
        (
            json!({"completionMode": "Indexed", "parallelism": 1}),
            "spec.completions: Required value: when completion mode is Indexed".to_owned(),
        ),
        (
            indexed(json!({"parallelism": 100_001})),
            "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is \
             Indexed"
                .to_owned(),
        ),
        (
            indexed(json!({"maxFailedIndexes": 1})),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified".to_owned(),
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode".to_owned(),
        ),
        (
            indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1})),
            "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000".to_owned(),
        ),
        (
            json!({"managedBy": "me"}),
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned(),
        ),
        (
            failures(json!({"action": "FailJob"})),
            format!("{rule}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
        ),
        (
            failures(json!({"action": "", "onPodConditions": [{"type": "X"}]})),
            format!(
                "{rule}.action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"
            ),
        ),
        (
            failures(json!({"action": "FailIndex", "onPodConditions": [{"type": "X"}]})),
            format!("{rule}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
        ),
        (
            failures(json!({"action": "Count", "onExitCodes": {"operator": "In", "values": [2, 0, 2]}})),
            format!(
                "[{rule}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator, \
                 {rule}.onExitCodes.values[2]: Duplicate value: 2, {rule}.onExitCodes.values: Invalid value: [2,0,2]: \
                 must be ordered]"
            ),
        ),
        (
            failures(json!({"action": "Count",
                "onExitCodes": {"containerName": "x", "operator": "NotIn", "values": [0]}})),
            format!(
                "{rule}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer \
                 names in the pod template"
            ),
        ),
        (
            json!({"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "TerminatingOrFailed"}),
            "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\""
                .to_owned(),
        ),
        (
            json!({"successPolicy": {"rules": []}}),
            "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode".to_owned(),
        ),
        (
            success(json!({})),
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be \
             specified"
                .to_owned(),
        ),
        (
            success(json!({"succeededIndexes": "0-1", "succeededCount": 3})),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number \
             of indexes in the specified succeededIndexes field)"
                .to_owned(),
        ),
        (
            success(json!({"succeededIndexes": "5"})),
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"5\": error parsing succeededIndexes: too \
             large index: \"5\""
                .to_owned(),
        ),
    ] {
        refused(JOBS, job(spec), &expected).await;
    }
    for (policy, failures, expected) in [
        ("Always", false, "Required value: valid values: \"OnFailure\", \"Never\""),
        (
            "OnFailure",
            true,
            "Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ),
    ] {
        let mut wrong = job(json!({}));
        wrong["spec"]["template"]["spec"]["restartPolicy"] = json!(policy);
        if failures {
            wrong["spec"]["podFailurePolicy"] = json!({"rules": []});
        }
        refused(JOBS, wrong, &format!("spec.template.spec.restartPolicy: {expected}")).await;
    }
    let mut long = job(indexed(json!({"completions": 100})));
    let name = "a".repeat(61);
    long["metadata"]["name"] = json!(name);
    let expected = format!(
        "metadata.name: Invalid value: \"{name}\": will not able to create pod with invalid DNS label: {name}-99"
    );
    refused(JOBS, long, &expected).await;
}

#[tokio::test]
async fn a_job_stays_what_it_is_but_for_its_size() {
    let world = World::new().await;
    world.create(JOBS, job(json!({}))).await.unwrap();
    for spec in [json!({"parallelism": 3}), json!({"backoffLimit": 1}), json!({"ttlSecondsAfterFinished": 5})]
    {
        world.merge(JOBS, "a", json!({"spec": spec})).await.unwrap();
    }
    for (spec, field) in [
        (json!({"completions": 2}), "completions: Invalid value: 2"),
        (json!({"completionMode": "Indexed"}), "completionMode: Invalid value: \"Indexed\""),
        (json!({"managedBy": "a.io/b"}), "managedBy: Invalid value: \"a.io/b\""),
    ] {
        let status = world.merge(JOBS, "a", json!({"spec": spec})).await.unwrap_err();
        assert_eq!(findings(&status), format!("spec.{field}: field is immutable"));
    }
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    let status = world.merge(JOBS, "a", image.clone()).await.unwrap_err();
    assert!(findings(&status).starts_with("spec.template: Invalid value: "), "{status}");
    let mut indexed = job(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}));
    indexed["metadata"]["name"] = json!("i");
    world.create(JOBS, indexed).await.unwrap();
    world.merge(JOBS, "i", json!({"spec": {"completions": 3, "parallelism": 3}})).await.unwrap();
    let status = world.merge(JOBS, "i", json!({"spec": {"completions": 4}})).await.unwrap_err();
    let expected = "spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism";
    assert_eq!(findings(&status), expected);
}

#[tokio::test]
async fn where_a_resting_jobs_pods_run_may_change() {
    let world = World::new().await;
    world.create(JOBS, job(json!({"suspend": true}))).await.unwrap();
    let pods = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let container = |more: Value| {
        let mut container = json!({"name": "c", "image": "i:1"});
        more.as_object().unwrap().iter().for_each(|(name, value)| container[name] = value.clone());
        json!({"containers": [container]})
    };
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]});
    let nodes = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
    for spec in [
        json!({"nodeSelector": {"zone": "a"}}),
        json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
        json!({"affinity": {"nodeAffinity": nodes}}),
        json!({"affinity": null}),
        container(json!({"resources": {"requests": {"cpu": "2"}}})),
    ] {
        world.merge(JOBS, "a", pods(spec)).await.unwrap();
    }
    let status = world.merge(JOBS, "a", pods(container(json!({"image": "i:2"})))).await.unwrap_err();
    assert!(findings(&status).starts_with("spec.template.spec: Invalid value: "), "{status}");
    let mut started = world.get(JOBS, "a").await.unwrap();
    started["status"] = json!({"startTime": "2026-11-22T10:00:00Z", "active": 1});
    world.update_part(JOBS, Part::Status, started).await.unwrap();
    let status = world.merge(JOBS, "a", pods(json!({"nodeSelector": {"zone": "b"}}))).await.unwrap_err();
    assert!(findings(&status).starts_with("spec.template: Invalid value: "), "{status}");
}

#[tokio::test]
async fn a_jobs_end_is_said_once_and_whole() {
    let world = World::new().await;
    let made = world.create(JOBS, job(json!({}))).await.unwrap();
    let condition = |kind: &str| json!({"type": kind, "status": "True"});
    let write = async |status: Value| {
        let mut object = made.clone();
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        object["status"] = status;
        world.update_part(JOBS, Part::Status, object).await
    };
    let said = async |status: Value, expected: &str| {
        let refused = write(status).await.unwrap_err();
        assert!(findings(&refused).contains(expected), "{refused}");
    };
    said(
        json!({"active": 1, "ready": 2}),
        "status.ready: Invalid value: 2: cannot set more ready pods than active",
    )
    .await;
    said(
        json!({"completedIndexes": "0"}),
        "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed",
    )
    .await;
    let bare = json!({"conditions": [condition("Complete")], "active": 1});
    for expected in [
        "status.completionTime: Required value: completionTime is required for Complete jobs",
        "status.startTime: Required value: startTime is required for finished job",
        "status.active: Invalid value: 1: active>0 is invalid for finished job",
        "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true",
    ] {
        said(bare.clone(), expected).await;
    }
    let both = [condition("Complete"), condition("Failed"), condition("FailureTarget")];
    let clash = "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions";
    said(json!({"conditions": both}), clash).await;
    let alone = "cannot set Failed=True condition without the FailureTarget=true condition";
    said(json!({"conditions": [condition("Failed")]}), alone).await;
    let early = json!({"conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        "startTime": "2026-11-22T10:00:00Z", "completionTime": "2026-11-22T09:00:00Z"});
    said(early, "completionTime cannot be set before startTime").await;
    let ended = json!({"conditions": [condition("SuccessCriteriaMet"), condition("Complete")], "succeeded": 1,
        "startTime": "2026-11-22T10:00:00Z", "completionTime": "2026-11-22T10:01:05Z"});
    write(ended.clone()).await.unwrap();
    let row = world.row(JOBS, "a").await;
    assert_eq!(
        (&row["Status"], &row["Completions"], &row["Duration"]),
        (&json!("Complete"), &json!("1/1"), &json!("65s"))
    );
    said(json!({"succeeded": 1}), "cannot disable the terminal Complete=True condition").await;
    let mut less = ended.clone();
    less["succeeded"] = json!(0);
    said(less, "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter").await;
    let mut later = ended;
    later["completionTime"] = json!("2026-11-22T11:00:00Z");
    said(later, "completionTime cannot be mutated").await;
}

#[tokio::test]
async fn pods_stay_when_nobody_says_what_becomes_of_them() {
    let world = World::new().await;
    world.create(JOBS, job(json!({}))).await.unwrap();
    let context = cx();
    let kind = world.kind(JOBS);
    let deleted =
        world.registry.delete(&context, &kind, "default", "a", &DeleteOptions::default()).await.unwrap();
    assert!(!deleted.gone);
    assert_eq!(deleted.object.tree()["metadata"]["finalizers"], json!(["orphan"]));
    let warning = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
                   them or set propagationPolicy=Orphan to suppress this warning";
    assert_eq!(context.warnings.take(), [warning]);
    let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    assert!(world.delete_with(JOBS, "a", background).await.unwrap().gone);
}

#[tokio::test]
async fn a_cron_job_gets_upstreams_defaults() {
    let world = World::new().await;
    let made = world.create(CRON, cron(json!({"timeZone": "Europe/Rome"}))).await.unwrap();
    let spec = &made["spec"];
    let shown = [
        &spec["concurrencyPolicy"],
        &spec["suspend"],
        &spec["successfulJobsHistoryLimit"],
        &spec["failedJobsHistoryLimit"],
    ];
    assert_eq!(shown, [&json!("Allow"), &json!(false), &json!(3), &json!(1)]);
    let job = &spec["jobTemplate"]["spec"];
    assert_eq!(job["template"]["spec"]["dnsPolicy"], "ClusterFirst");
    assert_eq!(
        (job.get("parallelism"), job.get("selector")),
        (None, None),
        "the job gets these when it is made"
    );
    let mut ran = made.clone();
    ran["status"] = json!({"lastScheduleTime": "2026-11-22T10:01:30Z", "active": [{"name": "a-1"}]});
    world.update_part(CRON, Part::Status, ran).await.unwrap();
    let expected = json!({"Name": "a", "Schedule": "*/5 * * * *", "Timezone": "Europe/Rome", "Suspend": "False",
        "Active": 1, "Last Schedule": "60s", "Age": "2m30s", "Containers": "c", "Images": "i:1",
        "Selector": "<none>"});
    assert_eq!(world.row(CRON, "a").await, expected);
}

#[tokio::test]
async fn what_a_cron_job_may_not_say() {
    for (spec, expected) in [
        (json!({"schedule": ""}), "spec.schedule: Required value".to_owned()),
        (
            json!({"schedule": "error"}),
            "spec.schedule: Invalid value: \"error\": expected exactly 5 fields, found 1: [error]".to_owned(),
        ),
        (
            json!({"schedule": "TZ=UTC 0 * * * *"}),
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone \
             field instead"
                .to_owned(),
        ),
        (
            json!({"timeZone": ""}),
            "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string".to_owned(),
        ),
        (
            json!({"timeZone": "Local"}),
            "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
             https://www.iana.org/time-zones"
                .to_owned(),
        ),
        (
            json!({"timeZone": "America/Nowhere"}),
            "spec.timeZone: Invalid value: \"America/Nowhere\": unknown time zone America/Nowhere".to_owned(),
        ),
        (
            json!({"concurrencyPolicy": "Perhaps"}),
            "spec.concurrencyPolicy: Unsupported value: \"Perhaps\": supported values: \"Allow\", \"Forbid\", \
             \"Replace\""
                .to_owned(),
        ),
        (
            json!({"startingDeadlineSeconds": -1}),
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0".to_owned(),
        ),
        (
            json!({"jobTemplate": {"spec": {"template": pod(), "manualSelector": true,
                "selector": {"matchLabels": {"a": "b"}}}}}),
            "[spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be \
             auto-generated, spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \
             \"false\"]"
                .to_owned(),
        ),
        (
            json!({"jobTemplate": {}}),
            "[spec.jobTemplate.spec.template.spec.containers: Required value, \
             spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"]"
                .to_owned(),
        ),
    ] {
        refused(CRON, cron(spec), &expected).await;
    }
    let mut long = cron(json!({}));
    let name = "a".repeat(53);
    long["metadata"]["name"] = json!(name);
    let expected = format!("metadata.name: Invalid value: \"{name}\": must be no more than 52 characters");
    refused(CRON, long, &expected).await;
}
