//! Which writes may wait for company on the disk.

use std::sync::Arc;

use registry::{DeleteOptions, Part, Patch};
use serde_json::json;
use store::Memory;

use crate::remembering::Remembering;
use crate::world::{World, config_map, cx, options};

#[tokio::test]
async fn only_the_renewal_of_a_nodes_lease_is_patient() {
    let store = Arc::new(Remembering::<Memory>::default());
    let world = World::over(store.clone(), options()).await;
    let leases = world.kind("leases.coordination.k8s.io");
    let lease = json!({ "metadata": { "name": "n" }, "spec": { "holderIdentity": "n" } });
    let renewal = Patch::Merge(json!({ "spec": { "renewTime": "2026-11-22T10:00:00.000000Z" } }));
    store.commits.lock().unwrap().clear();
    for namespace in ["kube-node-lease", "kube-system"] {
        world.create_in(&cx(), "leases.coordination.k8s.io", namespace, lease.clone()).await.unwrap();
        world.registry.patch(&cx(), &leases, namespace, "n", Part::Whole, &renewal).await.unwrap();
    }
    world.registry.delete(&cx(), &leases, "kube-node-lease", "n", &DeleteOptions::default()).await.unwrap();
    world.create("configmaps", config_map("n", "1")).await.unwrap();
    world.merge("configmaps", "n", json!({ "data": { "value": "2" } })).await.unwrap();
    let patient: Vec<bool> =
        store.commits.lock().unwrap().iter().map(|patience| !patience.is_zero()).collect();
    assert_eq!(patient, [false, true, false, false, false, false, false]);
}
