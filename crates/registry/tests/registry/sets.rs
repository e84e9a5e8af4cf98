//! StatefulSets, DaemonSets, ReplicationControllers, ControllerRevisions and PodTemplates.

use registry::{DeleteOptions, Part, Propagation};
use serde_json::{Value, json};

use crate::world::{World, cx, findings};

const STATEFUL: &str = "statefulsets.apps";
const DAEMON: &str = "daemonsets.apps";
const CONTROLLERS: &str = "replicationcontrollers";
const REVISIONS: &str = "controllerrevisions.apps";

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn set() -> Value {
    json!({"metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template()}})
}

/// The object with one field changed, by its JSON pointer.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match value {
        Value::Null => {
            object.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        }
        value => object.pointer_mut(parent).unwrap()[field] = value,
    }
    object
}

async fn refused(resource: &str, object: Value, expected: &str) {
    let status = World::new().await.create(resource, object.clone()).await.unwrap_err();
    assert_eq!(findings(&status), expected, "{object}");
}

#[tokio::test]
async fn a_stateful_set_gets_upstreams_defaults() {
    let world = World::new().await;
    let mut given = with(set(), "/spec/serviceName", json!("db"));
    given["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    given["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    let made = world.create(STATEFUL, given).await.unwrap();
    let spec = &made["spec"];
    let shown = [
        &spec["podManagementPolicy"],
        &spec["replicas"],
        &spec["revisionHistoryLimit"],
        &spec["updateStrategy"],
        &spec["persistentVolumeClaimRetentionPolicy"],
    ];
    let expected = [
        json!("OrderedReady"),
        json!(1),
        json!(10),
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}}),
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
    ];
    assert_eq!(shown, expected.each_ref());
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem"},
        "status": {"phase": "Pending"}});
    assert_eq!(spec["volumeClaimTemplates"], json!([claim]));
    assert_eq!(made["status"], json!({"replicas": 0, "availableReplicas": 0}));
    assert_eq!(made["metadata"]["generation"], 1);
    let row = world.row(STATEFUL, "a").await;
    let expected = json!({"Name": "a", "Ready": "0/1", "Age": "2m30s", "Containers": "c", "Images": "i:1"});
    assert_eq!(row, expected);
    let scale = world.get_part(STATEFUL, "a", Part::Scale).await.unwrap();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(1), &json!("app=a")));
}

#[tokio::test]
async fn what_a_stateful_set_may_not_say() {
    for (pointer, value, expected) in [
        (
            "/spec/podManagementPolicy",
            json!("Random"),
            "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "Now"}),
            "spec.updateStrategy: Invalid value: {\"type\":\"Now\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "OnDelete", "rollingUpdate": {"partition": 1, "maxUnavailable": 1}}),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"maxUnavailable\":1,\"partition\":1}: only allowed for \
             updateStrategy 'RollingUpdate'",
        ),
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"partition": -1}}),
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"maxUnavailable": 0}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        (
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"whenDeleted": "Burn"}),
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Burn\": supported values: \
             \"Retain\", \"Delete\"",
        ),
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            "/spec/ordinals",
            json!({"start": -1}),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/selector",
            json!({}),
            "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
        ),
        (
            "/spec/selector",
            Value::Null,
            "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` \
             does not match template `labels`]",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(5),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ),
        (
            "/spec/serviceName",
            json!("No_Label"),
            "spec.serviceName: Invalid value: \"No_Label\": a lowercase RFC 1123 label must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
    ] {
        refused(STATEFUL, with(set(), pointer, value), expected).await;
    }
    let status =
        World::new().await.create(STATEFUL, with(set(), "/metadata/name", json!("a.b"))).await.unwrap_err();
    assert!(findings(&status).starts_with("metadata.name: Invalid value: \"a.b\""), "{status}");
}

