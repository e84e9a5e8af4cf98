//! LimitRanges and ResourceQuotas as objects: what upstream fills in, shows and refuses.

use registry::Part;
use serde_json::{Value, json};

use crate::refusals::{check, check_updates};
use crate::world::World;

fn range(item: Value) -> Value {
    json!({"metadata": {"name": "r"}, "spec": {"limits": [item]}})
}

#[tokio::test]
async fn what_a_container_may_have_is_what_it_gets() {
    let world = World::new().await;
    let item = json!({"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}, "min": {"cpu": "100m"},
        "default": {"cpu": "1"}});
    let made = world.create("limitranges", range(item)).await.unwrap();
    let expected = json!({"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}, "min": {"cpu": "100m"},
        "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(made["spec"]["limits"], json!([expected]));
    let row = world.row("limitranges", "r").await;
    assert_eq!(row, json!({"Name": "r", "Created At": made["metadata"]["creationTimestamp"]}));
}

#[tokio::test]
async fn what_a_limit_range_may_not_say() {
    let of = |item: Value| json!({"spec": {"limits": [item]}});
    let cases = [
        (
            of(json!({"type": "Box"})),
            "spec.limits[0].type: Invalid value: \"Box\": must be a standard limit type or fully qualified",
        ),
        (
            json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}}),
            "spec.limits[1].type: Duplicate value: \"Pod\"",
        ),
        (
            of(json!({"type": "Pod", "default": {"cpu": "1"}})),
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            of(json!({"type": "Pod", "max": {"storage": "1"}})),
            "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
        ),
        (
            of(json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            of(json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}})),
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default \
             limit value 1",
        ),
        (
            of(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}})),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
        ),
        (
            of(
                json!({"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
            ),
            "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
        ),
        (
            of(json!({"type": "PersistentVolumeClaim", "max": {"cpu": "1"}})),
            "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was \
             provided",
        ),
        (
            of(
                json!({"type": "Container", "default": {"x.test/gpu": "2"}, "defaultRequest": {"x.test/gpu": "1"}}),
            ),
            "spec.limits[0].defaultRequest[x.test/gpu]: Invalid value: \"1\": default value 2 must equal to \
             defaultRequest value 1 in x.test/gpu",
        ),
    ];
    check("limitranges", &range(json!({"type": "Pod", "max": {"cpu": "1"}})), &cases).await;
}

fn quota() -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "5", "limits.cpu": "2", "count/deployments.apps": "1"}}})
}

#[tokio::test]
async fn a_quota_is_shown_by_requests_and_limits() {
    let world = World::new().await;
    let mut made = world.create("resourcequotas", quota()).await.unwrap();
    assert_eq!(made["status"], json!({}));
    made["status"] = json!({"hard": made["spec"]["hard"], "used": {"pods": "1", "limits.cpu": "1500m"}});
    world.update_part("resourcequotas", Part::Status, made).await.unwrap();
    let row = world.row("resourcequotas", "q").await;
    let expected = json!({"Name": "q", "Request": "count/deployments.apps: 0/1, pods: 1/5", "Limit": "limits.cpu: 1500m/2",
        "Age": row["Age"]});
    assert_eq!(row, expected);
}

#[tokio::test]
async fn what_a_quota_may_not_say() {
    let hard = |name: &str, value: &str| json!({"spec": {"hard": {name: value}}});
    let scopes = |scopes: Value| json!({"spec": {"hard": {"limits.cpu": null}, "scopes": scopes}});
    let selector = |expression: Value| json!({"spec": {"scopeSelector": {"matchExpressions": [expression]}}});
    let cases = [
        (
            hard("storage", "1"),
            "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
        ),
        (hard("pods", "-1"), "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0"),
        (hard("pods", "500m"), "spec.hard[pods]: Invalid value: \"500m\": must be an integer"),
        (
            hard("count/secrets", "1500m"),
            "spec.hard[count/secrets]: Invalid value: \"1500m\": must be an integer",
        ),
        (scopes(json!(["Never"])), "spec.scopes: Invalid value: [\"Never\"]: unsupported scope"),
        (
            scopes(json!(["BestEffort", "NotBestEffort"])),
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ),
        (
            json!({"spec": {"scopes": ["BestEffort"]}}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            selector(json!({"scopeName": "PriorityClass", "operator": "In"})),
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is \
             'In' or 'NotIn' for scope selector",
        ),
        (
            selector(json!({"scopeName": "PriorityClass", "operator": "Like"})),
            "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Like\": not a valid selector operator",
        ),
    ];
    check("resourcequotas", &quota(), &cases).await;
    let world = World::new().await;
    world.create("resourcequotas", quota()).await.unwrap();
    let change = json!({"spec": {"scopes": ["NotBestEffort"]}});
    let cases = [(change, "spec.scopes: Invalid value: [\"NotBestEffort\"]: field is immutable")];
    check_updates(&world, "resourcequotas", "q", &cases).await;
}
