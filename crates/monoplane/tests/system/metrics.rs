//! What nodes and pods use, as `kubectl top` and Prometheus ask for it.

use std::net::TcpListener;

use harness::{Plane, eventually, send};
use serde_json::Value;

use crate::containers::{IMAGE, plane_with_image};
use crate::start;

const SERVICE: &str = "v1beta1.metrics.k8s.io";

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sleep, '3600']\n  - name: busy\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c, 'while true; do :; done']\n    resources: {{limits: {{cpu: 200m}}}}\n"
    )
}

/// The fields of the first line that begins so.
fn row(text: &str, begins: &str) -> Option<Vec<String>> {
    let line = text.lines().find(|line| line.starts_with(begins))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

fn raw(plane: &Plane, path: &str) -> Value {
    serde_json::from_str(&plane.kubectl_ok(&["get", "--raw", path])).expect("a document")
}

#[test]
fn kubectl_top_shows_nodes_pods_and_containers() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&[pod("first"), pod("second")].join("---\n"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/first", "pod/second", "--timeout=60s"]);
    let top = |words: &[&str]| {
        let said = plane.kubectl(&[&["top"], words, &["--no-headers"]].concat());
        said.ok.then_some(said.out)
    };
    let node = eventually("the node is shown", || row(&top(&["nodes"])?, "test-node"));
    assert!(node[1].ends_with('m') && node[2].ends_with('%') && node[3].ends_with("Mi"), "{node:?}");
    let millis = |cell: &str| cell.trim_end_matches('m').parse::<i64>().expect("a number of millis");
    let busy = eventually("its busiest container is shown", || {
        let shown = top(&["pods", "--containers", "-l", "app=first"])?;
        assert!(!shown.contains("second"), "{shown}");
        shown.lines().find_map(|line| row(line.trim_start(), "first").filter(|row| row[1] == "busy"))
    });
    assert!((10..=300).contains(&millis(&busy[2])), "it has a fifth of a CPU at most: {busy:?}");
    let whole = eventually("both pods are shown", || {
        let shown = top(&["pods"])?;
        row(&shown, "second").and_then(|_| row(&shown, "first"))
    });
    assert!((10..=350).contains(&millis(&whole[1])), "{whole:?}");

    let metrics = raw(&plane, "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/first");
    assert_eq!(
        (&metrics["kind"], &metrics["metadata"]["labels"]["app"]),
        (&"PodMetrics".into(), &"first".into())
    );
    assert!(metrics["window"].as_str().is_some_and(|window| window.ends_with('s')), "{metrics}");
    assert_eq!(metrics["containers"].as_array().map(Vec::len), Some(2));
    let table = plane.kubectl_ok(&["get", "pods.metrics.k8s.io"]);
    assert_eq!(row(&table, "NAME").expect("a head"), ["NAME", "CPU", "MEMORY", "WINDOW"]);
    let lost = plane.kubectl(&["get", "pods.metrics.k8s.io", "third"]);
    assert!(lost.err.contains("pods \"third\" not found"), "{lost:?}");

    // Who may view a namespace sees what it uses, and no nodes.
    plane.kubectl_ok(&["create", "rolebinding", "viewer", "--clusterrole=view", "--user=viewer"]);
    eventually("a viewer may look", || plane.kubectl(&["top", "pods", "--as=viewer"]).ok.then_some(()));
    let refused = plane.kubectl(&["top", "nodes", "--as=viewer"]);
    assert!(refused.err.contains("User \"viewer\" cannot list resource \"nodes\""), "{refused:?}");

    let page =
        |path: &str| plane.kubectl_ok(&["get", "--raw", &format!("/api/v1/nodes/test-node/proxy{path}")]);
    let resource = page("/metrics/resource");
    for sample in [
        "container_cpu_usage_seconds_total{container=\"busy\",namespace=\"default\",pod=\"first\"} ",
        "pod_memory_working_set_bytes{namespace=\"default\",pod=\"second\"} ",
        "node_cpu_usage_seconds_total ",
        "resource_scrape_error 0",
    ] {
        assert!(resource.contains(sample), "{sample}: {resource}");
    }
    assert!(page("/metrics/cadvisor").contains("machine_cpu_cores "));
    assert!(page("/metrics").contains("kubelet_running_containers{container_state=\"running\"} 4\n"));
    let summary: Value = serde_json::from_str(&page("/stats/summary")).expect("a document");
    assert_eq!(
        (&summary["node"]["nodeName"], summary["pods"].as_array().map(Vec::len)),
        (&"test-node".into(), Some(2))
    );
}

#[test]
fn another_server_may_take_the_api_over_and_give_it_back() {
    let plane = start(&["--disable", "node,edge"]);
    let place = || {
        let shown = plane.kubectl(&["get", "apiservice", SERVICE, "--no-headers"]);
        row(&shown.out, SERVICE).map(|row| (row[1].clone(), row[2].clone()))
    };
    eventually("it is ours", || (place()? == ("Local".to_owned(), "True".to_owned())).then_some(()));
    let resources = plane.kubectl_ok(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers"]);
    assert_eq!(resources.lines().count(), 2, "{resources}");
    assert_eq!(raw(&plane, "/apis/metrics.k8s.io/v1beta1/nodes")["items"], Value::Array(Vec::new()));
    // As the manifests of a metrics-server do.
    plane.apply(&format!(
        "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: {SERVICE}}}\nspec:\n  group: metrics.k8s.io\n  version: v1beta1\n  insecureSkipTLSVerify: true\n  groupPriorityMinimum: 100\n  versionPriority: 100\n  service: {{namespace: kube-system, name: metrics-server}}\n"
    ));
    let theirs =
        |place: (String, String)| place.0 == "kube-system/metrics-server" && place.1.starts_with("False");
    eventually("it is theirs", || theirs(place()?).then_some(()));
    assert!(
        !plane.kubectl(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).ok,
        "and they are not there"
    );
    plane.kubectl_ok(&["delete", "apiservice", SERVICE]);
    eventually("it is ours again", || (place()? == ("Local".to_owned(), "True".to_owned())).then_some(()));
    plane.kubectl_ok(&["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]);
}

/// A machine of which nothing but its object is there, and a pod that wants one.
const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: none}\nstatus:\n  \
     allocatable: {cpu: '1', memory: 1Gi, pods: '10'}\n  capacity: {cpu: '1', memory: 1Gi, pods: '10'}\n";
const WAITS: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: waits}\nspec:\n  tolerations: [{operator: Exists}]\n  \
     containers: [{name: main, image: none.test/none}]\n";

/// The sample of a page, by its name and labels.
pub(crate) fn sample(page: &str, named: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(named)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn the_scheduler_and_the_gateway_tell_prometheus_what_they_did() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let plane = start(&["--disable", "node", "--metrics-bind-address", &free.to_string()]);
    let scheduler =
        |named: &str| sample(&plane.kubectl_ok(&["get", "--raw", "/metrics"]), &format!("scheduler_{named}"));
    let attempts = |result: &str| {
        let labels = format!("{{result=\"{result}\",profile=\"default-scheduler\"}}");
        let count = scheduler(&format!("scheduling_attempt_duration_seconds_count{labels}"));
        assert_eq!(count, scheduler(&format!("schedule_attempts_total{labels}")).filter(|count| *count > 0));
        count
    };
    let waiting = |queue: &str| scheduler(&format!("pending_pods{{queue=\"{queue}\"}}"));
    plane.apply(WAITS);
    eventually("no node takes it", || (waiting("unschedulable") == Some(1)).then_some(()));
    assert_eq!((attempts("unschedulable"), attempts("scheduled")), (Some(1), None));
    plane.apply(NODE);
    eventually("it has a node", || {
        (plane.get(&["pod", "waits"])["spec"]["nodeName"] == "none").then_some(())
    });
    eventually("the attempt is over", || (attempts("scheduled") == Some(1)).then_some(()));
    assert_eq!(["active", "backoff", "unschedulable"].map(waiting), [Some(0); 3]);
    let came = |queue: &str, event: &str| {
        scheduler(&format!("queue_incoming_pods_total{{queue=\"{queue}\",event=\"{event}\"}}"))
    };
    assert_eq!(came("active", "UnschedulablePodAdd"), Some(1));
    assert_eq!(came("unschedulable", "ScheduleAttemptFailure"), attempts("unschedulable"));
    assert_eq!(scheduler("pod_scheduling_attempts_count"), Some(1));

    let get = |at: &str, host: &str, path: &str| send(at, host, "GET", path, &[], "").expect("an answer");
    assert_eq!(get(&plane.endpoint("gateway"), "nobody.test", "/").status, 404);
    let page = get(&free.to_string(), "prometheus.test", "/metrics").body;
    let named = "monoplane_ingress_requests_total{backend=\"none\",code=\"4xx\"}";
    assert_eq!(sample(&page, named), Some(1), "{page}");
}
