//! Two registries over one etcd: what one has written the other shows, at once, and nothing is given out twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use registry::{ListOptions, Options, WatchEvent};
use serde_json::json;
use store::{Etcd, EtcdOptions, Store, Txn, Write};

use crate::remembering::Remembering;
use crate::world::{World, config_map, names, options, until};

async fn etcd(server: &harness::Etcd, prefix: &'static str) -> Etcd {
    let options =
        EtcdOptions { endpoints: server.endpoints(), prefix: prefix.into(), ..EtcdOptions::default() };
    Etcd::open(options).await.unwrap()
}

async fn world(server: &harness::Etcd, options: Options) -> (World, Arc<Remembering<Etcd>>) {
    let store = Arc::new(Remembering::new(etcd(server, "/plane").await));
    (World::over(store.clone(), Options { shared_store: true, ..options }).await, store)
}

/// Somebody else's keys in the same etcd: revisions of which the registries see no event.
async fn written_elsewhere(other: &Etcd) {
    let write = Write::Put("/key".into(), "value".into());
    other.commit(Txn { expect: vec![], writes: vec![write], ..Txn::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_has_written_the_other_shows_at_once_from_its_cache() {
    let server = harness::Etcd::start();
    let other = etcd(&server, "/elsewhere").await;
    let worlds = [world(&server, options()).await, world(&server, options()).await];
    let reads = || worlds.iter().map(|(_, store)| store.reads.load(Ordering::Relaxed)).sum::<u64>();
    let commits = || worlds.iter().map(|(_, store)| store.commits.lock().unwrap().len() as u64).sum::<u64>();
    let before = (reads(), commits());
    const ROUNDS: usize = 60;
    for round in 0..ROUNDS {
        let ((this, _), (that, _)) = (&worlds[round % 2], &worlds[(round + 1) % 2]);
        let name = format!("c{round:02}");
        let made = this.create("configmaps", config_map(&name, "one")).await.unwrap();
        if round % 3 == 0 {
            written_elsewhere(&other).await;
        }
        let seen = that.get("configmaps", &name).await.unwrap();
        assert_eq!(seen, made);
        let listed = that.list("configmaps", ListOptions::default()).await.unwrap();
        assert_eq!(names(listed.objects()).last(), Some(&name));
        // The resourceVersion of one is good for the other.
        let changed = that.update("configmaps", {
            let mut changed = seen.clone();
            changed["data"]["value"] = json!("two");
            changed
        });
        let changed = changed.await.unwrap();
        let stale = this.update("configmaps", seen).await.unwrap_err();
        assert_eq!(stale.reason.as_str(), "Conflict");
        assert_eq!(this.get("configmaps", &name).await.unwrap(), changed);
        if round % 2 == 0 {
            this.delete("configmaps", &name).await.unwrap();
            assert_eq!(that.get("configmaps", &name).await.unwrap_err().code, 404);
            that.create("configmaps", config_map(&name, "again")).await.unwrap();
        }
    }
    assert_eq!(reads(), before.0, "no read was served from etcd");
    let written = (ROUNDS * 2 + ROUNDS / 2 * 2) as u64;
    assert_eq!(commits() - before.1, written, "one transaction a write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_both_share_nothing_and_lose_nothing() {
    let server = harness::Etcd::start();
    // Few addresses and ports, so that choices collide all the time. The two choose alike: from one seed.
    let tight = || Options { service_cidr: "10.96.0.0/26".into(), node_ports: (30000, 30049), ..options() };
    let worlds = [Arc::new(world(&server, tight()).await.0), Arc::new(world(&server, tight()).await.0)];
    worlds[0].create("configmaps", config_map("many", "")).await.unwrap();
    let each = (0..40).map(|index| {
        let world = worlds[index % 2].clone();
        tokio::spawn(async move {
            let service = json!({
                "metadata": {"name": format!("s{index}")},
                "spec": {"type": "NodePort", "ports": [{"port": 80}]},
            });
            let made = world.create("services", service).await.unwrap();
            let label = json!({"metadata": {"labels": {format!("l{index}"): "yes"}}});
            world.merge("configmaps", "many", label).await.unwrap();
            made
        })
    });
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for made in each.collect::<Vec<_>>() {
        let made = made.await.unwrap();
        addresses.insert(made["spec"]["clusterIP"].as_str().unwrap().to_owned());
        ports.insert(made["spec"]["ports"][0]["nodePort"].as_i64().unwrap());
    }
    assert_eq!((addresses.len(), ports.len()), (40, 40));
    for world in &worlds {
        let many = world.get("configmaps", "many").await.unwrap();
        assert_eq!(many["metadata"]["labels"].as_object().unwrap().len(), 40);
        assert_eq!(world.list("services", ListOptions::default()).await.unwrap().objects().count(), 40);
    }
    // What one gives back the other gives out.
    worlds[0].delete("services", "s0").await.unwrap();
    let port = json!({"metadata": {"name": "again"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    worlds[1].create("services", port).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_through_a_kill_of_etcd_and_tells_what_the_other_wrote() {
    let mut server = harness::Etcd::start();
    let (this, that) = (world(&server, options()).await.0, world(&server, options()).await.0);
    let mut watch = that.watch("configmaps", ListOptions::default()).await.unwrap();
    for round in 0..6 {
        let name = format!("c{round}");
        // A write that was under way may have happened though nobody said so.
        let made = || async {
            let made = this.create("configmaps", config_map(&name, "")).await;
            made.is_ok() || this.get("configmaps", &name).await.is_ok()
        };
        until(made).await;
        let told = loop {
            if let WatchEvent::Added(object) = watch.next().await.expect("the watch ended") {
                break object.tree();
            }
        };
        assert_eq!(told["metadata"]["name"], name.as_str());
        until(|| async { that.get("configmaps", &name).await.is_ok() }).await;
        server.kill(0);
        server.revive(0);
    }
}
