//! StatefulSets, DaemonSets and budgets: who makes their pods, in which order, and how they are updated, with the real
//! kubectl.

use harness::{Plane, eventually};
use serde_json::Value;

use crate::containers::{IMAGE, plane_with_image};
use crate::start;

/// A workload of pods that sleep so long.
fn workload(kind: &str, seconds: &str, rest: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: {kind}
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
{rest}  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: web, image: '{IMAGE}', imagePullPolicy: Never, command: [/bin/busybox, sleep, '{seconds}']}}
"
    )
}

fn names(plane: &Plane, what: &[&str]) -> Vec<String> {
    let listed = plane.kubectl_ok(&[&["get"], what, &["-o", "name"]].concat());
    listed.lines().map(|line| line.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

/// How long the pods of a workload are to sleep.
fn sleeps(plane: &Plane) -> Vec<Value> {
    let pods = plane.get(&["pods", "-l", "app=web"]);
    let all = pods["items"].as_array().into_iter().flatten();
    all.map(|pod| pod["spec"]["containers"][0]["command"][2].clone()).collect()
}

/// When a pod became what a condition says.
fn since(pod: &Value, condition: &str) -> String {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let at = conditions.filter(|one| one["type"] == condition).map(|one| one["lastTransitionTime"].as_str());
    at.flatten().next().unwrap_or_default().to_owned()
}

fn rolled_out(plane: &Plane, what: &str) {
    plane.kubectl_ok(&["rollout", "status", what, "--timeout=90s"]);
}

/// Changes a workload, looks at its history and takes the change back.
fn there_and_back(plane: &Plane, what: &str, changed: &str, count: usize) {
    plane.apply(changed);
    rolled_out(plane, what);
    assert_eq!(sleeps(plane), vec!["2000"; count]);
    let history = plane.kubectl_ok(&["rollout", "history", what]);
    let rows: Vec<&str> = history.lines().skip(2).filter(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), 2, "{history}");
    let first = plane.kubectl_ok(&["rollout", "history", what, "--revision=1"]);
    assert!(first.contains("1000"), "{first}");
    plane.kubectl_ok(&["rollout", "undo", what]);
    rolled_out(plane, what);
    assert_eq!(sleeps(plane), vec!["1000"; count]);
    let history = plane.kubectl_ok(&["rollout", "history", what]);
    assert!(history.lines().any(|line| line.starts_with('3')), "what comes back is the latest: {history}");
}

#[test]
fn a_stateful_set_rolls_out_in_order_and_shrinks_in_reverse() {
    let Some(plane) = plane_with_image() else { return };
    let spec = "  serviceName: web\n  replicas: 3\n";
    plane.apply(&workload("StatefulSet", "1000", spec));
    rolled_out(&plane, "sts/web");
    assert_eq!(names(&plane, &["pods", "-l", "app=web"]), ["web-0", "web-1", "web-2"]);
    let pods = ["web-0", "web-1", "web-2"].map(|name| plane.get(&["pod", name]));
    for pair in pods.windows(2) {
        let (ready, made) = (since(&pair[0], "Ready"), pair[1]["metadata"]["creationTimestamp"].as_str());
        assert!(
            !ready.is_empty() && made.expect("a time") >= ready.as_str(),
            "each waits for the one before it"
        );
    }
    assert_eq!(plane.kubectl_ok(&["exec", "web-1", "--", "/bin/busybox", "hostname"]), "web-1\n");
    there_and_back(&plane, "sts/web", &workload("StatefulSet", "2000", spec), 3);
    let set = plane.get(&["sts", "web"]);
    let status = &set["status"];
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    assert_eq!(
        (&status["readyReplicas"], &status["observedGeneration"]),
        (&3.into(), &set["metadata"]["generation"])
    );
    plane.kubectl_ok(&["scale", "sts/web", "--replicas=1"]);
    eventually("one is left", || (names(&plane, &["pods", "-l", "app=web"]) == ["web-0"]).then_some(()));
    let described = plane.kubectl_ok(&["describe", "sts", "web"]);
    assert!(described.contains("create Pod web-2 in StatefulSet web successful"), "{described}");
    assert!(described.contains("delete Pod web-1 in StatefulSet web successful"), "{described}");
    plane.kubectl_ok(&["delete", "pod", "web-0", "--timeout=30s"]);
    eventually("it comes back under its name", || plane.kubectl(&["get", "pod", "web-0"]).ok.then_some(()));
}

#[test]
fn claims_stay_or_go_with_their_pods_and_sets() {
    let plane = start(&["--disable", "node,edge"]);
    let spec = "  serviceName: web
  replicas: 2
  podManagementPolicy: Parallel
  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete, whenDeleted: Retain}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
    plane.apply(&workload("StatefulSet", "1000", spec));
    eventually("claims", || (names(&plane, &["pvc"]) == ["data-web-0", "data-web-1"]).then_some(()));
    eventually("pods", || (names(&plane, &["pods"]) == ["web-0", "web-1"]).then_some(()));
    let pod = plane.get(&["pod", "web-1"]);
    let claims = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let claims: Vec<_> =
        claims.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).collect();
    assert_eq!(claims, ["data-web-1"]);
    plane.kubectl_ok(&["scale", "sts/web", "--replicas=1"]);
    eventually("the claim goes with the pod", || (names(&plane, &["pvc"]) == ["data-web-0"]).then_some(()));
    plane.kubectl_ok(&["delete", "sts", "web", "--timeout=30s"]);
    eventually("no pod is left", || names(&plane, &["pods"]).is_empty().then_some(()));
    assert_eq!(names(&plane, &["pvc"]), ["data-web-0"], "this one stays");
    plane.apply(&workload(
        "StatefulSet",
        "1000",
        &spec.replace("whenDeleted: Retain", "whenDeleted: Delete"),
    ));
    eventually("the set owns its claims", || {
        let owners = names(&plane, &["pvc"])
            .into_iter()
            .map(|claim| plane.get(&["pvc", &claim])["metadata"]["ownerReferences"][0]["kind"].clone());
        (owners.collect::<Vec<_>>() == ["StatefulSet", "StatefulSet"]).then_some(())
    });
    plane.kubectl_ok(&["delete", "sts", "web", "--timeout=30s"]);
    eventually("all go with the set", || names(&plane, &["pvc"]).is_empty().then_some(()));
}

