//! HorizontalPodAutoscalers: one kind in two versions.

use registry::Part;
use serde_json::{Value, json};

use crate::world::{World, findings};

const V2: &str = "horizontalpodautoscalers.autoscaling@v2";
const V1: &str = "horizontalpodautoscalers.autoscaling@v1";

fn autoscaler(more: Value) -> Value {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let mut spec = json!({"maxReplicas": 5, "scaleTargetRef": target});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    json!({"metadata": {"name": "a"}, "spec": spec})
}

fn cpu(percent: i64) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

fn others() -> Value {
    json!([
        {"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Object", "object": {"describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"},
            "metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "2k"}}},
        {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}},
        {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 70}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
    ])
}

async fn refused(spec: Value, expected: &str) {
    let status = World::new().await.create(V2, autoscaler(spec.clone())).await.unwrap_err();
    assert_eq!(findings(&status), expected, "{spec}");
}

#[tokio::test]
async fn an_autoscaler_gets_upstreams_defaults() {
    let world = World::new().await;
    let made = world.create(V2, autoscaler(json!({"behavior": {"scaleUp": {"selectPolicy": "Min"}}}))).await;
    let made = made.unwrap();
    let spec = &made["spec"];
    assert_eq!((&spec["minReplicas"], &spec["metrics"]), (&json!(1), &json!([cpu(80)])));
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let expected = json!({
        "scaleUp": {"selectPolicy": "Min", "stabilizationWindowSeconds": 0, "policies": [pods, percent]},
        "scaleDown": {"selectPolicy": "Max", "policies": [percent]},
    });
    assert_eq!(spec["behavior"], expected);
    assert_eq!(made["status"], json!({"desiredReplicas": 0, "currentMetrics": null}));
    let expected = json!({"Name": "a", "Reference": "Deployment/web", "Targets": "cpu: <unknown>/80%", "MinPods": "1",
        "MaxPods": 5, "Replicas": 0, "Age": "2m30s"});
    assert_eq!(world.row(V2, "a").await, expected);
    assert_eq!(world.row(V1, "a").await, expected);
}

#[tokio::test]
async fn both_versions_are_one_object() {
    let world = World::new().await;
    let made = world.create(V1, autoscaler(json!({"targetCPUUtilizationPercentage": 60}))).await.unwrap();
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["status"], json!({"currentReplicas": 0, "desiredReplicas": 0}));
    let read = world.get(V2, "a").await.unwrap();
    assert_eq!(
        (&read["apiVersion"], &read["spec"]["metrics"]),
        (&json!("autoscaling/v2"), &json!([cpu(60)]))
    );
    world.merge(V1, "a", json!({"spec": {"targetCPUUtilizationPercentage": 70}})).await.unwrap();
    assert_eq!(world.get(V2, "a").await.unwrap()["spec"]["metrics"], json!([cpu(70)]));
    world.merge(V1, "a", json!({"spec": {"targetCPUUtilizationPercentage": null}})).await.unwrap();
    assert_eq!(world.get(V2, "a").await.unwrap()["spec"]["metrics"], json!([cpu(80)]));
}

#[tokio::test]
async fn the_first_version_says_in_annotations_what_it_has_no_fields_for() {
    let world = World::new().await;
    let mut metrics = others();
    metrics.as_array_mut().unwrap().push(cpu(50));
    let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 60, "tolerance": "50m"}});
    let mut made =
        world.create(V2, autoscaler(json!({"metrics": metrics, "behavior": behavior}))).await.unwrap();
    let current = json!({"averageUtilization": 40, "averageValue": "400m"});
    made["status"] = json!({"currentReplicas": 2, "desiredReplicas": 3,
        "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": current}}],
        "conditions": [{"type": "AbleToScale", "status": "True", "reason": "Ready", "message": "",
            "lastTransitionTime": "2026-11-22T10:00:00Z"}]});
    let stored = world.update_part(V2, Part::Status, made).await.unwrap();
    let old = world.get(V1, "a").await.unwrap();
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!((old["spec"].get("metrics"), old["spec"].get("behavior")), (None, None));
    let status = json!({"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 40});
    assert_eq!(old["status"], status);
    let said = |name: &str| -> Value {
        let text = &old["metadata"]["annotations"][format!("autoscaling.alpha.kubernetes.io/{name}")];
        serde_json::from_str(text.as_str().unwrap()).unwrap()
    };
    assert_eq!(
        said("metrics"),
        json!([
            {"type": "Pods", "pods": {"metricName": "rps", "selector": {"matchLabels": {"a": "b"}},
                "targetAverageValue": "10"}},
            {"type": "Object", "object": {"target": {"apiVersion": "v1", "kind": "Service", "name": "s"},
                "metricName": "hits", "targetValue": "0", "averageValue": "2k"}},
            {"type": "External", "external": {"metricName": "queue", "targetValue": "30"}},
            {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
                "targetAverageUtilization": 70}},
            {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}},
        ])
    );
    let resource = json!({"name": "cpu", "currentAverageUtilization": 40, "currentAverageValue": "400m"});
    assert_eq!(said("current-metrics"), json!([{"type": "Resource", "resource": resource}]));
    assert_eq!(said("conditions")[0]["type"], "AbleToScale");
    assert_eq!(
        said("behavior")["ScaleDown"],
        json!({"StabilizationWindowSeconds": 60, "SelectPolicy": "Max", "Tolerance": "50m",
            "Policies": [{"Type": "Percent", "Value": 100, "PeriodSeconds": 15}]})
    );
    // Written back through the first version, nothing is lost; nor can it say what is not its to say.
    let mut changed = old.clone();
    changed["metadata"]["labels"] = json!({"a": "b"});
    changed["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/current-metrics"] = json!("[]");
    world.update(V1, changed).await.unwrap();
    let read = world.get(V2, "a").await.unwrap();
    assert_eq!((&read["spec"], &read["status"]), (&stored["spec"], &stored["status"]));
    assert_eq!(read["metadata"].get("annotations"), None);
    let mut status = world.get(V1, "a").await.unwrap();
    status["status"]["currentReplicas"] = json!(4);
    status["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"] = json!("[]");
    world.update_part(V1, Part::Status, status).await.unwrap();
    let read = world.get(V2, "a").await.unwrap();
    assert_eq!((&read["spec"], &read["status"]["currentReplicas"]), (&stored["spec"], &json!(4)));
    let targets = &world.row(V2, "a").await["Targets"];
    assert_eq!(targets, "<unknown>/10, <unknown>/2k (avg) + 4 more...");
}

