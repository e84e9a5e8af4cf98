//! Who has which address of a Service: IPAddresses, made and taken away with the Services; ranges that come and go.

use std::sync::Arc;

use bytes::Bytes;
use clock::{ManualClock, SeededRandom};
use jiff::SignedDuration;
use registry::{Options, Part};
use serde_json::{Value, json};
use store::{Range, Txn, Write};

use crate::world::{World, now, options};

const ADDRESSES: &str = "ipaddresses.networking.k8s.io";
const RANGES: &str = "servicecidrs.networking.k8s.io";

fn service(name: &str, address: Option<&str>) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    if let Some(address) = address {
        service["spec"]["clusterIP"] = json!(address);
    }
    service
}

fn range(name: &str, cidrs: &[&str]) -> Value {
    json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}})
}

fn address_of(service: &Value) -> String {
    service["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

fn ready(range: &Value, status: &str) -> Value {
    let mut range = range.clone();
    range["status"] = json!({"conditions": [{"type": "Ready", "status": status, "reason": "", "message": "",
        "lastTransitionTime": "2026-11-22T10:00:00Z"}]});
    range
}

#[tokio::test]
async fn an_address_is_an_object_for_as_long_as_its_service_has_it() {
    let world = World::with(Options { service_cidr: "10.96.0.0/16,fd00:96::/112".into(), ..options() }).await;
    let mut both = service("web", None);
    both["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
    let made = world.create("services", both).await.unwrap();
    for (address, family) in made["spec"]["clusterIPs"].as_array().unwrap().iter().zip(["IPv4", "IPv6"]) {
        let object = world.get(ADDRESSES, address.as_str().unwrap()).await.unwrap();
        let parent = json!({"group": "", "name": "web", "namespace": "default", "resource": "services"});
        assert_eq!(object["spec"]["parentRef"], parent);
        assert_eq!(
            object["metadata"]["labels"],
            json!({"ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
        );
        assert_eq!(
            object["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"],
            "one transaction"
        );
        assert!(object["metadata"]["uid"].as_str().is_some_and(|uid| uid.len() == 36));
    }
    let first = address_of(&made);
    assert_eq!(world.row(ADDRESSES, &first).await["ParentRef"], "services/default/web");
    let single =
        json!({"spec": {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"], "clusterIPs": [first]}});
    world.merge("services", "web", single).await.unwrap();
    assert_eq!(world.list(ADDRESSES, Default::default()).await.unwrap().len(), 1);
    assert!(world.delete("services", "web").await.unwrap().gone);
    assert!(world.get(ADDRESSES, &first).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn who_holds_an_address_by_hand_keeps_it_from_services() {
    // Two addresses.
    let world = World::with(Options { service_cidr: "10.96.0.0/30".into(), ..options() }).await;
    let gateway = json!({"metadata": {"name": "10.96.0.1"}, "spec": {"parentRef": {
        "group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "default", "name": "g"}}});
    world.create(ADDRESSES, gateway).await.unwrap();
    let refused = world.create("services", service("a", Some("10.96.0.1"))).await.unwrap_err();
    assert!(refused.message.ends_with("failed to allocate IP 10.96.0.1: provided IP is already allocated"));
    let made = world.create("services", service("a", None)).await.unwrap();
    assert_eq!(address_of(&made), "10.96.0.2");
    let full = world.create("services", service("b", None)).await.unwrap_err();
    assert_eq!(full.code, 500);
    assert!(full.message.ends_with("failed to allocate a serviceIP: range is full"), "{full}");
}

#[tokio::test]
async fn addresses_come_from_every_range_that_is_ready() {
    let world = World::with(Options { service_cidr: "10.96.0.0/30".into(), ..options() }).await;
    world.create(RANGES, range("kubernetes", &["10.96.0.0/30"])).await.unwrap();
    for name in ["a", "b"] {
        let made = world.create("services", service(name, None)).await.unwrap();
        assert!(address_of(&made).starts_with("10.96.0."));
    }
    assert_eq!(world.create("services", service("c", None)).await.unwrap_err().code, 500);
    let more = world.create(RANGES, range("more", &["10.97.0.0/24"])).await.unwrap();
    let made = world.create("services", service("c", None)).await.unwrap();
    assert!(address_of(&made).starts_with("10.97.0."), "one that nobody has judged is ready");
    world.create("services", service("d", Some("10.97.0.9"))).await.unwrap();

    let other = "failed to allocate IP 10.97.0.7: the provided network does not match the current range";
    world.update_part(RANGES, Part::Status, ready(&more, "False")).await.unwrap();
    let refused = world.create("services", service("e", Some("10.97.0.7"))).await.unwrap_err();
    assert!(refused.message.ends_with(other), "{refused}");
    assert_eq!(world.create("services", service("e", None)).await.unwrap_err().code, 500);
    let more = world.get(RANGES, "more").await.unwrap();
    world.update_part(RANGES, Part::Status, ready(&more, "True")).await.unwrap();
    world.create("services", service("e", Some("10.97.0.7"))).await.unwrap();

    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    world.merge(RANGES, "more", hold).await.unwrap();
    world.delete(RANGES, "more").await.unwrap();
    assert_eq!(world.create("services", service("f", None)).await.unwrap_err().code, 500, "it is going");
    // What Services have they keep.
    world.merge("services", "e", json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
}

#[tokio::test]
async fn claims_of_an_earlier_release_become_objects() {
    let world = World::new().await;
    let made = world.create("services", service("web", None)).await.unwrap();
    let address = address_of(&made);
    world.delete(ADDRESSES, &address).await.unwrap();
    let former = Bytes::from(format!("/allocations/service-addresses/{address}"));
    let owner = Bytes::from_static(b"/registry/core/services/default/web");
    let writes = vec![Write::Put(former, owner)];
    world.store.commit(Txn { expect: Vec::new(), writes, ..Txn::default() }).await.unwrap();
    let world = world.again().await;
    let object = world.get(ADDRESSES, &address).await.unwrap();
    assert_eq!(object["spec"]["parentRef"]["name"], "web");
    let prefix = Bytes::from_static(b"/allocations/service-addresses/");
    let left = world.store.range(Range { prefix, ..Range::default() }).await.unwrap();
    assert!(left.entries.is_empty());
    let taken = world.create("services", service("other", Some(&address))).await.unwrap_err();
    assert!(taken.message.ends_with("provided IP is already allocated"), "{taken}");
}

#[tokio::test]
async fn what_was_done_by_hand_is_put_right() {
    let world = World::new().await;
    let address = address_of(&world.create("services", service("web", None)).await.unwrap());
    let other = address_of(&world.create("services", service("other", None)).await.unwrap());
    let mut stolen = world.get(ADDRESSES, &address).await.unwrap();
    world.delete(ADDRESSES, &address).await.unwrap();
    stolen["metadata"] = json!({"name": address, "labels": stolen["metadata"]["labels"]});
    stolen["spec"]["parentRef"]["name"] = json!("nobody");
    world.create(ADDRESSES, stolen.clone()).await.unwrap();
    world.merge(ADDRESSES, &other, json!({"metadata": {"labels": null}})).await.unwrap();
    stolen["metadata"]["name"] = json!("10.96.200.200");
    world.create(ADDRESSES, stolen).await.unwrap();
    let own = json!({"metadata": {"name": "10.96.200.201"}, "spec": {"parentRef": {
        "resource": "services", "namespace": "default", "name": "nobody"}}});
    world.create(ADDRESSES, own).await.unwrap();

    let open = async |later: i64| {
        let clock = ManualClock::new(now() + SignedDuration::from_secs(later));
        World::over(world.store.clone(), Options::new(Arc::new(clock), Arc::new(SeededRandom::new(7)))).await
    };
    world.registry.close().await;
    let soon = open(30).await;
    assert_eq!(soon.get(ADDRESSES, &address).await.unwrap()["spec"]["parentRef"]["name"], "web");
    let labels = soon.get(ADDRESSES, &other).await.unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
    assert!(soon.get(ADDRESSES, "10.96.200.200").await.is_ok(), "its Service may be on its way");
    soon.registry.close().await;
    let late = open(90).await;
    assert!(late.get(ADDRESSES, "10.96.200.200").await.unwrap_err().is_not_found());
    assert!(late.get(ADDRESSES, "10.96.200.201").await.is_ok(), "not the server's");
    late.registry.close().await;
}
