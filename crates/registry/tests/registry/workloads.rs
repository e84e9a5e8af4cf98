//! Pods, deployments, replica sets, nodes: defaults, status, scale, tables.

use registry::{Part, Patch};
use serde_json::{Value, json};

use crate::world::{World, cx, pod};

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
    }})
}

#[tokio::test]
async fn a_deployment_gets_upstreams_defaults() {
    let world = World::new().await;
    let made = world.create("deployments.apps", deployment("a")).await.unwrap();
    let expected = json!({
        "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {"app": "a"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {
                "containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
            },
        },
    });
    assert_eq!(made["spec"], expected);
    assert_eq!((&made["status"], &made["metadata"]["generation"]), (&json!({}), &json!(1)));
}

#[tokio::test]
async fn generations_and_statuses_have_their_own_ways() {
    let world = World::new().await;
    let mut made = world.create("deployments.apps", deployment("a")).await.unwrap();
    made["status"] = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2});
    made["spec"]["replicas"] = json!(7);
    let status = world.update_part("deployments.apps", Part::Status, made.clone()).await.unwrap();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(1), &json!(3)));
    assert_eq!(status["metadata"]["generation"], 1);
    let patched = world
        .merge("deployments.apps", "a", json!({"spec": {"replicas": 4}, "status": {"replicas": 9}}))
        .await;
    let patched = patched.unwrap();
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(4), &json!(3)));
    assert_eq!(patched["metadata"]["generation"], 2);
    let labelled =
        world.merge("deployments.apps", "a", json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
    assert_eq!(labelled["metadata"]["generation"], 2);
    let row = world.row("deployments.apps", "a").await;
    let expected = json!({"Name": "a", "Ready": "2/4", "Up-to-date": 3, "Available": 2, "Age": "2m30s", "Containers": "c",
        "Images": "i:1", "Selector": "app=a"});
    assert_eq!(row, expected);
}

#[tokio::test]
async fn an_annotation_makes_a_new_generation_of_a_deployment() {
    let world = World::new().await;
    world.create("deployments.apps", deployment("web")).await.unwrap();
    let annotated = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "a reason"}}});
    let patched = world.merge("deployments.apps", "web", annotated).await.unwrap();
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_node_may_be_created_with_its_status() {
    let world = World::new().await;
    let node = json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}});
    let made = world.create("nodes", node).await.unwrap();
    assert_eq!(made["status"], json!({"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}));
    let mut other = deployment("web");
    other["status"] = json!({"replicas": 3});
    let made = world.create("deployments.apps", other).await.unwrap();
    assert_eq!(made["status"], json!({}));
}

#[tokio::test]
async fn a_scale_is_read_and_written() {
    let world = World::new().await;
    world.create("deployments.apps", deployment("a")).await.unwrap();
    let mut scale = world.get_part("deployments.apps", "a", Part::Scale).await.unwrap();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 0, "selector": "app=a"}))
    );
    scale["spec"]["replicas"] = json!(5);
    let scaled = world.update_part("deployments.apps", Part::Scale, scale.clone()).await.unwrap();
    assert_eq!(scaled["spec"]["replicas"], 5);
    let stale = world.update_part("deployments.apps", Part::Scale, scale).await.unwrap_err();
    assert_eq!(stale.code, 409);
    let patch = Patch::Merge(json!({"spec": {"replicas": 2}}));
    world.patch("deployments.apps", "a", Part::Scale, patch).await.unwrap();
    let deployment = world.get("deployments.apps", "a").await.unwrap();
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]),
        (&json!(2), &json!(3))
    );
    let negative = Patch::Merge(json!({"spec": {"replicas": -1}}));
    let refused = world.patch("deployments.apps", "a", Part::Scale, negative).await.unwrap_err();
    let expected = "Scale.autoscaling \"a\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal \
                    to 0";
    assert_eq!(refused.message, expected);
    assert_eq!(world.get_part("configmaps", "a", Part::Scale).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn what_is_wrong_with_a_deployment_is_named() {
    let world = World::new().await;
    world.create("deployments.apps", deployment("a")).await.unwrap();
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "b"}},
        "template": {"metadata": {"labels": {"app": "b"}}}}});
    let refused = world.merge("deployments.apps", "a", selector).await.unwrap_err();
    let expected = "Deployment.apps \"a\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: \
                    field is immutable";
    assert_eq!(refused.message, expected);
    let mut other = deployment("b");
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "c"});
    let refused = world.create("deployments.apps", other).await.unwrap_err();
    let expected = "Deployment.apps \"b\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"c\"}: \
                    `selector` does not match template `labels`";
    assert_eq!(refused.message, expected);
    let mut empty = deployment("b");
    empty["spec"]["template"]["spec"]["containers"] = json!([]);
    let refused = world.create("deployments.apps", empty).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Deployment.apps \"b\" is invalid: spec.template.spec.containers: Required value"
    );
    let mut image = deployment("b");
    image["spec"]["template"]["spec"]["containers"] = json!([{"name": "c"}]);
    let refused = world.create("deployments.apps", image).await.unwrap_err();
    let expected = "Deployment.apps \"b\" is invalid: spec.template.spec.containers[0].image: Required value";
    assert_eq!(refused.message, expected);
}