#[tokio::test]
async fn most_of_a_stateful_set_stays_as_it_was_made() {
    let world = World::new().await;
    world.create(STATEFUL, set()).await.unwrap();
    for spec in [
        json!({"replicas": 3}),
        json!({"minReadySeconds": 5}),
        json!({"revisionHistoryLimit": 2}),
        json!({"ordinals": {"start": 1}}),
        json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}),
        json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}),
        json!({"template": {"metadata": {"labels": {"more": "b"}}}}),
    ] {
        world.merge(STATEFUL, "a", json!({"spec": spec})).await.unwrap();
    }
    let expected = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                    'minReadySeconds' are forbidden";
    for spec in [
        json!({"serviceName": "other"}),
        json!({"podManagementPolicy": "Parallel"}),
        json!({"volumeClaimTemplates": [{"metadata": {"name": "d"}}]}),
        json!({"selector": {"matchLabels": {"more": "b"}}}),
    ] {
        let status = world.merge(STATEFUL, "a", json!({"spec": spec})).await.unwrap_err();
        assert_eq!(findings(&status), expected, "{spec}");
    }
    let mut now = world.get(STATEFUL, "a").await.unwrap();
    now["status"] = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "collisionCount": 1});
    let status = world.update_part(STATEFUL, Part::Status, now.clone()).await.unwrap_err();
    let expected = "[status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas, \
                    status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas, \
                    status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas]";
    assert_eq!(findings(&status), expected);
    now["status"] = json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "collisionCount": 1});
    let mut now = world.update_part(STATEFUL, Part::Status, now).await.unwrap();
    now["status"]["collisionCount"] = json!(0);
    let status = world.update_part(STATEFUL, Part::Status, now).await.unwrap_err();
    assert_eq!(findings(&status), "status.collisionCount: Invalid value: 0: cannot be decremented");
}

