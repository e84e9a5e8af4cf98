//! The families of kubectl's commands that other tests do not go through, on one plane, as somebody would type them. Whole
//! outputs are compared where they are kubectl's words about what the API answered.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use harness::{Plane, eventually};
use serde_json::{Value, json};

use crate::start;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {nowhere: here}
      containers:
      - {name: web, image: hello, ports: [{containerPort: 8080}]}
";

#[test]
fn commands_do_what_they_say() {
    let plane = start(&["--disable", "node,edge"]);
    apply_both_ways(&plane);
    differences(&plane);
    edit_and_replace(&plane);
    explain(&plane);
    make(&plane);
    outputs(&plane);
    events_and_waits(&plane);
    nodes(&plane);
    as_others(&plane);
    proxy(&plane);
}

fn apply_both_ways(plane: &Plane) {
    assert_eq!(plane.apply(DEPLOYMENT), "deployment.apps/web created\n");
    let other = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 5}\n";
    let server_side = ["apply", "--server-side", "--field-manager=team", "-f", "-"];
    let said = plane.kubectl_with(&server_side, other);
    let conflict = "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas";
    assert!(!said.ok && said.err.contains(conflict), "{said:?}");
    let forced = plane.kubectl_with(&[&server_side[..], &["--force-conflicts"]].concat(), other);
    assert_eq!(forced.out, "deployment.apps/web serverside-applied\n", "{forced:?}");
    assert_eq!(plane.get(&["deploy", "web"])["spec"]["replicas"], 5);
    // Nobody is asked on the way of old, which takes it back.
    assert_eq!(plane.apply(DEPLOYMENT), "deployment.apps/web configured\n");
    let last = plane.kubectl_ok(&["apply", "view-last-applied", "deployment/web", "-o", "json"]);
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(
        (&last["spec"]["replicas"], &plane.get(&["deploy", "web"])["spec"]["replicas"]),
        (&json!(1), &json!(1))
    );
}

fn differences(plane: &Plane) {
    let same = plane.kubectl_with(&["diff", "-f", "-"], DEPLOYMENT);
    assert!(same.ok && same.out.is_empty(), "{same:?}");
    let changed = DEPLOYMENT.replace("replicas: 1", "replicas: 3");
    for way in [&["diff", "-f", "-"][..], &["diff", "--server-side", "--force-conflicts", "-f", "-"]] {
        let said = plane.kubectl_with(way, &changed);
        assert!(!said.ok && said.out.contains("-  replicas: 1\n+  replicas: 3\n"), "{said:?}");
    }
    assert_eq!(plane.get(&["deploy", "web"])["spec"]["replicas"], 1, "nothing was changed");
}

fn edit_and_replace(plane: &Plane) {
    plane.kubectl_ok(&["create", "configmap", "made", "--from-literal=a=before"]);
    let mut edit = plane.kubectl_command();
    let said = edit.args(["edit", "configmap", "made"]).env("KUBE_EDITOR", "sed -i s/before/after/").output();
    let said = harness::Said::from(said.expect("kubectl runs"));
    assert_eq!(said.out, "configmap/made edited\n", "{said:?}");
    assert_eq!(plane.get(&["cm", "made"])["data"], json!({"a": "after"}));

    let mut object = plane.get(&["cm", "made"]);
    object["data"] = json!({"b": "replaced"});
    let said = plane.kubectl_with(&["replace", "-f", "-"], &object.to_string());
    assert_eq!(said.out, "configmap/made replaced\n", "{said:?}");
    let stale = plane.kubectl_with(&["replace", "-f", "-"], &object.to_string());
    assert!(stale.err.contains("the object has been modified"), "{stale:?}");
    let fresh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\ndata: {c: forced}\n";
    let said = plane.kubectl_with(&["replace", "--force", "-f", "-"], fresh);
    assert!(said.ok && said.out.ends_with("configmap/made replaced\n"), "{said:?}");
    assert_eq!(plane.get(&["cm", "made"])["data"], json!({"c": "forced"}));
    let sets = plane.kubectl_ok(&["set", "image", "deployment/web", "web=hello:2"]);
    assert_eq!(sets, "deployment.apps/web image updated\n");
    let patched = plane.kubectl_ok(&[
        "patch",
        "deploy",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":2}}"#,
    ]);
    assert_eq!(
        (patched.as_str(), &plane.get(&["deploy", "web"])["spec"]["replicas"]),
        ("scale.autoscaling/web patched\n", &json!(2))
    );
}