#[tokio::test]
async fn a_pods_spec_stays_but_for_its_images() {
    let world = World::new().await;
    let made = world.create("pods", pod("p")).await.unwrap();
    assert_eq!(made["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let refused = world.merge("pods", "p", json!({"spec": {"hostNetwork": true}})).await.unwrap_err();
    let expected = "Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than \
                    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                    `spec.tolerations` (only additions to existing tolerations)";
    assert!(refused.message.starts_with(expected), "{}", refused.message);
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "other:2"}]);
    world.patch("pods", "p", Part::Whole, Patch::Json(image)).await.unwrap();
    let toleration = json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}});
    world.merge("pods", "p", toleration).await.unwrap();
    let fewer = world.merge("pods", "p", json!({"spec": {"tolerations": []}})).await.unwrap_err();
    assert!(fewer.message.contains("existing toleration can not be modified"), "{}", fewer.message);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let world = World::new().await;
    world.create("pods", pod("p")).await.unwrap();
    let binding = |node: &str| json!({"metadata": {"name": "p", "annotations": {"by": "test"}}, "target": {"kind": "Node", "name": node}});
    world.registry.bind(&cx(), "default", "p", binding("one")).await.unwrap();
    let bound = world.get("pods", "p").await.unwrap();
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["by"]),
        (&json!("one"), &json!("test"))
    );
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let twice = world.registry.bind(&cx(), "default", "p", binding("two")).await.unwrap_err();
    let expected =
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"one\"";
    assert_eq!((twice.code, &*twice.message), (409, expected));
    let nowhere = world.registry.bind(&cx(), "default", "q", binding("one")).await.unwrap_err();
    assert_eq!(nowhere.code, 400);
    let absent = json!({"metadata": {"name": "q"}, "target": {"name": "one"}});
    assert_eq!(world.registry.bind(&cx(), "default", "q", absent).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_binding_is_checked_like_any_object() {
    let world = World::new().await;
    world.create("pods", pod("p")).await.unwrap();
    let refused =
        async |binding: Value| world.registry.bind(&cx(), "default", "p", binding).await.unwrap_err();
    let to = |node: &str| json!({"target": {"kind": "Node", "name": node}});
    for body in [
        json!("one"),
        json!({"kind": "Pod", "target": {"name": "one"}}),
        json!({"metadata": {"annotations": {"a": 1}}, "target": {"name": "one"}}),
        json!({"target": "one"}),
    ] {
        assert_eq!(refused(body.clone()).await.code, 400, "{body}");
    }
    let error = refused(to("../One")).await;
    assert_eq!(error.code, 422);
    assert!(error.message.starts_with("Binding \"p\" is invalid: target.name: Invalid value"), "{error}");
    let mut annotated = to("one");
    annotated["metadata"] = json!({"annotations": {"no such key!": "x"}});
    let error = refused(annotated).await;
    assert!(error.message.starts_with("Pod \"p\" is invalid: metadata.annotations"), "{error}");
    let strict = crate::world::strict();
    let mut misspelt = to("one");
    misspelt["targt"] = json!({});
    let error = world.registry.bind(&strict, "default", "p", misspelt).await.unwrap_err();
    assert!(error.message.contains("unknown field \"targt\""), "{error}");
    assert_eq!(world.get("pods", "p").await.unwrap()["spec"].get("nodeName"), None);
    world.registry.bind(&strict, "default", "p", to("one")).await.unwrap();
}

#[tokio::test]
async fn a_mirror_pod_stays_one_and_no_other_becomes_one() {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let world = World::new().await;
    let mut mirror = pod("m");
    mirror["metadata"]["annotations"] = json!({MIRROR: "hash", "other": "x"});
    world.create("pods", mirror).await.unwrap();
    world.create("pods", pod("p")).await.unwrap();
    let path = format!("metadata.annotations[{MIRROR}]: Forbidden: ");
    let removed = "may not remove or update mirror pod annotation";
    for part in [Part::Whole, Part::Status] {
        for (name, value, why) in [
            ("m", Value::Null, removed),
            ("m", json!("other"), removed),
            ("p", json!("hash"), "may not add mirror pod annotation"),
        ] {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {MIRROR: value}}}));
            let error = world.patch("pods", name, part, patch).await.unwrap_err();
            let expected = format!("Pod \"{name}\" is invalid: {path}{why}");
            assert_eq!((error.code, error.message), (422, expected), "{part:?}");
        }
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"other": "y"}}}));
        world.patch("pods", "m", part, patch).await.unwrap();
    }
}

#[tokio::test]
async fn tables_show_what_kubectl_users_know() {
    let world = World::new().await;
    world.create("pods", pod("p")).await.unwrap();
    let expected = json!({"Name": "p", "Ready": "0/1", "Status": "Pending", "Restarts": "0", "Age": "2m30s",
        "IP": "<none>", "Node": "<none>", "Nominated Node": "<none>", "Readiness Gates": "<none>"});
    assert_eq!(world.row("pods", "p").await, expected);
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "x"}},
        "spec": {"unschedulable": true}});
    let mut made = world.create("nodes", node).await.unwrap();
    made["status"] = json!({
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.18",
            "containerRuntimeVersion": "monoplane://0.1", "architecture": "amd64", "bootID": "", "kubeProxyVersion": "",
            "machineID": "", "operatingSystem": "linux", "systemUUID": ""},
    });
    world.update_part("nodes", Part::Status, made).await.unwrap();
    let expected = json!({"Name": "n", "Status": "Ready,SchedulingDisabled", "Roles": "worker,x", "Age": "2m30s",
        "Version": "v1.36.0", "Internal-IP": "10.0.0.1", "External-IP": "<none>", "OS-Image": "Debian",
        "Kernel-Version": "6.18", "Container-Runtime": "monoplane://0.1"});
    assert_eq!(world.row("nodes", "n").await, expected);
    let set = json!({"metadata": {"name": "r"}, "spec": deployment("r")["spec"]});
    world.create("replicasets.apps", set).await.unwrap();
    let row = world.row("replicasets.apps", "r").await;
    assert_eq!((&row["Desired"], &row["Current"], &row["Ready"]), (&json!(1), &json!(0), &json!(0)));
}
