//! HorizontalPodAutoscalers that follow a real load, and metrics that somebody else serves.

use harness::{Extension, Plane, eventually};
use serde_json::{Value, json};

use crate::aggregated::{front_proxies, own_address};
use crate::containers::{IMAGE, plane_with_image};
use crate::start;

fn replicas(plane: &Plane, name: &str) -> i64 {
    plane.get(&["deployment", name])["spec"]["replicas"].as_i64().unwrap_or_default()
}

fn condition(autoscaler: &Value, kind: &str) -> String {
    let conditions = autoscaler["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == kind);
    found.map_or_else(String::new, |found| {
        format!(
            "{} {}",
            found["status"].as_str().unwrap_or_default(),
            found["reason"].as_str().unwrap_or_default()
        )
    })
}

#[test]
fn replicas_follow_the_load_up_and_down() {
    let Some(plane) = plane_with_image() else { return };
    // It burns what it may have as long as there is a file.
    let script = "while true; do [ -e /burn ] || sleep 1; done";
    plane.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      containers:\n      - name: main\n        image: {IMAGE}\n        imagePullPolicy: Never\n        command: [/bin/busybox, sh, -c, '{script}']\n        resources: {{requests: {{cpu: 50m}}, limits: {{cpu: 200m}}}}\n---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: web}}\nspec:\n  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}\n  minReplicas: 1\n  maxReplicas: 2\n  metrics: [{{type: Resource, resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 80}}}}}}]\n  behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}\n"
    ));
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let pods = plane.get(&["pods", "-l", "app=web"]);
    let pod = pods["items"][0]["metadata"]["name"].as_str().expect("a pod").to_owned();
    let busybox = |words: &[&str]| {
        plane.kubectl_ok(&[&["exec", &pod, "--", "/bin/busybox"], words].concat());
    };
    eventually("its usage is known", || plane.kubectl(&["top", "pod", &pod]).ok.then_some(()));
    eventually("the autoscaler knows the load", || {
        let autoscaler = plane.get(&["hpa", "web"]);
        (condition(&autoscaler, "ScalingActive") == "True ValidMetricFound").then_some(())
    });
    assert_eq!(replicas(&plane, "web"), 1, "it is idle");
    busybox(&["touch", "/burn"]);
    eventually("there are more", || (replicas(&plane, "web") == 2).then_some(()));
    let autoscaler = plane.get(&["hpa", "web"]);
    let current = &autoscaler["status"]["currentMetrics"][0]["resource"]["current"];
    assert!(current["averageUtilization"].as_i64().is_some_and(|used| used > 80), "{autoscaler}");
    assert!(autoscaler["status"]["lastScaleTime"].is_string(), "{autoscaler}");
    eventually("the event", || {
        let events = plane.kubectl_ok(&["get", "events", "--field-selector", "reason=SuccessfulRescale"]);
        let why = "New size: 2; reason: cpu resource utilization (percentage of request) above target";
        events.contains(why).then_some(())
    });
    let described = plane.kubectl_ok(&["describe", "hpa", "web"]);
    assert!(described.contains("resource cpu on pods"), "{described}");
    busybox(&["rm", "/burn"]);
    eventually("there are fewer", || (replicas(&plane, "web") == 1).then_some(()));
    let autoscaler = plane.get(&["hpa", "web"]);
    assert!(condition(&autoscaler, "AbleToScale").starts_with("True"), "{autoscaler}");
}

const NAMESPACE: &str = "metrics-adapter";

fn registration(extension: &Extension, address: &str) -> String {
    let mut manifest = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: api, namespace: {NAMESPACE}}}\nspec: {{ports: [{{port: 443, name: https}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: api-1, namespace: {NAMESPACE}, labels: {{kubernetes.io/service-name: api}}}}\naddressType: IPv4\nports: [{{name: https, port: {}}}]\nendpoints: [{{addresses: ['{address}']}}]\n",
        extension.port
    );
    for (group, version) in [("custom.metrics.k8s.io", "v1beta2"), ("external.metrics.k8s.io", "v1beta1")] {
        let list = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"),
            "resources": [] });
        extension.say(&format!("/apis/{group}/{version}"), list);
        manifest.push_str(&format!(
            "---\napiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: {version}.{group}}}\nspec:\n  group: {group}\n  version: {version}\n  service: {{namespace: {NAMESPACE}, name: api}}\n  caBundle: {}\n  groupPriorityMinimum: 100\n  versionPriority: 100\n",
            extension.ca_bundle
        ));
    }
    manifest
}

