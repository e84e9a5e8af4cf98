//! Kinds that run things, rank them and keep enough of them, with the real kubectl. No node: objects only.

use harness::{Plane, eventually};
use serde_json::json;

use crate::start;

const SETS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: 'db:1'}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: 'agent:1'}]}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  template:
    metadata: {labels: {app: old}}
    spec: {containers: [{name: old, image: 'old:1'}]}
";
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: far
  containers: [{name: web, image: 'web:1'}]
";

fn plane() -> Plane {
    start(&["--disable", "node,edge"])
}

/// The cells of a table's first row, without what depends on when it is asked for.
fn row(table: &str) -> Vec<&str> {
    table.lines().nth(1).unwrap_or_default().split_whitespace().collect()
}

#[test]
fn jobs_and_cron_jobs() {
    let plane = plane();
    let said = plane.kubectl_ok(&["create", "job", "hello", "--image=busybox", "--", "echo", "hi"]);
    assert_eq!(said, "job.batch/hello created\n");
    let table = plane.kubectl_ok(&["get", "jobs", "-o", "wide"]);
    let heading: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    let expected = ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"];
    assert_eq!(heading, expected);
    assert_eq!(row(&table)[..3], ["hello", "Running", "0/1"], "{table}");
    let tick = ["create", "cronjob", "tick", "--image=busybox", "--schedule=*/5 * * * *", "--", "date"];
    plane.kubectl_ok(&tick);
    let table = plane.kubectl_ok(&["get", "cj", "tick"]);
    assert_eq!(row(&table)[..9], ["tick", "*/5", "*", "*", "*", "*", "<none>", "False", "0"], "{table}");
    plane.kubectl_ok(&["create", "job", "now", "--from=cronjob/tick"]);
    assert_eq!(plane.get(&["job", "now"])["metadata"]["ownerReferences"][0]["kind"], "CronJob");
    let wrong = plane.kubectl(&["create", "cronjob", "x", "--image=i", "--schedule=soon"]);
    let expected = "error: failed to create cronjob: CronJob.batch \"x\" is invalid: spec.schedule: Invalid value: \
                    \"soon\": expected exactly 5 fields, found 1: [soon]\n";
    assert_eq!(wrong.err, expected);
    let described = plane.kubectl_ok(&["describe", "job", "hello"]);
    assert!(described.contains("Completion Mode:  NonIndexed"), "{described}");
    let all = plane.kubectl_ok(&["get", "all", "-o", "name"]);
    assert!(all.contains("job.batch/hello\n") && all.contains("cronjob.batch/tick\n"), "{all}");
    let explained = plane.kubectl_ok(&["explain", "job.spec.podFailurePolicy.rules"]);
    assert!(explained.contains("onExitCodes"), "{explained}");
    let suspended = r#"{"spec":{"suspend":true}}"#;
    plane.kubectl_ok(&["patch", "cronjob", "tick", "-p", suspended]);
    assert_eq!(plane.get(&["cronjob", "tick"])["metadata"]["generation"], 2);
    plane.kubectl_ok(&["delete", "job", "hello"]);
}

