//! Ranges of Services as objects, with the real kubectl.

use harness::eventually;
use serde_json::Value;

use crate::start;

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}, ports: [{{port: 80}}]}}\n"
    )
}

#[test]
fn ranges_are_added_and_go_when_nobody_needs_them() {
    let plane = start(&["--disable", "node,edge"]);
    let ready = |name: &str, status: &str| {
        let object = plane.get(&["servicecidr", name]);
        let conditions = object["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready")?;
        (ready["status"] == status).then_some(ready)
    };
    eventually("the default range is ready", || ready("kubernetes", "True"));
    let addresses = plane.kubectl_ok(&["get", "ipaddresses", "-o", "name"]);
    let api =
        plane.get(&["service", "kubernetes"])["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert!(addresses.contains(&format!("ipaddress.networking.k8s.io/{api}\n")), "{addresses}");

    let outside = plane.kubectl_with(&["create", "-f", "-"], &service("far", "10.123.0.7"));
    let why = "failed to allocate IP 10.123.0.7: the provided network does not match the current range";
    assert!(outside.err.contains(why), "{outside:?}");
    plane.apply(
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.123.0.0/24]}\n",
    );
    eventually("the new range is ready", || ready("more", "True"));
    plane.apply(&service("far", "10.123.0.7"));
    let parent = plane.get(&["ipaddress", "10.123.0.7"])["spec"]["parentRef"].clone();
    assert_eq!(parent["name"], "far");

    plane.kubectl_ok(&["delete", "servicecidr", "more", "--wait=false"]);
    let held: Value = eventually("it is held", || ready("more", "False"));
    assert_eq!(held["reason"], "Terminating");
    plane.kubectl_ok(&["delete", "service", "far"]);
    assert!(!plane.kubectl(&["get", "ipaddress", "10.123.0.7"]).ok);
    plane.kubectl_ok(&["wait", "--for=delete", "servicecidr/more", "--timeout=60s"]);
}
