//! What changes of a pod that runs, through doors of their own: its ephemeral containers and its resources.

use registry::{Part, Patch};
use serde_json::{Value, json};

use crate::world::{World, pod};

async fn add(world: &World, containers: Value) -> Result<Value, String> {
    let patch = Patch::Strategic(json!({"spec": {"ephemeralContainers": containers}}));
    let patched = world.patch("pods", "p", Part::EphemeralContainers, patch).await;
    patched.map_err(|status| status.message)
}

#[tokio::test]
async fn containers_are_added_and_stay_as_they_are() {
    let world = World::new().await;
    world.create("pods", pod("p")).await.unwrap();
    let added = add(&world, json!([{"name": "d", "image": "debug:1", "targetContainerName": "main"}])).await;
    let added = added.unwrap();
    let found = &added["spec"]["ephemeralContainers"][0];
    assert_eq!(
        (&found["imagePullPolicy"], &added["metadata"]["generation"]),
        (&json!("IfNotPresent"), &json!(2))
    );
    for (container, why) in [
        (
            json!({"name": "e", "image": "i", "ports": [{"containerPort": 1}]}),
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"name": "e", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}),
            "livenessProbe: Forbidden",
        ),
        (json!({"name": "e", "image": "i", "resources": {"limits": {"cpu": "1"}}}), "resources: Forbidden"),
        (
            json!({"name": "e", "image": "i", "targetContainerName": "no"}),
            "targetContainerName: Not found: \"no\"",
        ),
        (json!({"name": "main", "image": "i"}), "name: Duplicate value: \"main\""),
        (json!({"name": "d", "image": "other"}), "existing ephemeral containers \"d\" may not be changed"),
    ] {
        let refused = add(&world, json!([container])).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    // The rest of the pod is not changed through this door, nor these containers through another.
    let change = json!({"spec": {"activeDeadlineSeconds": 5}, "metadata": {"labels": {"a": "b"}}});
    let same = world.patch("pods", "p", Part::EphemeralContainers, Patch::Merge(change)).await.unwrap();
    assert!(
        same["spec"].get("activeDeadlineSeconds").is_none() && same["metadata"]["labels"].get("a").is_none()
    );
    let gone = Patch::Merge(json!({"spec": {"ephemeralContainers": null}}));
    let refused = world.patch("pods", "p", Part::EphemeralContainers, gone).await.unwrap_err();
    assert!(refused.message.contains("may not be removed"), "{}", refused.message);
    let other = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "x"}]}});
    assert_eq!(world.merge("pods", "p", other).await.unwrap_err().code, 422);
    let mut new = pod("q");
    new["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x"}]);
    assert!(world.create("pods", new).await.unwrap_err().message.contains("cannot be set on create"));
}

async fn resize(world: &World, name: &str, container: Value) -> Result<Value, String> {
    let patch = Patch::Strategic(json!({"spec": {"containers": [container]}}));
    world.patch("pods", name, Part::Resize, patch).await.map_err(|status| status.message)
}

#[tokio::test]
async fn only_cpu_and_memory_are_resized_and_the_class_stays() {
    let world = World::new().await;
    let mut burstable = pod("p");
    burstable["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"ephemeral-storage": "1Gi"}});
    world.create("pods", burstable).await.unwrap();
    let of = |resources: Value| json!({"name": "main", "resources": resources});
    let resized =
        resize(&world, "p", of(json!({"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}))).await;
    let resized = resized.unwrap();
    let resources = &resized["spec"]["containers"][0]["resources"];
    assert_eq!((&resources["requests"]["cpu"], &resources["limits"]["memory"]), (&json!("2"), &json!("2Gi")));
    assert_eq!(resized["metadata"]["generation"], 2);
    for (resources, why) in [
        (json!({"requests": {"cpu": null}}), "resource requests cannot be removed"),
        (json!({"limits": {"ephemeral-storage": "2Gi"}}), "only cpu and memory resources are mutable"),
        (json!({"requests": {"memory": "3Gi"}}), "must be less than or equal to memory limit of 2Gi"),
        (
            json!({"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}),
            "Pod QOS Class may not change as a result of resizing",
        ),
    ] {
        let refused = resize(&world, "p", of(resources)).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let refused = resize(&world, "p", json!({"name": "other", "image": "x"})).await.unwrap_err();
    assert!(refused.contains("may not be added or removed"), "{refused}");
    // An image does not change through this door.
    let same = resize(&world, "p", json!({"name": "main", "image": "other:1"})).await.unwrap();
    assert_eq!(same["spec"]["containers"][0]["image"], "registry.example/app:1");
    let direct = json!({"spec": {"containers": [{"name": "main", "image": "registry.example/app:1", "resources": {}}]}});
    assert_eq!(world.merge("pods", "p", direct).await.unwrap_err().code, 422);
    // A node whose kubelet tells nothing of what runs really has cannot do it.
    let status = json!({"status": {"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": true,
        "restartCount": 0, "state": {"running": {}}}]}});
    world.patch("pods", "p", Part::Status, Patch::Merge(status)).await.unwrap();
    let refused = resize(&world, "p", of(json!({"requests": {"cpu": "3"}}))).await.unwrap_err();
    assert!(refused.contains("Pod running on node without support for resize"), "{refused}");
}

#[tokio::test]
async fn restart_rules_are_checked() {
    let world = World::new().await;
    let mut made = 0;
    let mut create = async |container: Value| {
        made += 1;
        let mut pod = pod(&format!("p{made}"));
        pod["spec"]["containers"][0].as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        world.create("pods", pod).await.map_err(|status| status.message)
    };
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    create(json!({"restartPolicy": "Never", "restartPolicyRules": [rule]})).await.unwrap();
    let all = json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}});
    create(json!({"restartPolicy": "Always", "restartPolicyRules": [all]})).await.unwrap();
    for (container, why) in [
        (
            json!({"restartPolicyRules": [rule]}),
            "restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
        (json!({"restartPolicy": "Sometimes"}), "restartPolicy: Unsupported value"),
        (
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Fly", "exitCodes": {"operator": "In"}}]}),
            "restartPolicyRules[0].action: Unsupported value: \"Fly\"",
        ),
        (
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart"}]}),
            "restartPolicyRules[0].exitCodes: Required value",
        ),
        (
            json!({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "NotRequired"}]}),
            "containers[0].resizePolicy: Unsupported value: \"disk\"",
        ),
    ] {
        let refused = create(container).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