#[tokio::test]
async fn a_daemon_set_counts_its_templates() {
    const GENERATION: &str = "deprecated.daemonset.template.generation";
    let world = World::new().await;
    let made = world.create(DAEMON, set()).await.unwrap();
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    assert_eq!(
        (&made["spec"]["updateStrategy"], &made["spec"]["revisionHistoryLimit"]),
        (&strategy, &json!(10))
    );
    let status = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0,
        "numberReady": 0});
    assert_eq!(made["status"], status);
    let generations = |set: &Value| {
        (set["metadata"]["generation"].clone(), set["metadata"]["annotations"][GENERATION].clone())
    };
    assert_eq!(generations(&made), (json!(1), json!("1")));
    let other = world.merge(DAEMON, "a", json!({"spec": {"minReadySeconds": 5}})).await.unwrap();
    assert_eq!(generations(&other), (json!(2), json!("1")));
    let patch = json!({"metadata": {"annotations": {GENERATION: "9"}},
        "spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}});
    let other = world.merge(DAEMON, "a", patch).await.unwrap();
    assert_eq!(generations(&other), (json!(3), json!("2")));
    let row = world.row(DAEMON, "a").await;
    let expected = json!({"Name": "a", "Desired": 0, "Current": 0, "Ready": 0, "Up-to-date": 0, "Available": 0,
        "Node Selector": "disk=ssd", "Age": "2m30s", "Containers": "c", "Images": "i:1", "Selector": "app=a"});
    assert_eq!(row, expected);
}

#[tokio::test]
async fn what_a_daemon_set_may_not_say() {
    let rolling = |update: Value| json!({"rollingUpdate": update});
    let at = "spec.updateStrategy.rollingUpdate";
    for (pointer, value, expected) in [
        (
            "/spec/updateStrategy",
            rolling(json!({"maxUnavailable": 0})),
            format!("{at}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
        ),
        (
            "/spec/updateStrategy",
            rolling(json!({"maxUnavailable": 1, "maxSurge": 1})),
            format!("{at}.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"),
        ),
        (
            "/spec/updateStrategy",
            rolling(json!({"maxUnavailable": 0, "maxSurge": "200%"})),
            format!("{at}.maxSurge: Invalid value: \"200%\": must not be greater than 100%"),
        ),
        (
            "/spec/updateStrategy",
            json!({"type": "Now"}),
            "spec.updateStrategy: Unsupported value: {\"RollingUpdate\":null,\"Type\":\"Now\"}: supported values: \"RollingUpdate\", \
             \"OnDelete\""
                .to_owned(),
        ),
        (
            "/spec/selector",
            Value::Null,
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`"
                .to_owned(),
        ),
        (
            "/spec/selector",
            json!({}),
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset".to_owned(),
        ),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(5),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported"
                .to_owned(),
        ),
    ] {
        refused(DAEMON, with(set(), pointer, value), &expected).await;
    }
    let world = World::new().await;
    world.create(DAEMON, set()).await.unwrap();
    let change = json!({"spec": {"selector": {"matchLabels": {"b": "c"}},
        "template": {"metadata": {"labels": {"b": "c"}}}}});
    let status = world.merge(DAEMON, "a", change).await.unwrap_err();
    let expected =
        "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\",\"b\":\"c\"}}: field is immutable";
    assert_eq!(findings(&status), expected);
}

#[tokio::test]
async fn a_replication_controller_takes_its_templates_labels() {
    let world = World::new().await;
    let given = json!({"metadata": {"name": "a"}, "spec": {"template": template()}});
    let made = world.create(CONTROLLERS, given).await.unwrap();
    let labels = json!({"app": "a"});
    assert_eq!((&made["spec"]["selector"], &made["metadata"]["labels"]), (&labels, &labels));
    assert_eq!((&made["spec"]["replicas"], &made["status"]), (&json!(1), &json!({"replicas": 0})));
    let scale = world.get_part(CONTROLLERS, "a", Part::Scale).await.unwrap();
    assert_eq!(scale["status"], json!({"replicas": 0, "selector": "app=a"}));
    let row = world.row(CONTROLLERS, "a").await;
    let expected = json!({"Name": "a", "Desired": 1, "Current": 0, "Ready": 0, "Age": "2m30s", "Containers": "c",
        "Images": "i:1", "Selector": "app=a"});
    assert_eq!(row, expected);
    // Its pods stay when nobody says what becomes of them.
    let deleted = world.delete(CONTROLLERS, "a").await.unwrap();
    assert!(!deleted.gone);
    assert_eq!(deleted.object.tree()["metadata"]["finalizers"], json!(["orphan"]));
    world
        .create(CONTROLLERS, json!({"metadata": {"name": "b"}, "spec": {"template": template()}}))
        .await
        .unwrap();
    let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    assert!(world.delete_with(CONTROLLERS, "b", background).await.unwrap().gone);
}

#[tokio::test]
async fn what_a_replication_controller_may_not_say() {
    let given =
        || json!({"metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}, "template": template()}});
    for (pointer, value, expected) in [
        ("/spec/template", Value::Null, "spec.template: Required value"),
        (
            "/spec/selector",
            json!({"app": "b"}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ),
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            "/spec/template/spec/activeDeadlineSeconds",
            json!(5),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not \
             Supported",
        ),
        (
            "/spec/template/metadata/labels",
            json!({"app": "a", "bad key": "x"}),
            "spec.template.labels: Invalid value: \"bad key\": name part must consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
             '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
    ] {
        let status = World::new().await.create(CONTROLLERS, with(given(), pointer, value)).await.unwrap_err();
        assert!(findings(&status).contains(expected), "{status}");
    }
    let bare = json!({"metadata": {"name": "a"}, "spec": {}});
    refused(CONTROLLERS, bare, "[spec.selector: Required value, spec.template: Required value]").await;
}

#[tokio::test]
async fn a_revision_stays_what_it_is() {
    let world = World::new().await;
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true});
    let revision = json!({"metadata": {"name": "d-1", "ownerReferences": [owner]}, "revision": 3,
        "data": {"spec": {"template": {"$patch": "replace"}}}});
    world.create(REVISIONS, revision).await.unwrap();
    let row = world.row(REVISIONS, "d-1").await;
    let expected = json!({"Name": "d-1", "Controller": "daemonset.apps/d", "Revision": 3, "Age": "2m30s"});
    assert_eq!(row, expected);
    world.merge(REVISIONS, "d-1", json!({"revision": 4})).await.unwrap();
    let status = world.merge(REVISIONS, "d-1", json!({"data": {"spec": {"x": 1}}})).await.unwrap_err();
    assert!(findings(&status).ends_with("field is immutable"), "{status}");
    let bare = json!({"metadata": {"name": "a"}, "revision": -1});
    let expected = "[data: Required value: data is mandatory, revision: Invalid value: -1: must be greater than or equal to 0]";
    refused(REVISIONS, bare, expected).await;
}

#[tokio::test]
async fn a_pod_template_is_filled_in_like_any() {
    let world = World::new().await;
    let made = world
        .create("podtemplates", json!({"metadata": {"name": "a"}, "template": template()}))
        .await
        .unwrap();
    assert_eq!(made["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(made["metadata"]["generation"], 1);
    let other = json!({"template": {"spec": {"priorityClassName": "high"}}});
    let changed = world.merge("podtemplates", "a", other).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    let row = world.row("podtemplates", "a").await;
    assert_eq!(row, json!({"Name": "a", "Containers": "c", "Images": "i:1", "Pod Labels": "app=a"}));
    let bare = json!({"metadata": {"name": "b"}});
    refused("podtemplates", bare, "template.spec.containers: Required value").await;
}

#[tokio::test]
async fn names_that_pods_cannot_have_are_warned_of() {
    let world = World::new().await;
    let context = cx();
    let dotted = with(set(), "/metadata/name", json!("a.b"));
    world.create_in(&context, "deployments.apps", "default", dotted).await.unwrap();
    let warnings = context.warnings.take();
    let expected = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a \
                    DNS label is recommended: [a lowercase RFC 1123 label must consist of";
    assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
}