fn explain(plane: &Plane) {
    let said = plane.kubectl_ok(&["explain", "deployment.spec.strategy.rollingUpdate"]);
    assert!(said.contains("GROUP:      apps") && said.contains("maxSurge\t<IntOrString>"), "{said}");
    let all = plane.kubectl_ok(&["explain", "pod.spec", "--recursive"]);
    assert!(all.contains("initialDelaySeconds\t<integer>"), "{all}");
}

fn make(plane: &Plane) {
    eventually("a service account", || plane.kubectl(&["get", "sa", "default"]).ok.then_some(()));
    let pod = plane.kubectl_ok(&[
        "run",
        "one",
        "--image=hello",
        "--labels=run=one",
        "--port=80",
        "--overrides",
        r#"{"spec":{"nodeSelector":{"nowhere":"here"}}}"#,
    ]);
    assert_eq!(pod, "pod/one created\n");
    let dry = plane.kubectl_ok(&["run", "two", "--image=hello", "--dry-run=server", "-o", "name"]);
    assert_eq!((dry.as_str(), plane.kubectl(&["get", "pod", "two"]).ok), ("pod/two\n", false));
    assert_eq!(
        plane.kubectl_ok(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]),
        "service/web exposed\n"
    );
    assert_eq!(plane.get(&["service", "web"])["spec"]["selector"], json!({"app": "web"}));
    let scaler = plane.kubectl_ok(&["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu=80%"]);
    assert_eq!(scaler, "horizontalpodautoscaler.autoscaling/web autoscaled\n");
    let target = plane.get(&["hpa", "web"])["spec"]["scaleTargetRef"].clone();
    assert_eq!(target, json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}));
    for (words, made) in [
        (&["job", "now", "--image=hello"][..], "job.batch/now created\n"),
        (&["cronjob", "often", "--image=hello", "--schedule=*/5 * * * *"], "cronjob.batch/often created\n"),
        (&["secret", "generic", "own", "--from-literal=a=b"], "secret/own created\n"),
        (&["quota", "some", "--hard=configmaps=100"], "resourcequota/some created\n"),
        (&["ingress", "front", "--rule=a.example/=web:80"], "ingress.networking.k8s.io/front created\n"),
        (
            &["poddisruptionbudget", "few", "--selector=run=one", "--min-available=1"],
            "poddisruptionbudget.policy/few created\n",
        ),
        (&["priorityclass", "high", "--value=100"], "priorityclass.scheduling.k8s.io/high created\n"),
        (
            &["role", "reader", "--verb=get", "--resource=pods"],
            "role.rbac.authorization.k8s.io/reader created\n",
        ),
        (&["serviceaccount", "robot"], "serviceaccount/robot created\n"),
        (&["service", "nodeport", "out", "--tcp=80:80"], "service/out created\n"),
    ] {
        assert_eq!(plane.kubectl_ok(&[&["create"], words].concat()), made);
    }
    let token = plane.kubectl_ok(&["create", "token", "robot"]);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
}

