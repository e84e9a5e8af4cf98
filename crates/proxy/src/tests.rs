use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::services::{Frontend, Masquerade, Protocol, Services};
use serde_json::{Value, json};

use crate::health::HealthChecks;
use crate::placements::Placement;
use crate::translate::{self, HealthCheck, Here};

fn services(all: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Services {
    translate::services(all, slices, &Here { node: node.to_owned(), zone: Some("near".to_owned()) })
}

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
        address: address.unwrap_or("0.0.0.0").parse::<IpAddr>().expect("an address"),
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
    let target = &found.frontends[&at(None, 30080)];
    assert_eq!(target.masquerade, Masquerade::Never);
    // What begins on the node is nobody's client whose address must be shown.
    let insiders = target.insiders.as_ref().expect("a pool of the node's own");
    assert_eq!(found.pools[insiders].endpoints.len(), 2);
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

#[test]
fn hints_are_heeded_when_every_endpoint_has_one_and_some_are_for_here() {
    let found = |hints: &[Value]| {
        let one = |(n, hints): (usize, &Value)| json!({"addresses": [format!("10.0.0.{n}")], "nodeName": format!("n{n}"), "hints": hints});
        let object = json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": hints.iter().enumerate().map(one).collect::<Vec<_>>(),
        });
        let slice = Arc::new(serde_json::from_value(object).expect("a slice"));
        let found = services(&[service(http(json!({})))], &[slice], "n0");
        endpoints(&found, at(Some("10.96.0.10"), 80))
    };
    let zone = |zone: &str| json!({"forZones": [{"name": zone}]});
    let both = |zone: &str, node: &str| json!({"forZones": [{"name": zone}], "forNodes": [{"name": node}]});
    let all = texts(&["10.0.0.0:8080", "10.0.0.1:8080"]);
    assert_eq!(found(&[zone("far"), zone("near")]), texts(&["10.0.0.1:8080"]));
    assert_eq!(found(&[zone("far"), zone("far")]), all);
    assert_eq!(found(&[Value::Null, zone("near")]), all);
    assert_eq!(found(&[both("near", "n0"), both("near", "n1")]), texts(&["10.0.0.0:8080"]));
    assert_eq!(found(&[both("near", "n7"), both("far", "n8")]), texts(&["10.0.0.0:8080"]));
}

#[test]
fn load_balancers_have_sources_and_ask_for_endpoints_that_are_here() {
    let mut balanced = Service::clone(&service(http(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        "externalIPs": ["192.0.2.7"], "loadBalancerSourceRanges": ["198.51.100.0/24", "2001:db8::/64"],
    }))));
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}, {"ip": "0.0.0.0"}, {"ip": "192.0.2.9", "ipMode": "Proxy"}]}});
    balanced.status = Some(serde_json::from_value(status).expect("a status"));
    let all = [Arc::new(balanced)];
    let slices = [slice(&[("10.0.0.1", "here", true, true), ("10.0.0.2", "here", false, true)])];
    let found = services(&all, &slices, "here");
    let expected = BTreeSet::from([(IpAddr::from([198, 51, 100, 0]), 24)]);
    assert_eq!(found.frontends[&at(Some("192.0.2.8"), 80)].sources, Some(expected));
    assert_eq!(found.frontends[&at(Some("192.0.2.7"), 80)].sources, None);
    assert!(!found.frontends.contains_key(&at(Some("192.0.2.9"), 80)));
    assert!(!found.frontends.contains_key(&at(Some("0.0.0.0"), 80)), "not every address of the node");
    let count = |node: &str| {
        let here = Here { node: node.to_owned(), zone: None };
        let checks = translate::health_checks(&all, &slices, &here);
        let check = &checks[&32000];
        assert_eq!((check.namespace.as_str(), check.name.as_str()), ("shop", "web"));
        check.local_endpoints
    };
    assert_eq!((count("here"), count("there")), (1, 0));
}