#[test]
fn sets_and_what_they_were() {
    let plane = plane();
    plane.apply(SETS);
    assert_eq!(row(&plane.kubectl_ok(&["get", "sts"]))[..2], ["db", "0/1"]);
    assert_eq!(row(&plane.kubectl_ok(&["get", "ds"]))[..7], ["agent", "0", "0", "0", "0", "0", "<none>"]);
    for scaled in ["sts/db", "rc/old"] {
        plane.kubectl_ok(&["scale", scaled, "--replicas=3"]);
        assert_eq!(plane.get(&[scaled])["spec"]["replicas"], 3, "{scaled}");
    }
    eventually("pods of the first kind of all", || {
        (row(&plane.kubectl_ok(&["get", "rc"]))[..4] == ["old", "3", "3", "0"]).then_some(())
    });
    for rolled in ["sts/db", "ds/agent"] {
        plane.kubectl_ok(&["rollout", "restart", rolled]);
        eventually("two versions", || {
            let history = plane.kubectl_ok(&["rollout", "history", rolled]);
            history.lines().any(|line| line.starts_with('2')).then_some(())
        });
    }
    let annotations = &plane.get(&["ds/agent"])["metadata"]["annotations"];
    assert_eq!(annotations["deprecated.daemonset.template.generation"], "2");
    let fixed = plane.kubectl(&["patch", "sts", "db", "-p", r#"{"spec":{"serviceName":"other"}}"#]);
    assert!(fixed.err.contains("updates to statefulset spec for fields other than 'replicas'"), "{fixed:?}");
    for kind in
        ["statefulset.spec.volumeClaimTemplates", "daemonset.spec", "controllerrevision", "podtemplate"]
    {
        let explained = plane.kubectl_ok(&["explain", kind]);
        assert!(explained.contains("VERSION:"), "{explained}");
    }
}

#[test]
fn autoscalers_in_both_versions() {
    let plane = plane();
    plane.apply(SETS);
    plane.kubectl_ok(&["autoscale", "statefulset", "db", "--min=2", "--max=5", "--cpu-percent=50"]);
    let table = plane.kubectl_ok(&["get", "hpa"]);
    let expected = ["db", "StatefulSet/db", "cpu:", "<unknown>/50%", "2", "5"];
    assert_eq!(row(&table)[..6], expected, "{table}");
    let v1 = plane.get(&["horizontalpodautoscalers.v1.autoscaling", "db"]);
    assert_eq!(
        (&v1["apiVersion"], &v1["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(50))
    );
    let v2 = plane.get(&["hpa", "db"]);
    assert_eq!(v2["apiVersion"], "autoscaling/v2");
    plane.kubectl_ok(&["describe", "hpa", "db"]);
}

#[test]
fn priorities() {
    let plane = plane();
    let table = plane.kubectl_ok(&["get", "pc", "--no-headers"]);
    for system in ["system-cluster-critical", "system-node-critical"] {
        assert!(table.contains(system), "{table}");
    }
    plane.kubectl_ok(&["create", "priorityclass", "high", "--value=1000", "--preemption-policy=Never"]);
    let cells = plane.kubectl_ok(&["get", "pc", "high"]);
    let cells = row(&cells);
    assert_eq!((&cells[..3], cells.last()), (&["high", "1000", "false"][..], Some(&"Never")));
    eventually("a service account", || plane.kubectl(&["get", "sa", "default"]).ok.then_some(()));
    plane.apply(&POD.replace("nodeName: far", "priorityClassName: high"));
    let spec = &plane.get(&["pod", "web"])["spec"];
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(1000), &json!("Never")));
    let kept = plane.kubectl(&["delete", "pc", "system-node-critical"]);
    assert!(kept.err.contains("this is a system priority class and cannot be deleted"), "{kept:?}");
}

#[test]
fn a_drain_meets_a_budget() {
    let plane = plane();
    plane.apply("apiVersion: v1\nkind: Node\nmetadata: {name: far}\n");
    eventually("a service account", || plane.kubectl(&["get", "sa", "default"]).ok.then_some(()));
    plane.apply(POD);
    let patch = |what: &str, name: &str, status: serde_json::Value| {
        let status = json!({"status": status}).to_string();
        plane.kubectl_ok(&["patch", what, name, "--subresource=status", "--type=merge", "-p", &status]);
    };
    let ready = json!([{"type": "Ready", "status": "True"}]);
    patch("pod", "web", json!({"phase": "Running", "conditions": ready}));
    plane.kubectl_ok(&["create", "pdb", "guard", "--selector=app=web", "--min-available=1"]);
    let counted = |field: &str, count: i64| {
        eventually(field, || (plane.get(&["pdb", "guard"])["status"][field] == count).then_some(()));
    };
    counted("currentHealthy", 1);
    let table = plane.kubectl_ok(&["get", "pdb"]);
    assert_eq!(row(&table)[..4], ["guard", "1", "N/A", "0"], "{table}");
    let drain =
        |timeout: &str| plane.kubectl(&["drain", "far", "--force", "--grace-period=0", "--timeout", timeout]);
    let refused = drain("2s");
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(!refused.ok && refused.err.contains(words), "{refused:?}");
    assert!(plane.kubectl(&["get", "pod", "web"]).ok);
    plane.kubectl_ok(&["patch", "pdb", "guard", "--type=merge", "-p", r#"{"spec":{"minAvailable":0}}"#]);
    counted("disruptionsAllowed", 1);
    let done = drain("60s");
    assert!(done.ok && done.out.contains("pod/web evicted"), "{done:?}");
    counted("currentHealthy", 0);
    counted("disruptionsAllowed", 0);
    plane.kubectl_ok(&["uncordon", "far"]);
}