fn outputs(plane: &Plane) {
    let of = |format: &str| plane.kubectl_ok(&["get", "service", "web", "-o", format]);
    assert_eq!(of("name"), "service/web\n");
    assert_eq!(of("jsonpath={.spec.ports[0].port}"), "80");
    assert_eq!(of("jsonpath-as-json={.spec.ports[*].port}").split_whitespace().collect::<String>(), "[80]");
    assert_eq!(of("go-template={{.metadata.name}} {{range .spec.ports}}{{.targetPort}}{{end}}"), "web 8080");
    assert_eq!(of("custom-columns=N:.metadata.name,P:.spec.ports[*].port"), "N     P\nweb   80\n");
    assert!(of("yaml").starts_with("apiVersion: v1\nkind: Service\n"));
    let json: Value = serde_json::from_str(&of("json")).expect("JSON");
    assert_eq!(json["kind"], "Service");
    let wide = of("wide");
    assert!(
        wide.lines().next().is_some_and(|head| head.ends_with("SELECTOR")) && wide.contains("app=web"),
        "{wide}"
    );
    let many = plane.kubectl_ok(&[
        "get",
        "deployments,services",
        "-l",
        "app=web",
        "--no-headers",
        "--show-labels",
        "--show-kind",
    ]);
    assert!(many.contains("deployment.apps/web") && many.contains("service/web"), "{many}");
    let sorted = plane.kubectl_ok(&["get", "namespaces", "--sort-by=.metadata.name", "-o", "name"]);
    let names: Vec<&str> = sorted.lines().collect();
    assert!(names.is_sorted() && names.contains(&"namespace/kube-system"), "{sorted}");
    let everything = plane.kubectl_ok(&["get", "all", "-A", "-o", "name"]);
    assert!(everything.contains("pod/one") && everything.contains("replicaset.apps/"), "{everything}");
    let raw = plane.kubectl_ok(&["get", "--raw", "/api/v1/namespaces/default/services/web/status"]);
    assert!(raw.contains("\"kind\":\"Service\""), "{raw}");
    let selected =
        plane.kubectl_ok(&["get", "pods", "--field-selector=spec.nodeName=,metadata.name=one", "-o", "name"]);
    assert_eq!(selected, "pod/one\n");
    let chunks = plane.kubectl_ok(&["get", "clusterroles", "--chunk-size=7", "-o", "name"]);
    assert!(chunks.lines().count() > 20, "{chunks}");
    let missing = plane.kubectl_ok(&["get", "service", "nothing", "--ignore-not-found"]);
    assert_eq!(missing, "");
}

fn events_and_waits(plane: &Plane) {
    let events = eventually("the scheduler says why", || {
        let said = plane.kubectl_ok(&["events", "--for", "pod/one", "--types=Warning"]);
        said.contains("FailedScheduling").then_some(said)
    });
    assert!(events.lines().next().is_some_and(|head| head.starts_with("LAST SEEN")), "{events}");
    let unmet = plane.kubectl(&["wait", "--for=condition=Ready", "pod/one", "--timeout=1s"]);
    assert!(unmet.err.contains("timed out waiting for the condition on pods/one"), "{unmet:?}");
    let met =
        plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Pending", "pod/one", "--timeout=20s"]);
    assert_eq!(met, "pod/one condition met\n");
    plane.kubectl_ok(&["wait", "--for=create", "service/web", "--timeout=20s"]);
    plane.kubectl_ok(&["delete", "poddisruptionbudget", "few"]);
    plane.kubectl_ok(&["delete", "pod", "one", "--wait=false", "--now"]);
    plane.kubectl_ok(&["wait", "--for=delete", "pod/one", "--timeout=20s"]);
}