#[test]
fn ports_of_the_node_lead_to_the_pods_that_ask_for_them() {
    let pod = |name: &str, node: &str, address: &str, port: Value| {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [port]}]},
            "status": {"podIP": address, "phase": "Running"},
        });
        Arc::new(serde_json::from_value::<Pod>(object).expect("a pod"))
    };
    let pods = [
        pod("a", "here", "10.0.0.1", json!({"containerPort": 80, "hostPort": 8080})),
        pod("b", "here", "10.0.0.2", json!({"containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1"})),
        pod("c", "there", "10.0.0.3", json!({"containerPort": 80, "hostPort": 8081})),
        pod("d", "here", "10.0.0.4", json!({"containerPort": 80, "hostPort": 30080})),
        pod("e", "here", "10.0.0.5", json!({"containerPort": 80})),
    ];
    let mut found =
        services(&[service(http(json!({})))], &[slice(&[("10.0.0.9", "here", true, true)])], "here");
    let (at_pods, _) = crate::pods::all(&pods, &Default::default(), "here");
    translate::host_ports(&mut found, &at_pods);
    assert_eq!(endpoints(&found, at(None, 8080)), texts(&["10.0.0.1:80"]));
    assert_eq!(endpoints(&found, at(Some("192.0.2.1"), 8080)), texts(&["10.0.0.2:80"]));
    assert!(!found.frontends.contains_key(&at(None, 8081)));
    // The Service's node port was there first.
    assert_eq!(endpoints(&found, at(None, 30080)), texts(&["10.0.0.9:8080"]));

    let both = |port: Value| {
        let mut pod = Pod::clone(&pod("f", "here", "10.0.0.6", port));
        let ips = json!([{"ip": "10.0.0.6"}, {"ip": "fd00::6"}]);
        pod.status.as_mut().expect("a status").pod_ips = serde_json::from_value(ips).expect("addresses");
        let mut found = Services::default();
        translate::host_ports(&mut found, &crate::pods::all(&[Arc::new(pod)], &Default::default(), "here").0);
        let all = found.frontends.keys().map(|at| (at.address.to_string(), endpoints(&found, *at)));
        all.collect::<Vec<_>>()
    };
    let (four, six) = (texts(&["10.0.0.6:80"]), texts(&["[fd00::6]:80"]));
    assert_eq!(
        both(json!({"containerPort": 80, "hostPort": 8080})),
        [("0.0.0.0".to_owned(), four), ("::".to_owned(), six.clone())]
    );
    let only = json!({"containerPort": 80, "hostPort": 8080, "hostIP": "2001:db8::1"});
    assert_eq!(both(only), [("2001:db8::1".to_owned(), six)]);
}

#[test]
fn a_service_of_both_families_is_there_in_both_and_one_of_one_in_one() {
    let of_six = |endpoints: &[_]| {
        let mut six = EndpointSlice::clone(&slice(endpoints));
        six.address_type = "IPv6".to_owned();
        Arc::new(six)
    };
    let four = slice(&[("10.0.0.1", "here", true, true)]);
    let slices = [four.clone(), of_six(&[("fd00::1", "here", true, true), ("fd00::2", "here", false, true)])];
    let dual = json!({
        "clusterIPs": ["10.96.0.10", "fd00:96::a"], "ipFamilies": ["IPv4", "IPv6"], "type": "LoadBalancer",
        "externalIPs": ["192.0.2.7", "2001:db8::7"], "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
    });
    let all = texts(&["10.0.0.1:8080", "[fd00::1]:8080"]);
    let service = |more| service(http(more));
    let found = services(&[service(dual.clone())], &slices, "here");
    for frontend in ["10.96.0.10", "fd00:96::a", "192.0.2.7", "2001:db8::7"] {
        assert_eq!(endpoints(&found, at(Some(frontend), 80)), all, "{frontend}");
    }
    for anywhere in ["0.0.0.0", "::"] {
        assert_eq!(endpoints(&found, at(Some(anywhere), 30080)), all, "{anywhere}");
    }
    // A pod counts once, whatever addresses it has.
    let here = Here { node: "here".to_owned(), zone: None };
    assert_eq!(translate::health_checks(&[service(dual.clone())], &slices, &here)[&32000].local_endpoints, 1);

    // What is ready of one family says nothing of the other.
    let ending = [four, of_six(&[("fd00::2", "here", false, true)])];
    let found = services(&[service(dual)], &ending, "here");
    assert_eq!(endpoints(&found, at(Some("fd00:96::a"), 80)), texts(&["10.0.0.1:8080", "[fd00::2]:8080"]));

    let single = json!({"externalIPs": ["192.0.2.7", "2001:db8::7"]});
    let found = services(&[service(single)], &slices, "here");
    let addresses: BTreeSet<String> = found.frontends.keys().map(|at| at.address.to_string()).collect();
    assert_eq!(addresses, texts(&["0.0.0.0", "10.96.0.10", "192.0.2.7"]));
}