#[test]
fn a_daemon_set_is_on_each_node_that_bears_it() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&workload("DaemonSet", "1000", ""));
    rolled_out(&plane, "ds/web");
    let pod = &plane.get(&["pods", "-l", "app=web"])["items"][0];
    assert_eq!(pod["spec"]["nodeName"], "test-node");
    let fields = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        [0]["matchFields"][0];
    assert_eq!((&fields["key"], &fields["values"][0]), (&"metadata.name".into(), &"test-node".into()));
    there_and_back(&plane, "ds/web", &workload("DaemonSet", "2000", ""), 1);
    let table = plane.kubectl_ok(&["get", "ds", "web", "--no-headers"]);
    let cells: Vec<&str> = table.split_whitespace().take(6).collect();
    assert_eq!(cells, ["web", "1", "1", "1", "1", "1"], "{table}");
    plane.kubectl_ok(&["cordon", "test-node"]);
    let before = names(&plane, &["pods", "-l", "app=web"]);
    plane.kubectl_ok(&["delete", "pod", &before[0], "--timeout=30s"]);
    rolled_out(&plane, "ds/web");
    assert_ne!(names(&plane, &["pods", "-l", "app=web"]), before, "a daemon is there on a cordoned node too");
    plane.kubectl_ok(&["uncordon", "test-node"]);
    plane.kubectl_ok(&["taint", "node", "test-node", "mine=:NoExecute"]);
    eventually("it is driven off", || names(&plane, &["pods", "-l", "app=web"]).is_empty().then_some(()));
    eventually("nobody wants it", || {
        (plane.get(&["ds", "web"])["status"]["desiredNumberScheduled"] == 0).then_some(())
    });
    plane.kubectl_ok(&["taint", "node", "test-node", "mine-"]);
    eventually("it is wanted again", || {
        (plane.get(&["ds", "web"])["status"]["numberReady"] == 1).then_some(())
    });
}

