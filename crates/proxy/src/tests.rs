use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::services::{Frontend, Masquerade, Protocol, Services};
use serde_json::{Value, json};

use crate::translate::services;

fn service(spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
    Arc::new(serde_json::from_value(object).expect("a Service"))
}

/// Endpoints as (address, node, ready, serving).
fn slice(endpoints: &[(&str, &str, bool, bool)]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node, ready, serving)| {
            json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready, "serving": serving}})
        })
        .collect();
    let object = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    Arc::new(serde_json::from_value(object).expect("a slice"))
}

fn http(more: Value) -> Value {
    let mut spec = json!({
        "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080}],
    });
    for (name, value) in more.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    spec
}

fn at(address: Option<&str>, port: u16) -> Frontend {
    Frontend {
        address: address.map(|a| a.parse::<IpAddr>().expect("an address")),
        protocol: Protocol::Tcp,
        port,
    }
}

fn endpoints(found: &Services, frontend: Frontend) -> BTreeSet<String> {
    let target = found.frontends.get(&frontend).expect("the frontend");
    found.pools[&target.pool].endpoints.iter().map(ToString::to_string).collect()
}

fn texts(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn ready_endpoints_answer_and_ending_ones_only_while_there_are_no_others() {
    let found = |endpoints: &[_]| services(&[service(http(json!({})))], &[slice(endpoints)], "here");
    let both = found(&[("10.0.0.1", "here", true, true), ("10.0.0.2", "there", true, true)]);
    assert_eq!(endpoints(&both, at(Some("10.96.0.10"), 80)), texts(&["10.0.0.1:8080", "10.0.0.2:8080"]));
    assert_eq!(endpoints(&both, at(None, 30080)), texts(&["10.0.0.1:8080", "10.0.0.2:8080"]));
    let one = found(&[("10.0.0.1", "here", true, true), ("10.0.0.2", "there", false, true)]);
    assert_eq!(endpoints(&one, at(Some("10.96.0.10"), 80)), texts(&["10.0.0.1:8080"]));
    let ending = found(&[("10.0.0.1", "here", false, false), ("10.0.0.2", "there", false, true)]);
    assert_eq!(endpoints(&ending, at(Some("10.96.0.10"), 80)), texts(&["10.0.0.2:8080"]));
    let none = found(&[("10.0.0.1", "here", false, false)]);
    assert_eq!(endpoints(&none, at(Some("10.96.0.10"), 80)), texts(&[]));
}

#[test]
fn local_policies_keep_to_the_node_and_show_the_client() {
    let two = slice(&[("10.0.0.1", "here", true, true), ("10.0.0.2", "there", true, true)]);
    let spec = http(json!({"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.7"]}));
    let found = services(&[service(spec)], std::slice::from_ref(&two), "here");
    assert_eq!(endpoints(&found, at(Some("10.96.0.10"), 80)).len(), 2);
    assert_eq!(endpoints(&found, at(None, 30080)), texts(&["10.0.0.1:8080"]));
    assert_eq!(endpoints(&found, at(Some("192.0.2.7"), 80)), texts(&["10.0.0.1:8080"]));
    assert_eq!(found.frontends[&at(None, 30080)].masquerade, Masquerade::Never);
    let spec = http(json!({"internalTrafficPolicy": "Local"}));
    let found = services(&[service(spec)], &[two], "there");
    assert_eq!(endpoints(&found, at(Some("10.96.0.10"), 80)), texts(&["10.0.0.2:8080"]));
    assert_eq!(endpoints(&found, at(None, 30080)).len(), 2);
    assert_eq!(found.frontends[&at(None, 30080)].masquerade, Masquerade::Always);
}

#[test]
fn what_has_no_address_of_its_own_is_passed_over() {
    let some = [slice(&[("10.0.0.1", "here", true, true)])];
    for spec in [
        http(json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        http(json!({"type": "ExternalName", "externalName": "example.com"})),
        http(json!({"clusterIP": "", "clusterIPs": []})),
    ] {
        assert_eq!(services(&[service(spec)], &some, "here"), Services::default());
    }
}

#[test]
fn affinity_lasts_as_long_as_the_service_says() {
    let seconds = |more| {
        let found = services(&[service(http(more))], &[], "here");
        found.pools.values().next().expect("a pool").affinity.map(|stay| stay.as_secs())
    };
    assert_eq!(seconds(json!({})), None);
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP"})), Some(10_800));
    let config = json!({"clientIP": {"timeoutSeconds": 60}});
    assert_eq!(seconds(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config})), Some(60));
}

#[test]
fn the_elder_of_two_services_keeps_an_address() {
    let made = |name: &str, at: &str| {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": at},
            "spec": http(json!({"externalIPs": ["192.0.2.7"], "clusterIP": "10.96.0.11", "clusterIPs": []})),
        });
        Arc::new(serde_json::from_value::<Service>(object).expect("a Service"))
    };
    let (old, young) = (made("zebra", "2020-01-01T00:00:00Z"), made("ant", "2021-01-01T00:00:00Z"));
    let found = services(&[young, old], &[], "here");
    assert_eq!(found.frontends[&at(Some("192.0.2.7"), 80)].pool, "shop/zebra:http");
}

#[tokio::test]
async fn the_node_follows_the_api_and_tries_again_when_the_kernel_refuses() {
    let api = testkit::FakeApi::new(client::Ambient::system());
    let client = api.client();
    let seen: Arc<Mutex<Vec<Services>>> = Arc::default();
    let (told, mut tell) = tokio::sync::mpsc::unbounded_channel();
    let (keep, stop) = (seen.clone(), tokio_util::sync::CancellationToken::new());
    let (names, zone) = tokio::sync::watch::channel(Arc::default());
    let mut refusals = 1;
    let options = crate::Options {
        client: client.clone(),
        ambient: client::Ambient::system(),
        node: "here".to_owned(),
        domain: "cluster.local".to_owned(),
        names,
        placements: Arc::default(),
        filter: |_: &_| Ok(()),
        balance: move |services: &Services| {
            if refusals > 0 {
                refusals -= 1;
                return Err("not now");
            }
            keep.lock().expect("seen").push(services.clone());
            told.send(()).map_err(|_| "nobody listens")
        },
    };
    let running = tokio::spawn(crate::run(options, stop.clone()));
    tell.recv().await.expect("a first look");
    let services: client::Api<Service> = client::Api::namespaced(client, "shop");
    let mut web = Service::clone(&service(http(json!({}))));
    web.metadata.namespace = Some("shop".to_owned());
    services.create(&client::PostParams::default(), &web).await.expect("created");
    while seen.lock().expect("seen").last().is_none_or(|services| services.frontends.is_empty()) {
        tell.recv().await.expect("a look");
    }
    let known: Arc<crate::dns::Zone> = zone.borrow().clone();
    assert!(matches!(known.look_up("web.shop.svc.cluster.local"), crate::dns::zone::Answer::Known(_)));
    stop.cancel();
    running.await.expect("an orderly end");
}
