//! Services: addresses and ports that no two share.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry::Options;
use serde_json::{Value, json};

use crate::world::{World, options};

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

fn web() -> Value {
    json!({"selector": {"app": "a"}, "ports": [{"port": 80}]})
}

#[tokio::test]
async fn a_service_with_more_ports_than_there_are_is_refused() {
    let world = World::with(Options { node_ports: (30000, 30001), ..options() }).await;
    let ports = |count: u16| (0..count).map(|port| json!({"name": format!("p{port}"), "port": 80 + port}));
    let spec = |count| json!({"type": "NodePort", "ports": ports(count).collect::<Vec<_>>()});
    let refused = world.create("services", service("a", spec(3))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (500, "InternalError"));
    assert!(refused.message.ends_with("failed to allocate a nodePort: range is full"), "{}", refused.message);
    world.create("services", service("a", spec(2))).await.unwrap();
}

#[tokio::test]
async fn a_service_gets_what_upstream_gives_it() {
    let world = World::new().await;
    let made = world.create("services", service("a", web())).await.unwrap();
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10.96."), "{address}");
    let expected = json!({
        "clusterIP": address, "clusterIPs": [address], "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "selector": {"app": "a"}, "sessionAffinity": "None", "type": "ClusterIP",
    });
    assert_eq!(made["spec"], expected);
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let row = world.row("services", "a").await;
    assert_eq!(
        (&row["Type"], &row["External-IP"], &row["Port(s)"]),
        (&json!("ClusterIP"), &json!("<none>"), &json!("80/TCP"))
    );
    assert_eq!((&row["Cluster-IP"], &row["Selector"]), (&json!(address), &json!("app=a")));
}

#[tokio::test]
async fn concurrent_services_share_nothing() {
    // Few addresses and ports, so that choices collide all the time.
    let tight = Options { service_cidr: "10.96.0.0/26".into(), node_ports: (30000, 30049), ..options() };
    let world = Arc::new(World::with(tight).await);
    let all = (0..40).map(|index| {
        let world = world.clone();
        tokio::spawn(async move {
            let spec = json!({"type": "NodePort", "ports": [{"port": 80}]});
            world.create("services", service(&format!("s{index}"), spec)).await.unwrap()
        })
    });
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for made in all.collect::<Vec<_>>() {
        let made = made.await.unwrap();
        assert!(addresses.insert(made["spec"]["clusterIP"].to_string()));
        assert!(ports.insert(made["spec"]["ports"][0]["nodePort"].to_string()));
    }
}

#[tokio::test]
async fn what_is_given_back_can_be_had_again() {
    let world = World::new().await;
    let mut own = web();
    own["clusterIP"] = json!("10.96.0.53");
    world.create("services", service("dns", own.clone())).await.unwrap();
    let taken = world.create("services", service("other", own.clone())).await.unwrap_err();
    let expected = "Service \"other\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.53\"]: failed to allocate \
                    IP 10.96.0.53: provided IP is already allocated";
    assert_eq!((taken.code, &*taken.message), (422, expected));
    assert!(world.delete("services", "dns").await.unwrap().gone);
    world.create("services", service("other", own)).await.unwrap();
    let mut outside = web();
    outside["clusterIP"] = json!("192.168.0.1");
    let refused = world.create("services", service("out", outside)).await.unwrap_err();
    let why = "failed to allocate IP 192.168.0.1: the provided network does not match the current range";
    assert!(refused.message.ends_with(why), "{}", refused.message);
}

#[tokio::test]
async fn ports_follow_the_type() {
    let world = World::new().await;
    let spec = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let made = world.create("services", service("a", spec.clone())).await.unwrap();
    let again = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]});
    let taken = world.create("services", service("b", again.clone())).await.unwrap_err();
    let expected = "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already \
                    allocated";
    assert_eq!(taken.message, expected);
    // A client that writes back what it knows keeps what was chosen.
    let kept = world
        .update("services", service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})))
        .await
        .unwrap();
    assert_eq!(kept["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], 30080);
    let plain = world
        .merge("services", "a", json!({"spec": {"type": "ClusterIP", "externalTrafficPolicy": null}}))
        .await
        .unwrap();
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none(), "{plain}");
    world.create("services", service("b", again)).await.unwrap();
}