#[test]
fn a_drain_honours_a_budget_that_is_counted() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&workload("Deployment", "1000", "  replicas: 1\n"));
    plane.kubectl_ok(&["create", "pdb", "guard", "--selector=app=web", "--min-available=1"]);
    rolled_out(&plane, "deployment/web");
    let counted = |field: &str, count: i64| {
        eventually(field, || (plane.get(&["pdb", "guard"])["status"][field] == count).then_some(()));
    };
    counted("currentHealthy", 1);
    let status = plane.get(&["pdb", "guard"])["status"].clone();
    assert_eq!((&status["disruptionsAllowed"], &status["desiredHealthy"]), (&0.into(), &1.into()));
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
    let drain = |timeout: &str| {
        plane.kubectl(&[
            "drain",
            "test-node",
            "--ignore-daemonsets",
            "--pod-selector=app=web",
            "--timeout",
            timeout,
        ])
    };
    let refused = drain("3s");
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert!(!refused.ok && refused.err.contains(words), "{refused:?}");
    assert_eq!(plane.get(&["deployment", "web"])["status"]["readyReplicas"], 1);
    let looser = r#"{"spec":{"minAvailable":null,"maxUnavailable":1}}"#;
    plane.kubectl_ok(&["patch", "pdb", "guard", "--type=merge", "-p", looser]);
    counted("disruptionsAllowed", 1);
    assert_eq!(plane.get(&["pdb", "guard"])["status"]["expectedPods"], 1, "as many as the Deployment wants");
    let done = drain("60s");
    assert!(done.ok && done.out.contains("evicted"), "{done:?}");
    counted("currentHealthy", 0);
    counted("disruptionsAllowed", 0);
    plane.kubectl_ok(&["uncordon", "test-node"]);
    rolled_out(&plane, "deployment/web");
    counted("disruptionsAllowed", 1);
    let status = plane.get(&["pdb", "guard"])["status"].clone();
    assert!(status.get("disruptedPods").is_none(), "the one that was evicted has been seen to go: {status}");
}

const WIDGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
";

#[test]
fn a_budget_counts_what_any_kind_with_a_scale_wants() {
    let plane = start(&["--disable", "node,edge"]);
    plane.apply(WIDGETS);
    plane.kubectl_ok(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s"]);
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {replicas: 3}\n";
    eventually("widgets", || plane.kubectl_with(&["apply", "-f", "-"], widget).ok.then_some(()));
    let scaleless = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w}\n";
    plane.apply(scaleless);
    eventually("a service account", || plane.kubectl(&["get", "sa", "default"]).ok.then_some(()));
    let owned = |name: &str, version: &str, kind: &str| {
        let owner = plane.get(&[kind, "w"]);
        let uid = owner["metadata"]["uid"].as_str().expect("a UID");
        let kind = owner["kind"].as_str().expect("a kind");
        plane.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: {{app: {name}}}\n  ownerReferences: [{{apiVersion: {version}, \
             kind: {kind}, name: w, uid: {uid}, controller: true}}]\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        ));
        let selector = format!("--selector=app={name}");
        plane.kubectl_ok(&["create", "pdb", name, &selector, "--max-unavailable=1"]);
    };
    owned("sized", "example.com/v1", "widget");
    eventually("three are wanted", || {
        let status = &plane.get(&["pdb", "sized"])["status"];
        (status["expectedPods"] == 3 && status["desiredHealthy"] == 2).then_some(())
    });
    owned("unsized", "v1", "configmap");
    eventually("that cannot be said", || {
        let condition = &plane.get(&["pdb", "unsized"])["status"]["conditions"][0];
        let said = (condition["reason"].as_str()?, condition["message"].as_str()?);
        (said == ("SyncFailed", "configmaps does not implement the scale subresource")).then_some(())
    });
}
