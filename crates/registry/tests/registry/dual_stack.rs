//! Services of one family and of two: what upstream gives them on clusters of one family and of two.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use registry::Options;
use serde_json::{Value, json};

use crate::world::{World, options};

fn service(name: &str, mut spec: Value) -> Value {
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn dual() -> World {
    World::with(Options { service_cidr: "10.96.0.0/16,fd00:96::/112".into(), ..options() }).await
}

/// Policy, families, and the families of the addresses.
fn facts(made: &Value) -> (String, String, String) {
    let spec = &made["spec"];
    let addresses = spec["clusterIPs"].as_array().cloned().unwrap_or_default();
    assert_eq!(spec["clusterIP"], addresses.first().cloned().unwrap_or_default(), "{made}");
    let family = |address: &Value| match address.as_str().unwrap() {
        "None" => "-",
        address if address.starts_with("10.96.") => "4",
        address if address.starts_with("fd00:96::") => "6",
        other => panic!("{other}"),
    };
    let families: Vec<&str> =
        spec["ipFamilies"].as_array().unwrap().iter().map(|f| &f.as_str().unwrap()[3..]).collect();
    let policy = spec["ipFamilyPolicy"].as_str().unwrap().trim_end_matches("Stack");
    (policy.to_owned(), families.concat(), addresses.iter().map(family).collect())
}

fn expected(text: &str) -> (String, String, String) {
    let mut words = text.split(' ').map(str::to_owned);
    let mut next = || words.next().unwrap();
    (next(), next(), next())
}

#[tokio::test]
async fn families_and_policies_are_inferred() {
    let (single, dual) = (World::new().await, dual().await);
    let selector = json!({"app": "a"});
    for (number, (spec, on_single, on_dual)) in [
        (json!({}), "Single 4 4", "Single 4 4"),
        (json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDual 4 4", "PreferDual 46 46"),
        (json!({"ipFamilyPolicy": "RequireDualStack"}), "", "RequireDual 46 46"),
        (json!({"ipFamilies": ["IPv6"]}), "", "Single 6 6"),
        (
            json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
            "",
            "PreferDual 64 64",
        ),
        (json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack"}), "", "RequireDual 64 64"),
        (json!({"clusterIP": "fd00:96::700"}), "", "Single 6 6"),
        (json!({"clusterIP": "10.96.7.7", "ipFamilyPolicy": "PreferDualStack"}), "PreferDual 4 4", "PreferDual 46 46"),
        (
            json!({"clusterIP": "fd00:96::701", "clusterIPs": ["fd00:96::701", "10.96.7.8"], "ipFamilyPolicy": "RequireDualStack"}),
            "",
            "RequireDual 64 64",
        ),
        // Headless: addresses are its endpoints'. Without a selector whoever writes them may choose.
        (json!({"clusterIP": "None", "selector": selector}), "Single 4 -", "Single 4 -"),
        (
            json!({"clusterIP": "None", "selector": selector, "ipFamilyPolicy": "PreferDualStack"}),
            "PreferDual 4 -",
            "PreferDual 46 -",
        ),
        (json!({"clusterIP": "None"}), "RequireDual 46 -", "RequireDual 46 -"),
        (json!({"clusterIP": "None", "ipFamilies": ["IPv6"]}), "RequireDual 64 -", "RequireDual 64 -"),
        (json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}), "Single 4 -", "Single 4 -"),
    ]
    .into_iter()
    .enumerate()
    {
        for (world, wanted) in [(&single, on_single), (&dual, on_dual)] {
            let made = world.create("services", service(&format!("s{number}"), spec.clone())).await;
            match wanted {
                "" => assert_eq!(made.expect_err(&spec.to_string()).code, 422),
                wanted => assert_eq!(facts(&made.unwrap()), expected(wanted), "{spec}"),
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_upstreams_words() {
    let check = async |world: &World, spec: Value, why: &str| {
        let refused = world.create("services", service("x", spec)).await.unwrap_err();
        assert_eq!(refused.message, format!("Service \"x\" is invalid: {why}"));
    };
    let single = World::new().await;
    let why = "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
    check(&single, json!({"ipFamilyPolicy": "RequireDualStack"}), why).await;
    let why = "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster";
    check(&single, json!({"ipFamilies": ["IPv6"]}), why).await;
    let why = "spec.clusterIPs[0]: Invalid value: [\"fd00:96::7\"]: IPv6 is not configured on this cluster";
    check(&single, json!({"clusterIP": "fd00:96::7"}), why).await;

    let dual = dual().await;
    let why = "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
               multiple IP families are specified";
    check(&dual, json!({"ipFamilies": ["IPv4", "IPv6"]}), why).await;
    let why = "[spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\", \
               spec.ipFamilyPolicy: Unsupported value: \"Dual\": supported values: \"PreferDualStack\", \
               \"RequireDualStack\", \"SingleStack\"]";
    check(&dual, json!({"ipFamilies": ["IPv5"], "ipFamilyPolicy": "Dual"}), why).await;
    let why = "spec.ipFamilies[1]: Duplicate value: \"IPv4\"";
    check(&dual, json!({"ipFamilies": ["IPv4", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}), why).await;
    let why = "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`";
    check(&dual, json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]}), why).await;
    let why =
        "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: must be empty when `clusterIP` is not specified";
    check(&dual, json!({"clusterIPs": ["10.96.0.9"]}), why).await;
    let two = json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "10.96.0.8"], "ipFamilyPolicy": "PreferDualStack"});
    let why = "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.8\"]: may specify no more than one IP for each IP family";
    check(&dual, two, why).await;
    let why = "spec.clusterIPs: Invalid value: [\"fd00:97::1\"]: failed to allocate IP fd00:97::1: the provided \
               network does not match the current range";
    check(&dual, json!({"clusterIP": "fd00:97::1"}), why).await;
    let external =
        json!({"type": "ExternalName", "externalName": "example.com", "ipFamilyPolicy": "SingleStack"});
    let why = "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services";
    check(&dual, external, why).await;
}