fn autoscaler(name: &str, metric: &Value) -> String {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": name },
        "spec": { "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "maxReplicas": 5, "metrics": [metric] },
    })
    .to_string()
}

#[test]
fn metrics_of_other_servers_scale_too() {
    let address = own_address();
    let plane = start(&["--disable", "node,edge", "--webhook-allow", &address]);
    let extension = Extension::start(&[&format!("api.{NAMESPACE}.svc")], &front_proxies(&plane));
    plane.apply(&registration(&extension, &address));
    plane.kubectl_ok(&[
        "wait",
        "--for=condition=Available",
        "apiservice/v1beta2.custom.metrics.k8s.io",
        "apiservice/v1beta1.external.metrics.k8s.io",
        "--timeout=30s",
    ]);
    for name in ["served", "queued"] {
        plane.kubectl_ok(&["create", "deployment", name, "--image=web"]);
    }
    // No node runs it: that it is ready is said here.
    let pod = eventually("the pod is made", || {
        let pods = plane.get(&["pods", "-l", "app=served"]);
        pods["items"][0]["metadata"]["name"].as_str().map(str::to_owned)
    });
    let ready = r#"{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}"#;
    plane.kubectl_ok(&["patch", "pod", &pod, "--subresource=status", "--type=merge", "-p", ready]);
    let value = |value: &str| {
        json!({ "describedObject": { "kind": "Pod", "name": pod }, "metric": { "name": "requests" },
            "timestamp": "2026-01-02T03:04:05Z", "value": value })
    };
    let list = |kind: &str, item: Value| json!({ "kind": kind, "metadata": {}, "items": [item] });
    let of_pods = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/requests";
    extension.say(of_pods, list("MetricValueList", value("30")));
    let item = json!({ "metricName": "queue", "metricLabels": {}, "timestamp": "2026-01-02T03:04:05Z", "value": "35" });
    let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue";
    extension.say(external, list("ExternalMetricValueList", item));

    let target = json!({ "type": "AverageValue", "averageValue": "10" });
    plane.apply(&autoscaler(
        "served",
        &json!({ "type": "Pods",
        "pods": { "metric": { "name": "requests" }, "target": target } }),
    ));
    plane.apply(&autoscaler("queued", &json!({ "type": "External", "external": {
        "metric": { "name": "queue", "selector": { "matchLabels": { "of": "orders" } } }, "target": target } })));
    eventually("requests scale", || (replicas(&plane, "served") == 3).then_some(()));
    eventually("the queue scales", || (replicas(&plane, "queued") == 4).then_some(()));
    let asked: Vec<String> = extension.asked().into_iter().map(|asked| asked.target).collect();
    assert!(
        asked.iter().any(|target| *target == format!("{of_pods}?labelSelector=app%3Dserved")),
        "{asked:?}"
    );
    assert!(
        asked.iter().any(|target| *target == format!("{external}?labelSelector=of%3Dorders")),
        "{asked:?}"
    );
    let queued = plane.get(&["hpa", "queued"]);
    assert_eq!(
        queued["status"]["currentMetrics"][0]["external"]["current"]["averageValue"], "35",
        "{queued}"
    );
    let shown = plane.kubectl_ok(&["get", "hpa", "queued", "--no-headers"]);
    assert!(shown.contains("/10 (avg)"), "{shown}");
    // A target without such pods says so.
    plane.apply(&autoscaler(
        "nobody",
        &json!({ "type": "Pods",
        "pods": { "metric": { "name": "requests" }, "target": target } }),
    ));
    eventually("it is said that there is no such target", || {
        (condition(&plane.get(&["hpa", "nobody"]), "AbleToScale") == "False FailedGetScale").then_some(())
    });
}