#[tokio::test]
async fn headless_and_external_services_have_no_address() {
    let world = World::new().await;
    let headless = json!({"clusterIP": "None", "selector": {"app": "a"}});
    let made = world.create("services", service("headless", headless)).await.unwrap();
    assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    let made = world.create("services", service("external", external)).await.unwrap();
    assert!(made["spec"].get("clusterIP").is_none());
    assert_eq!(world.row("services", "external").await["External-IP"], "example.com");
    let pending = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    world.create("services", service("balanced", pending)).await.unwrap();
    assert_eq!(world.row("services", "balanced").await["External-IP"], "<pending>");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new().await;
    let check = async |spec: Value, expected: &str| {
        let refused = world.create("services", service("x", spec)).await.unwrap_err();
        assert_eq!(refused.message, format!("Service \"x\" is invalid: {expected}"));
    };
    check(json!({"selector": {"a": "b"}}), "spec.ports: Required value").await;
    let two = json!({"ports": [{"port": 80, "name": "a"}, {"port": 81}]});
    check(two, "spec.ports[1].name: Required value").await;
    let port = json!({"ports": [{"port": 0}]});
    let twice = "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: \
                 Invalid value: 0: must be between 1 and 65535, inclusive]";
    check(port, twice).await;
    let kind = json!({"type": "Odd", "ports": [{"port": 80}]});
    let words = "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \
                 \"LoadBalancer\", \"NodePort\"";
    check(kind, words).await;
    let node = json!({"ports": [{"port": 80, "nodePort": 30000}]});
    check(node, "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'").await;
}

#[tokio::test]
async fn a_balanced_service_takes_and_gives_back_what_its_type_has() {
    let world = World::new().await;
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/lb",
        "ports": [{"port": 80}],
    });
    let made = world.create("services", service("a", spec)).await.unwrap();
    let health = made["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&health) && made["spec"]["ports"][0]["nodePort"] != health, "{made}");
    let other = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": health}]});
    let taken = world.create("services", service("b", other.clone())).await.unwrap_err();
    assert!(taken.message.ends_with("provided port is already allocated"), "{}", taken.message);
    let class = json!({"spec": {"loadBalancerClass": "example.com/other"}});
    let refused = world.merge("services", "a", class).await.unwrap_err();
    assert!(refused.message.contains("spec.loadBalancerClass: Invalid value"), "{}", refused.message);
    // Only the type is changed: what went with it goes.
    let plain = world.merge("services", "a", json!({"spec": {"type": "ClusterIP"}})).await.unwrap();
    let went = [
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "loadBalancerClass",
    ];
    for field in went {
        assert!(plain["spec"].get(field).is_none(), "{field} in {plain}");
    }
    world.create("services", service("b", other)).await.unwrap();
}

#[tokio::test]
async fn what_does_not_go_together_is_named() {
    let world = World::new().await;
    let check = async |mut spec: Value, expected: &str| {
        spec["ports"] = json!([{"port": 80}]);
        let refused = world.create("services", service("x", spec)).await.unwrap_err();
        assert_eq!(refused.message, format!("Service \"x\" is invalid: {expected}"));
    };
    let local = json!({"externalTrafficPolicy": "Local"});
    let why = "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services";
    check(local, why).await;
    let health = json!({"type": "NodePort", "healthCheckNodePort": 30001});
    let why = "spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and \
               `externalTrafficPolicy` is 'Local'";
    check(health, why).await;
    let ranges = json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]});
    let why = "spec.loadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'";
    check(ranges, why).await;
    let ranges = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0"]});
    let why = "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, \
               (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    check(ranges, why).await;
    let day = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}});
    let why = "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and \
               less than 86400";
    check(day, why).await;
    let near = json!({"trafficDistribution": "Near"});
    let why = "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \
               \"PreferSameZone\", \"PreferSameNode\"";
    check(near, why).await;
    let loopback = json!({"externalIPs": ["127.0.0.1"]});
    let why = "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)";
    check(loopback, why).await;
    let made = world
        .create("services", service("y", json!({"externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]})));
    assert_eq!(made.await.unwrap()["spec"]["externalTrafficPolicy"], "Cluster");
}
