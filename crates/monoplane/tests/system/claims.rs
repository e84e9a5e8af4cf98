//! Claims and volumes: waited for, made where their first pod runs, kept while pods come and go, and gone with their data.

use harness::{Plane, eventually};

use crate::containers::{IMAGE, output, plane_with_image};

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  \
                     accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Mi}}\n";

fn pod(name: &str, script: &str, volume: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
         command: [/bin/busybox, sh, -c]\n    args: ['{script}']\n    volumeMounts: [{{name: v, mountPath: /v}}]\n  \
         volumes:\n  - {{name: v, {volume}}}\n"
    )
}

fn phase(plane: &Plane, kind: &str, name: &str) -> String {
    plane.get(&[kind, name])["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_claim_waits_is_given_a_volume_keeps_its_data_and_takes_them_along() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(CLAIM);
    eventually("it waits for its first pod", || {
        plane.kubectl_ok(&["describe", "pvc", "data"]).contains("WaitForFirstConsumer").then_some(())
    });
    assert_eq!(plane.get(&["pvc", "data"])["spec"]["storageClassName"], "local");
    plane.apply(&pod("writes", "echo kept > /v/file", "persistentVolumeClaim: {claimName: data}"));
    output(&plane, "writes");
    let claim = plane.get(&["pvc", "data"]);
    assert_eq!(
        (claim["status"]["phase"].as_str(), claim["status"]["capacity"]["storage"].as_str()),
        (Some("Bound"), Some("1Mi"))
    );
    let name = claim["spec"]["volumeName"].as_str().expect("a volume").to_owned();
    let directory = plane.data().join("node/volumes").join(&name);
    assert_eq!(std::fs::read_to_string(directory.join("file")).expect("the file"), "kept\n");
    assert_eq!(phase(&plane, "pv", &name), "Bound");

    // Pods come and go, and the plane too.
    plane.kubectl_ok(&["delete", "pod", "writes", "--timeout=30s"]);
    plane.restart("server", 9);
    let read_only = "persistentVolumeClaim: {claimName: data, readOnly: true}";
    plane.apply(&pod("reads", "cat /v/file; touch /v/x 2>&1 | grep -c Read-only", read_only));
    assert_eq!(output(&plane, "reads"), "kept\n1\n");

    // Nothing goes while a pod may need it.
    plane.apply(&pod("holds", "sleep 1000", "persistentVolumeClaim: {claimName: data}"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/holds", "--timeout=60s"]);
    plane.kubectl_ok(&["delete", "pvc", "data", "--wait=false"]);
    assert_eq!(phase(&plane, "pvc", "data"), "Bound");
    plane.kubectl_ok(&["delete", "pod", "writes", "reads", "holds", "--ignore-not-found", "--timeout=30s"]);
    eventually("claim, volume and data are gone", || {
        let gone = |kind, name| !plane.kubectl(&["get", kind, name]).ok;
        (gone("pvc", "data") && gone("pv", &name) && !directory.exists()).then_some(())
    });
}

#[test]
fn a_volume_of_the_administrator_is_bound_released_and_kept() {
    let Some(plane) = plane_with_image() else { return };
    let disk = tempfile::tempdir().expect("a directory");
    std::fs::write(disk.path().join("file"), "there before\n").expect("a file");
    let volume = |name: &str, size: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
             storageClassName: by-hand\n  capacity: {{storage: {size}}}\n  hostPath: {{path: {}, type: Directory}}\n",
            disk.path().display()
        )
    };
    plane.apply(&[volume("small", "1Mi"), volume("large", "9Gi"), volume("right", "3Gi")].join("---\n"));
    let asks = CLAIM.replace("1Mi", "2Gi").replace("spec:\n", "spec:\n  storageClassName: by-hand\n");
    plane.apply(&asks);
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "--timeout=30s"]);
    assert_eq!(plane.get(&["pvc", "data"])["spec"]["volumeName"], "right");
    plane.apply(&pod("reads", "cat /v/file", "persistentVolumeClaim: {claimName: data}"));
    assert_eq!(output(&plane, "reads"), "there before\n");
    assert_eq!(
        (phase(&plane, "pv", "small"), phase(&plane, "pv", "right")),
        ("Available".into(), "Bound".into())
    );
    plane.kubectl_ok(&["delete", "pod/reads", "pvc/data", "--timeout=30s"]);
    eventually("it is released", || (phase(&plane, "pv", "right") == "Released").then_some(()));
    assert!(disk.path().join("file").exists());
    plane.apply(&asks);
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", "--timeout=30s"]);
    assert_eq!(
        plane.get(&["pvc", "data"])["spec"]["volumeName"],
        "large",
        "what was another's is not given away"
    );
}

#[test]
fn a_pods_own_claim_comes_and_goes_with_it() {
    let Some(plane) = plane_with_image() else { return };
    let spec = "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}}";
    plane.apply(&pod("alone", "echo mine > /v/file; cat /v/file; sleep 1000", spec));
    eventually("the claim is made", || plane.kubectl(&["get", "pvc", "alone-v"]).ok.then_some(()));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/alone", "--timeout=60s"]);
    eventually("it runs", || (plane.kubectl(&["logs", "alone"]).out == "mine\n").then_some(()));
    plane.kubectl_ok(&["delete", "pod", "alone", "--timeout=30s"]);
    eventually("all of it is gone", || {
        let none = |kind| plane.get(&[kind])["items"].as_array().is_some_and(Vec::is_empty);
        let directory = plane.data().join("node/volumes");
        let is_empty = std::fs::read_dir(directory).is_ok_and(|mut left| left.next().is_none());
        (none("pvc") && none("pv") && is_empty).then_some(())
    });
}