#[tokio::test]
async fn what_an_autoscaler_may_not_say() {
    let metric = |metric: Value| json!({"metrics": [metric]});
    let at = "spec.metrics[0]";
    let resource =
        |target: Value| metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    let rules = |rules: Value| json!({"behavior": {"scaleUp": rules}});
    let target = |version: &str, kind: &str| json!({"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": "x"}});
    for (spec, expected) in [
        (
            json!({"minReplicas": 0}),
            "[spec.minReplicas: Invalid value: 0: must be greater than or equal to 1, spec.metrics: Forbidden: must \
             specify at least one Object or External metric to support scaling to zero replicas]"
                .to_owned(),
        ),
        (
            json!({"minReplicas": 7}),
            "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`".to_owned(),
        ),
        (
            json!({"maxReplicas": -1}),
            "[spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1, spec.maxReplicas: Invalid value: -1: must be \
             greater than or equal to `minReplicas`]"
                .to_owned(),
        ),
        (
            json!({"scaleTargetRef": {"apiVersion": "apps/v1"}}),
            "[spec.scaleTargetRef.kind: Required value, spec.scaleTargetRef.name: Required value]".to_owned(),
        ),
        (
            target("v1", "Pod"),
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group".to_owned(),
        ),
        (
            target("a/b/c", "X"),
            "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c".to_owned(),
        ),
        (
            metric(json!({"type": "Pods"})),
            format!("{at}.pods: Required value: must populate information for the given metric source"),
        ),
        (
            resource(json!({"type": "Utilization"})),
            format!(
                "{at}.resource.target.averageUtilization: Required value: must set either a target raw value or a target \
                 utilization"
            ),
        ),
        (
            resource(json!({"type": "Utilization", "averageUtilization": 0})),
            format!("{at}.resource.target.averageUtilization: Invalid value: 0: must be greater than 0"),
        ),
        (
            resource(json!({"type": "AverageValue", "averageValue": "-1"})),
            format!("{at}.resource.target.averageValue: Invalid value: \"-1\": must be positive"),
        ),
        (
            metric(json!({"type": "External", "external": {"metric": {"name": ""},
                "target": {"type": "Value", "value": "1", "averageValue": "1"}}})),
            format!(
                "[{at}.external.metric.name: Required value: must specify a metric name, {at}.external.target.value: \
                 Forbidden: may not set both a target value for metric and a per-pod target]"
            ),
        ),
        (
            rules(json!({"policies": []})),
            "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy".to_owned(),
        ),
        (
            rules(json!({"stabilizationWindowSeconds": 3601})),
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600"
                .to_owned(),
        ),
        (
            rules(json!({"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}]})),
            "[spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero, \
             spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800]"
                .to_owned(),
        ),
    ] {
        refused(spec, &expected).await;
    }
    let world = World::new().await;
    world.create(V2, autoscaler(target("v1", "ReplicationController"))).await.unwrap();
    let mut through_v1 = autoscaler(json!({"targetCPUUtilizationPercentage": 0}));
    through_v1["metadata"]["name"] = json!("b");
    let status = world.create(V1, through_v1).await.unwrap_err();
    let expected =
        "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0";
    assert_eq!(findings(&status), expected);
}
