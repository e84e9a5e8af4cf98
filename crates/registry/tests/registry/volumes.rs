//! Volumes, claims, and the kinds of `storage.k8s.io`: what upstream fills in, shows and refuses.

use registry::Part;
use serde_json::{Value, json};

use crate::refusals::{check, check_updates, patched};
use crate::world::{World, now};

fn volume() -> Value {
    json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "hostPath": {"path": "/data"}}})
}

fn claim() -> Value {
    json!({"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
}

#[tokio::test]
async fn a_volume_is_shown_as_upstream_shows_it() {
    let world = World::new().await;
    let made = world.create("persistentvolumes", volume()).await.unwrap();
    let spec = json!({"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
        "hostPath": {"path": "/data", "type": ""}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"});
    assert_eq!(made["spec"], spec);
    let since = made["metadata"]["creationTimestamp"].clone();
    assert_eq!(made["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": since}));
    let mut bound = made;
    bound["spec"]["claimRef"] = json!({"namespace": "x", "name": "c"});
    bound["spec"]["storageClassName"] = json!("fast");
    let mut bound = world.update("persistentvolumes", bound).await.unwrap();
    bound["status"]["phase"] = json!("Bound");
    bound["status"]["reason"] = json!("Because");
    let bound = world.update_part("persistentvolumes", Part::Status, bound).await.unwrap();
    assert_eq!(bound["status"]["lastPhaseTransitionTime"], apimachinery::time::format(now()));
    let row = world.row("persistentvolumes", "v").await;
    let expected = json!({"Name": "v", "Capacity": "10Gi", "Access Modes": "RWO,ROX", "Reclaim Policy": "Retain",
        "Status": "Bound", "Claim": "x/c", "StorageClass": "fast", "VolumeAttributesClass": "<unset>", "Reason": "Because",
        "Age": row["Age"], "VolumeMode": "Filesystem"});
    assert_eq!(row, expected);
}

#[tokio::test]
async fn what_a_volume_may_not_say() {
    let local = |affinity: Value| json!({"spec": {"hostPath": null, "local": {"path": "/disk"}, "nodeAffinity": affinity}});
    let term = |expression: Value| {
        local(json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}))
    };
    let source = |source: Value| patched(&json!({"spec": {"hostPath": null}}), &json!({"spec": source}));
    let cases = [
        (json!({"spec": {"accessModes": null}}), "spec.accessModes: Required value"),
        (
            json!({"spec": {"accessModes": ["Sometimes"]}}),
            "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
             \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteOncePod"]}}),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            json!({"spec": {"capacity": null}}),
            "[spec.capacity: Required value, spec.capacity: Unsupported value: {}: supported values: \"storage\"]",
        ),
        (
            json!({"spec": {"capacity": {"storage": "0"}}}),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            json!({"spec": {"persistentVolumeReclaimPolicy": "Burn"}}),
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \
             \"Retain\"",
        ),
        (
            json!({"spec": {"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}}),
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ),
        (json!({"spec": {"hostPath": {"path": ""}}}), "spec.hostPath.path: Required value"),
        (
            json!({"spec": {"hostPath": {"path": "/a/../b"}}}),
            "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (json!({"spec": {"hostPath": null}}), "spec: Required value: must specify a volume type"),
        (
            json!({"spec": {"nfs": {"server": "s", "path": "/"}}}),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            source(json!({"nfs": {"server": "s", "path": "a"}})),
            "spec.nfs.path: Invalid value: \"a\": must be an absolute path",
        ),
        (
            source(json!({"csi": {"driver": "d", "volumeHandle": ""}})),
            "spec.csi.volumeHandle: Required value",
        ),
        (
            source(
                json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}}),
            ),
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ),
        (
            source(json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2024-01.test", "lun": 0}})),
            "spec.iscsi.iqn: Invalid value: \"iqn.2024-01.test\": must be valid format",
        ),
        (
            source(json!({"fc": {"targetWWNs": ["a"]}})),
            "spec.fc.lun: Required value: lun is required if targetWWNs is specified",
        ),
        (
            source(json!({"flexVolume": {"driver": "d", "options": {"a.k8s.io/b": "c"}}})),
            "spec.flexVolume.options[a.k8s.io/b]: Invalid value: \"a.k8s.io/b\": kubernetes.io and k8s.io namespaces are \
             reserved",
        ),
        (local(Value::Null), "spec.nodeAffinity: Required value: Local volume requires node affinity"),
        (
            term(json!({"key": "a", "operator": "In"})),
            "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified \
             when `operator` is 'In' or 'NotIn'",
        ),
        (
            json!({"spec": {"volumeMode": "Tape"}}),
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ),
        (
            json!({"spec": {"volumeAttributesClassName": "a"}}),
            "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
        ),
    ];
    check("persistentvolumes", &volume(), &cases).await;
    let world = World::new().await;
    world.create("persistentvolumes", volume()).await.unwrap();
    let cases = [
        (
            json!({"spec": {"hostPath": {"path": "/other"}}}),
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        ),
        (
            json!({"spec": {"volumeMode": "Block"}}),
            "volumeMode: Invalid value: \"Block\": field is immutable",
        ),
    ];
    check_updates(&world, "persistentvolumes", "v", &cases).await;
}

#[tokio::test]
async fn a_claim_is_shown_as_upstream_shows_it() {
    let world = World::new().await;
    let source = json!({"kind": "PersistentVolumeClaim", "name": "other"});
    let made = world
        .create("persistentvolumeclaims", patched(&claim(), &json!({"spec": {"dataSource": source}})))
        .await
        .unwrap();
    assert_eq!(made["status"], json!({"phase": "Pending"}));
    assert_eq!(
        (&made["spec"]["volumeMode"], &made["spec"]["dataSourceRef"]),
        (&json!("Filesystem"), &source)
    );
    let row = world.row("persistentvolumeclaims", "c").await;
    let expected = json!({"Name": "c", "Status": "Pending", "Volume": "", "Capacity": "", "Access Modes": "",
        "StorageClass": "", "VolumeAttributesClass": "<unset>", "Age": row["Age"], "VolumeMode": "Filesystem"});
    assert_eq!(row, expected);
    bind(&world).await;
    let row = world.row("persistentvolumeclaims", "c").await;
    let shown = (&row["Status"], &row["Volume"], &row["Capacity"], &row["Access Modes"]);
    assert_eq!(shown, (&json!("Bound"), &json!("v"), &json!("2Gi"), &json!("RWO")));
}

/// Has the claim `c` got a volume of 2Gi.
async fn bind(world: &World) {
    let mut bound =
        world.merge("persistentvolumeclaims", "c", json!({"spec": {"volumeName": "v"}})).await.unwrap();
    bound["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]});
    world.update_part("persistentvolumeclaims", Part::Status, bound).await.unwrap();
}

#[tokio::test]
async fn a_source_that_the_field_of_old_never_took_is_dropped() {
    let world = World::new().await;
    let source = json!({"spec": {"dataSource": {"kind": "Secret", "name": "s"}}});
    let made = world.create("persistentvolumeclaims", patched(&claim(), &source)).await.unwrap();
    assert_eq!((made["spec"].get("dataSource"), made["spec"].get("dataSourceRef")), (None, None));
}

#[tokio::test]
async fn what_a_claim_may_not_say() {
    let cases = [
        (
            json!({"spec": {"accessModes": null}}),
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (json!({"spec": {"resources": null}}), "spec.resources[storage]: Required value"),
        (
            json!({"spec": {"resources": {"requests": {"storage": "-1"}}}}),
            "spec.resources[storage]: Invalid value: \"-1\": must be greater than zero",
        ),
        (
            json!({"spec": {"dataSourceRef": {"kind": "Secret", "name": "s"}}}),
            "[spec.dataSource: Invalid value: \"Secret\": must be 'PersistentVolumeClaim' when referencing the default \
             apiGroup, spec.dataSourceRef: Invalid value: \"Secret\": must be 'PersistentVolumeClaim' when referencing \
             the default apiGroup]",
        ),
        (
            json!({"spec": {"volumeMode": "Tape"}}),
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ),
    ];
    check("persistentvolumeclaims", &claim(), &cases).await;
}

#[tokio::test]
async fn a_claim_changes_its_size_only_once_it_is_bound() {
    let world = World::new().await;
    world.create("persistentvolumeclaims", claim()).await.unwrap();
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                     volumeAttributesClassName for bound claims";
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let cases = [(size("5Gi"), immutable), (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), immutable)];
    check_updates(&world, "persistentvolumeclaims", "c", &cases).await;
    let class = json!({"spec": {"storageClassName": "fast"}});
    world.merge("persistentvolumeclaims", "c", class).await.expect("given where there was none");
    bind(&world).await;
    world.merge("persistentvolumeclaims", "c", size("5Gi")).await.unwrap();
    world.merge("persistentvolumeclaims", "c", size("3Gi")).await.expect("more than there is");
    let small = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
    let cases = [
        (size("2Gi"), small),
        (json!({"spec": {"volumeName": "w"}}), immutable),
        (json!({"spec": {"storageClassName": "slow"}}), immutable),
    ];
    check_updates(&world, "persistentvolumeclaims", "c", &cases).await;
}

#[tokio::test]
async fn classes_keep_what_their_volumes_were_made_by() {
    let world = World::new().await;
    let (resource, class) = (
        "storageclasses.storage.k8s.io",
        json!({"metadata": {"name": "a", "annotations":
        {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "x.test/y", "parameters": {"k": "v"}}),
    );
    let made = world.create(resource, class.clone()).await.unwrap();
    assert_eq!((&made["reclaimPolicy"], &made["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    let row = world.row(resource, "a").await;
    let expected = json!({"Name": "a (default)", "Provisioner": "x.test/y", "ReclaimPolicy": "Delete",
        "VolumeBindingMode": "Immediate", "AllowVolumeExpansion": false, "Age": row["Age"]});
    assert_eq!(row, expected);
    let cases = [
        (json!({"provisioner": "z"}), "provisioner: Invalid value: \"z\": field is immutable"),
        (json!({"parameters": {"k": "w"}}), "parameters: Invalid value: {\"k\":\"w\"}: field is immutable"),
        (json!({"reclaimPolicy": "Retain"}), "reclaimPolicy: Invalid value: \"Retain\": field is immutable"),
        (
            json!({"volumeBindingMode": "WaitForFirstConsumer"}),
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ),
    ];
    check_updates(&world, resource, "a", &cases).await;
    world.merge(resource, "a", json!({"allowVolumeExpansion": true})).await.unwrap();
    let cases = [
        (json!({"provisioner": ""}), "provisioner: Required value"),
        (
            json!({"volumeBindingMode": "Later"}),
            "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
        ),
        (
            json!({"allowedTopologies": [{}]}),
            "allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\"",
        ),
        (
            json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": []}]}]}),
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
        ),
    ];
    check(resource, &class, &cases).await;
    let attributes = "volumeattributesclasses.storage.k8s.io";
    let class = json!({"metadata": {"name": "a"}, "driverName": "d.test", "parameters": {"iops": "9"}});
    let cases = [(
        json!({"parameters": null}),
        "parameters: Required value: must contain at least one key/value pair",
    )];
    check(attributes, &class, &cases).await;
}

#[tokio::test]
async fn drivers_and_their_nodes() {
    let world = World::new().await;
    let resource = "csidrivers.storage.k8s.io";
    let driver = json!({"metadata": {"name": "d.test"}, "spec": {}});
    let made = world.create(resource, driver.clone()).await.unwrap();
    let expected = json!({"attachRequired": true, "fsGroupPolicy": "ReadWriteOnceWithFSType", "podInfoOnMount": false,
        "requiresRepublish": false, "seLinuxMount": false, "storageCapacity": false, "volumeLifecycleModes": ["Persistent"]});
    assert_eq!(made["spec"], expected);
    let row = world.row(resource, "d.test").await;
    let shown = (&row["AttachRequired"], &row["TokenRequests"], &row["Modes"]);
    assert_eq!(shown, (&json!(true), &json!("<unset>"), &json!("Persistent")));
    let tokens =
        |seconds: i64| json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": seconds}]}});
    let changed = world.merge(resource, "d.test", tokens(600)).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 1);
    let cases = [(
        json!({"spec": {"attachRequired": false}}),
        "spec.attachedRequired: Invalid value: false: field is immutable",
    )];
    check_updates(&world, resource, "d.test", &cases).await;
    let cases = [(
        tokens(599),
        "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
    )];
    check(resource, &driver, &cases).await;
    let node = json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d.test", "nodeID": "1"}]}});
    let cases = [
        (json!({"spec": {"drivers": [{"name": "d.test"}]}}), "spec.drivers[0].nodeID: Required value"),
        (
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "1"}, {"name": "d", "nodeID": "2"}]}}),
            "spec.drivers[1].name: Duplicate value: \"d\"",
        ),
    ];
    check("csinodes.storage.k8s.io", &node, &cases).await;
    let capacity = json!({"metadata": {"name": "c"}, "storageClassName": "fast", "capacity": "5Gi"});
    world.create("csistoragecapacities.storage.k8s.io", capacity).await.unwrap();
    let row = world.row("csistoragecapacities.storage.k8s.io", "c").await;
    assert_eq!(row, json!({"Name": "c", "StorageClassName": "fast", "Capacity": "5Gi"}));
    let cases = [(
        json!({"storageClassName": "slow"}),
        "storageClassName: Invalid value: \"slow\": field is immutable",
    )];
    check_updates(&world, "csistoragecapacities.storage.k8s.io", "c", &cases).await;
}

#[tokio::test]
async fn an_attachment_keeps_its_spec_and_reports_its_state() {
    let world = World::new().await;
    let resource = "volumeattachments.storage.k8s.io";
    let attachment = json!({"metadata": {"name": "a"}, "spec":
        {"attacher": "d.test", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    let mut made = world.create(resource, attachment.clone()).await.unwrap();
    assert_eq!(made["status"], json!({"attached": false}));
    made["status"]["attached"] = json!(true);
    world.update_part(resource, Part::Status, made).await.unwrap();
    let row = world.row(resource, "a").await;
    let expected = json!({"Name": "a", "Attacher": "d.test", "PV": "v", "Node": "n", "Attached": true, "Age": row["Age"]});
    assert_eq!(row, expected);
    let refused = world.merge(resource, "a", json!({"spec": {"nodeName": "m"}})).await.unwrap_err();
    assert!(
        refused.message.contains("spec: Invalid value: {") && refused.message.ends_with("field is immutable")
    );
    let inline =
        |spec: Value| json!({"spec": {"source": {"persistentVolumeName": null, "inlineVolumeSpec": spec}}});
    let cases = [
        (
            json!({"spec": {"source": {"persistentVolumeName": null}}}),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (
            inline(
                json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1"}, "csi": {"driver": "d.test", "volumeHandle": "h"}}),
            ),
            "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
        ),
    ];
    check(resource, &attachment, &cases).await;
}