#[tokio::test]
async fn a_service_goes_up_to_two_families_and_back() {
    let world = dual().await;
    let spec = |more: Value| json!({"spec": more});
    let made = world.create("services", service("a", json!({}))).await.unwrap();
    let up = world.merge("services", "a", spec(json!({"ipFamilyPolicy": "PreferDualStack"}))).await.unwrap();
    assert_eq!(facts(&up), expected("PreferDual 46 46"));
    assert_eq!(up["spec"]["clusterIPs"][0], made["spec"]["clusterIP"]);
    let second = up["spec"]["clusterIPs"][1].clone();
    // A client that knows nothing of it changes nothing.
    let kept = world.update("services", service("a", json!({"selector": {"a": "b"}}))).await.unwrap();
    assert_eq!(kept["spec"]["clusterIPs"], up["spec"]["clusterIPs"]);

    let less = spec(json!({"ipFamilies": ["IPv4"]}));
    let refused = world.merge("services", "a", less).await.unwrap_err();
    let why = "Service \"a\" is invalid: spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to \
               release the secondary IP family";
    assert_eq!(refused.message, why);
    let other = spec(json!({"ipFamilies": ["IPv6", "IPv4"]}));
    assert!(world.merge("services", "a", other).await.unwrap_err().message.contains("spec.clusterIPs[0]"));
    let turned = spec(json!({"clusterIPs": [made["spec"]["clusterIP"], "fd00:96::7"]}));
    let refused = world.merge("services", "a", turned).await.unwrap_err();
    assert!(
        refused.message.contains("spec.clusterIPs[1]") && refused.message.contains("may not change once set")
    );

    // What is held is nobody else's, however it is written; what is given back can be had again.
    let written = second.as_str().unwrap().to_uppercase();
    let twin = service("b", json!({"clusterIP": written}));
    let taken = world.create("services", twin.clone()).await.unwrap_err();
    assert!(taken.message.ends_with("provided IP is already allocated"), "{}", taken.message);
    let down = world.merge("services", "a", spec(json!({"ipFamilyPolicy": "SingleStack"}))).await.unwrap();
    assert_eq!(facts(&down), expected("Single 4 4"));
    assert_eq!(down["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    world.create("services", twin).await.unwrap();

    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    world.merge("services", "a", spec(json!({"ipFamilyPolicy": "RequireDualStack"}))).await.unwrap();
    let gone = world.merge("services", "a", spec(external)).await.unwrap();
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert!(gone["spec"].get(field).is_none(), "{field} in {gone}");
    }
    let back = world.merge("services", "a", spec(json!({"type": "ClusterIP"}))).await.unwrap();
    assert_eq!(facts(&back), expected("Single 4 4"));
}

#[tokio::test]
async fn no_two_services_share_an_address_of_either_family() {
    // Few addresses, so that choices collide all the time.
    let tight = Options { service_cidr: "10.96.0.0/26,fd00:96::/122".into(), ..options() };
    let world = Arc::new(World::with(tight).await);
    let all = (0..40).map(|number| {
        let world = world.clone();
        tokio::spawn(async move {
            let spec = json!({"ipFamilyPolicy": "RequireDualStack"});
            world.create("services", service(&format!("s{number}"), spec)).await.unwrap()
        })
    });
    let mut seen = BTreeSet::new();
    for made in all.collect::<Vec<_>>() {
        let made = made.await.unwrap();
        assert_eq!(facts(&made), expected("RequireDual 46 46"));
        for address in made["spec"]["clusterIPs"].as_array().unwrap() {
            assert!(seen.insert(address.to_string()), "{address}");
        }
    }
}

#[tokio::test]
async fn a_node_has_at_most_one_range_a_family() {
    let world = World::new().await;
    let node = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let both = json!({"podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]});
    let made = world.create("nodes", node("a", both)).await.unwrap();
    assert_eq!(made["spec"]["podCIDR"], "10.1.0.0/24");
    let old = world.create("nodes", node("b", json!({"podCIDR": "10.2.0.0/24"}))).await.unwrap();
    assert_eq!(old["spec"]["podCIDRs"], json!(["10.2.0.0/24"]));
    for (ranges, why) in [
        (json!(["10.1.0.0/24", "10.2.0.0/24"]), "may specify no more than one CIDR for each IP family"),
        (json!(["10.1.0.0/24", "x"]), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
    ] {
        let refused = world.create("nodes", node("c", json!({"podCIDRs": ranges}))).await.unwrap_err();
        assert!(refused.message.contains(why), "{}", refused.message);
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Put(u8, Value),
    Merge(u8, Value),
    Delete(u8),
}

fn spec() -> impl Strategy<Value = Value> {
    let address = |number: u8| {
        if number.is_multiple_of(2) { format!("10.96.0.{number}") } else { format!("fd00:96::{number:x}") }
    };
    let addresses = prop_oneof![
        4 => Just(vec![]),
        1 => Just(vec!["None".to_owned()]),
        3 => prop::collection::vec((0..16_u8).prop_map(address), 1..3),
    ];
    let policy = prop::sample::select(vec!["", "", "SingleStack", "PreferDualStack", "RequireDualStack"]);
    let family = prop::sample::select(vec!["IPv4", "IPv6"]);
    let fields = (addresses, policy, prop::collection::vec(family, 0..3), any::<bool>(), 0..8_u8);
    fields.prop_map(|(addresses, policy, families, selects, kind)| {
        let mut spec = json!({"ports": [{"port": 80}]});
        if kind == 0 {
            spec["type"] = json!("ExternalName");
            spec["externalName"] = json!("example.com");
        } else if kind > 5 {
            spec["type"] = json!("ClusterIP");
        }
        if let Some(first) = addresses.first() {
            spec["clusterIP"] = json!(first);
            spec["clusterIPs"] = json!(addresses);
        }
        if !policy.is_empty() {
            spec["ipFamilyPolicy"] = json!(policy);
        }
        if !families.is_empty() {
            spec["ipFamilies"] = json!(families);
        }
        if selects {
            spec["selector"] = json!({"app": "a"});
        }
        spec
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (0..4_u8, spec()).prop_map(|(name, spec)| Operation::Put(name, spec)),
        3 => (0..4_u8, spec()).prop_map(|(name, spec)| Operation::Merge(name, spec)),
        1 => (0..4_u8).prop_map(Operation::Delete),
    ]
}

/// What holds of every service that is stored.
fn holds(service: &Value) {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        let fields = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
        assert!(fields.iter().all(|field| spec.get(*field).is_none()), "{service}");
        return;
    }
    let (policy, families, addresses) = facts_of(spec);
    let count = if policy == "SingleStack" { 1 } else { 2 };
    assert_eq!(families.len(), count, "{service}");
    assert_eq!(spec["clusterIP"], addresses[0], "{service}");
    if addresses != ["None"] {
        let of = |address: &String| if address.contains(':') { "IPv6" } else { "IPv4" };
        assert_eq!(addresses.iter().map(of).collect::<Vec<_>>(), families, "{service}");
    }
}

fn facts_of(spec: &Value) -> (String, Vec<String>, Vec<String>) {
    let list = |field: &str| -> Vec<String> {
        spec[field].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    (spec["ipFamilyPolicy"].as_str().unwrap().to_owned(), list("ipFamilies"), list("clusterIPs"))
}

async fn what_holds_after(operations: Vec<Operation>) {
    let options = Options { service_cidr: "10.96.0.0/28,fd00:96::/124".into(), ..options() };
    let world = World::with(options).await;
    for operation in operations {
        // Whether it is refused or not, what is stored afterwards is right.
        let _ = match operation {
            Operation::Put(name, spec) => world
                .update("services", json!({"metadata": {"name": format!("s{name}")}, "spec": spec}))
                .await
                .map(drop),
            Operation::Merge(name, spec) => {
                world.merge("services", &format!("s{name}"), json!({"spec": spec})).await.map(drop)
            }
            Operation::Delete(name) => world.delete("services", &format!("s{name}")).await.map(drop),
        };
        for name in 0..4 {
            if let Ok(service) = world.get("services", &format!("s{name}")).await {
                holds(&service);
            }
        }
    }
    // Every address is somebody's or free.
    let mut held = BTreeSet::new();
    for name in 0..4 {
        let Ok(service) = world.get("services", &format!("s{name}")).await else { continue };
        for address in service["spec"]["clusterIPs"].as_array().into_iter().flatten() {
            assert!(
                address == "None" || held.insert(address.as_str().unwrap().to_owned()),
                "{address} twice"
            );
        }
    }
    let all = (1..15).flat_map(|n| [format!("10.96.0.{n}"), format!("fd00:96::{n:x}")]);
    for address in all {
        let name = format!("x{}", address.replace(['.', ':'], "-"));
        let taken = world.create("services", service(&name, json!({"clusterIP": address}))).await.is_err();
        assert_eq!(taken, held.contains(&address), "{address}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_written_families_agree_and_no_address_is_lost(operations in prop::collection::vec(operation(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(what_holds_after(operations));
    }
}