/// A node without a kubelet, and what a person does to it.
fn nodes(plane: &Plane) {
    plane.apply("apiVersion: v1\nkind: Node\nmetadata: {name: far, labels: {kubernetes.io/hostname: far}}\n");
    assert_eq!(plane.kubectl_ok(&["cordon", "far"]), "node/far cordoned\n");
    assert_eq!(plane.get(&["node", "far"])["spec"]["unschedulable"], true);
    assert!(plane.kubectl_ok(&["get", "node", "far"]).contains("SchedulingDisabled"));
    assert_eq!(plane.kubectl_ok(&["uncordon", "far"]), "node/far uncordoned\n");
    assert_eq!(plane.kubectl_ok(&["taint", "node", "far", "own=yes:NoSchedule"]), "node/far tainted\n");
    let taints = |plane: &Plane| {
        let node = plane.get(&["node", "far"]);
        node["spec"]["taints"].as_array().cloned().unwrap_or_default()
    };
    assert!(taints(plane).iter().any(|taint| taint["key"] == "own" && taint["effect"] == "NoSchedule"));
    let again = plane.kubectl(&["taint", "node", "far", "own=no:NoSchedule"]);
    assert!(!again.ok && again.err.contains("already has own taint(s)"), "{again:?}");
    assert_eq!(plane.kubectl_ok(&["taint", "node", "far", "own-"]), "node/far untainted\n");
    assert!(!taints(plane).iter().any(|taint| taint["key"] == "own"));

    plane.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: placed}\nspec:\n  nodeName: far\n  terminationGracePeriodSeconds: 0\n  \
         tolerations: [{operator: Exists}]\n  containers: [{name: c, image: hello}]\n",
    );
    let refused = plane.kubectl(&["drain", "far"]);
    assert!(refused.err.contains("use --force to override): default/placed"), "{refused:?}");
    let drained = plane.kubectl_ok(&["drain", "far", "--force", "--timeout=30s"]);
    assert!(
        drained.contains("evicting pod default/placed") && drained.ends_with("node/far drained\n"),
        "{drained}"
    );
    assert!(!plane.kubectl(&["get", "pod", "placed"]).ok);
    assert_eq!(plane.kubectl_ok(&["delete", "node", "far"]), "node \"far\" deleted\n");
}

fn as_others(plane: &Plane) {
    let jane = ["--as=jane", "--as-group=dev"];
    let said = plane.kubectl(&[&jane[..], &["get", "pods"]].concat());
    assert!(said.err.contains("User \"jane\" cannot list resource \"pods\""), "{said:?}");
    plane.kubectl_ok(&["create", "rolebinding", "dev", "--role=reader", "--group=dev"]);
    let can = |words: &[&str]| plane.kubectl(&[&["auth", "can-i"], words, &jane[..]].concat()).out;
    eventually("the binding counts", || (can(&["get", "pods"]) == "yes\n").then_some(()));
    assert_eq!(can(&["delete", "pods"]), "no\n");
    let list = plane.kubectl_ok(&[&["auth", "can-i", "--list"], &jane[..]].concat());
    assert!(list.lines().any(|line| line.starts_with("pods ") && line.ends_with("[get]")), "{list}");
    let who =
        plane.kubectl_ok(&["auth", "whoami", "--as=jane", "-o", "jsonpath={.status.userInfo.username}"]);
    assert_eq!(who, "jane");
    let account = plane.kubectl(&["get", "pods", "--as=system:serviceaccount:default:robot"]);
    assert!(account.err.contains("User \"system:serviceaccount:default:robot\" cannot list"), "{account:?}");
    let reconciled = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\n\
                      rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]\n";
    let said = plane.kubectl_with(&["auth", "reconcile", "-f", "-"], reconciled);
    assert!(said.ok && said.out.contains("role.rbac.authorization.k8s.io/reader reconciled"), "{said:?}");
    eventually("the role counts", || (can(&["list", "pods"]) == "yes\n").then_some(()));
}

fn proxy(plane: &Plane) {
    let mut proxy = plane.kubectl_command();
    let mut proxy = proxy.args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut first = String::new();
    BufReader::new(proxy.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
    let address = first.trim().rsplit(' ').next().expect("an address").to_owned();
    let answer =
        harness::send(&address, &address, "GET", "/api/v1/namespaces/default", &[], "").expect("an answer");
    proxy.kill().expect("kubectl ends");
    proxy.wait().expect("kubectl ends");
    assert!(answer.status == 200 && answer.body.contains("\"name\":\"default\""), "{}", answer.body);
}