#[test]
fn an_address_is_that_pods_which_has_it_here() {
    let pod = |name: &str, address: &str| {
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": name},
            "spec": {"nodeName": "here", "containers": []}, "status": {"podIP": address, "phase": "Running"},
        });
        Arc::new(serde_json::from_value::<Pod>(object).expect("a pod"))
    };
    let new = Placement { uid: "new".to_owned(), addresses: vec![IpAddr::from([10, 0, 0, 1])] };
    let nobody = Placement { uid: "nobody".to_owned(), ..new.clone() };
    let pods = [pod("old", "10.0.0.1"), pod("new", "10.0.0.2")];
    let placements = [("s1".to_owned(), new), ("s2".to_owned(), nobody)].into();
    let (found, known) = crate::pods::all(&pods, &placements, "here");
    let found: Vec<_> =
        found.iter().map(|at| (at.pod.metadata.name.as_deref(), at.addresses.clone())).collect();
    assert_eq!(found, [(Some("new"), vec![IpAddr::from([10, 0, 0, 1])])]);
    assert_eq!(known, BTreeSet::from(["s1".to_owned()]));
}

#[tokio::test]
async fn a_port_for_health_checks_says_how_many_endpoints_are_here() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tasks = clock::Tasks::default();
    let checks = HealthChecks::new([127, 0, 0, 1].into(), &client::Ambient::system(), &tasks);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let ask = async || loop {
        // It may not listen yet.
        let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
            tokio::task::yield_now().await;
            continue;
        };
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("asked");
        let mut said = String::new();
        stream.read_to_string(&mut said).await.expect("an answer");
        return said;
    };
    for (count, status) in [(2, "HTTP/1.1 200"), (0, "HTTP/1.1 503")] {
        let check = HealthCheck { namespace: "shop".into(), name: "web".into(), local_endpoints: count };
        checks.keep(&[(port, check)].into());
        let said = ask().await;
        assert!(said.starts_with(status) && said.contains(&format!("\"localEndpoints\":{count}")), "{said}");
    }
    tasks.stop().await;
}

fn manual() -> (client::Ambient, Arc<clock::ManualClock>) {
    let clock = Arc::new(clock::ManualClock::new("2026-01-01T00:00:00Z".parse().expect("a time")));
    let random = Arc::new(clock::SeededRandom::new(1));
    (client::Ambient { clock: clock.clone(), random }, clock)
}

#[tokio::test]
async fn a_pod_waits_until_its_policies_are_in_force() {
    let placements = crate::placements::Placements::default();
    let (ambient, clock) = manual();
    let placement = Placement { uid: "u".to_owned(), addresses: Vec::new() };
    placements.add("s", placement);
    // Nobody says what is in force.
    let (refused, ()) = tokio::join!(placements.in_force("s", &ambient), async {
        tokio::task::yield_now().await;
        clock.advance(std::time::Duration::from_secs(6));
    });
    assert!(refused.is_err());
    let known = BTreeSet::from(["s".to_owned()]);
    let (passed, ()) = tokio::join!(placements.in_force("s", &ambient), async {
        placements.enforced(placements.snapshot().1, known);
    });
    passed.expect("in force");
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
        outside: IpAddr::from([127, 0, 0, 1]),
        filter: |_: &_| Ok(()),
        overlay: Some(|_: &_| Ok(())),
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
