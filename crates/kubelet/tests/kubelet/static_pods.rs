//! Pods that the node runs by itself.

use client::DeleteParams;
use serde_json::Value;

use crate::plane::Plane;

const FILE: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: fixed}\nspec: {containers: [{name: a, image: image, imagePullPolicy: Never}]}\n";

fn write(plane: &Plane, text: &str) {
    let directory = plane.directory.path().join("manifests");
    std::fs::create_dir_all(&directory).unwrap();
    // All at once, as whoever places such a file should.
    std::fs::write(directory.join(".new"), text).unwrap();
    std::fs::rename(directory.join(".new"), directory.join("fixed.yaml")).unwrap();
}

fn hash(pod: &Value) -> String {
    pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_file_runs_is_shown_and_goes() {
    let plane = Plane::start().await;
    write(&plane, FILE);
    let image = plane.until_ready("fixed-node").await;
    let annotations = &image["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.hash"], hash(&image));
    let owner = &image["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&"Node".into(), &true.into()));
    assert_eq!(plane.runtime.sandbox().metadata.uid, hash(&image));

    // Deleted, it comes back, and nothing of it is started anew.
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    plane.pods().delete("fixed-node", &now).await.unwrap();
    let uid = image["metadata"]["uid"].clone();
    plane
        .until("fixed-node", |pod| pod["metadata"]["uid"].is_string() && pod["metadata"]["uid"] != uid)
        .await;
    plane.until_ready("fixed-node").await;
    assert_eq!(plane.runtime.calls("create a"), 1);

    // A new kubelet finds it running.
    let plane = plane.restart().await;
    plane.until_ready("fixed-node").await;
    assert_eq!(plane.runtime.calls("create a"), 1);

    write(&plane, &FILE.replace("name: a,", "name: b,"));
    let before = hash(&image);
    plane.until("fixed-node", |pod| !hash(pod).is_empty() && hash(pod) != before).await;
    plane.until_ready("fixed-node").await;
    assert_eq!(plane.runtime.calls("create b"), 1);
    std::fs::remove_file(plane.directory.path().join("manifests/fixed.yaml")).unwrap();
    plane.until("fixed-node", Value::is_null).await;
    while !plane.runtime.is_empty() {
        tokio::task::yield_now().await;
    }
}
