//! Pods and Services with addresses of both families, as clients see them.

use std::net::IpAddr;

use harness::{Plane, eventually, is_root};
use serde_json::{Value, json};

use crate::containers::{pod, with_image};
use crate::{start, start_dual};

/// A server that says its name, on port 8080 of all its addresses.
const SERVE: &str = "mkdir -p /www; echo hello > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www";

fn service(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: web}}\n  ports: [{{port: 80, targetPort: 8080}}]\n{more}"
    )
}

/// Texts of a list.
fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn is_six(address: &str) -> bool {
    address.parse::<IpAddr>().expect("an address").is_ipv6()
}

/// As a URL wants it.
fn bracketed(address: &str) -> String {
    if is_six(address) { format!("[{address}]") } else { address.to_owned() }
}

/// What a pod gets from a place, if it gets through.
fn fetch(plane: &Plane, place: &str) -> Option<String> {
    let url = format!("http://{place}/");
    let said = plane.kubectl(&["exec", "client", "--", "/bin/busybox", "wget", "-q", "-O", "-", &url]);
    said.ok.then_some(said.out)
}

/// What cluster DNS says in a pod of a name.
fn look_up(plane: &Plane, kind: &str, name: &str) -> String {
    let name = format!("{name}.default.svc.cluster.local.");
    plane.kubectl(&["exec", "client", "--", "/bin/busybox", "nslookup", &format!("-type={kind}"), &name]).out
}

fn address_types(plane: &Plane, service: &str) -> Vec<String> {
    let label = format!("kubernetes.io/service-name={service}");
    let slices = plane.get(&["endpointslices", "-l", &label]);
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    let filled = slices.iter().filter(|slice| slice["endpoints"][0]["conditions"]["ready"] == true);
    let mut types: Vec<String> =
        filled.map(|slice| slice["addressType"].as_str().unwrap_or_default().to_owned()).collect();
    types.sort();
    types
}

/// The plane with a server and a client.
fn dual_plane() -> Option<Plane> {
    if !is_root() {
        eprintln!("skipped: containers need root");
        return None;
    }
    let plane = with_image(start_dual(&[]));
    let web = pod("web", SERVE, "").replacen("metadata: {name: ", "metadata: {labels: {app: web}, name: ", 1);
    plane.apply(&web);
    let told = "    env: [{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]\n";
    plane.apply(&pod("client", "echo $IPS; grep -c client /etc/hosts; sleep 1000", told));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s"]);
    Some(plane)
}

#[test]
fn pods_and_services_have_addresses_of_both_families() {
    let Some(plane) = dual_plane() else { return };
    let node = plane.get(&["node", "test-node"]);
    let cidrs = texts(&node["spec"]["podCIDRs"]);
    assert_eq!((cidrs.len(), node["spec"]["podCIDR"].as_str()), (2, cidrs.first().map(String::as_str)));
    assert!(node["status"]["addresses"].to_string().contains("::1"), "{node}");
    let status = |name: &str| plane.get(&["pod", name])["status"].clone();
    let (client, web) = (status("client"), status("web"));
    let ips = |status: &Value, field: &str| -> Vec<String> {
        let all = status[field].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| one["ip"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let own = ips(&client, "podIPs");
    assert_eq!(own.iter().map(|ip| is_six(ip)).collect::<Vec<_>>(), [false, true]);
    assert_eq!(
        (client["podIP"].as_str(), ips(&client, "hostIPs").len()),
        (own.first().map(String::as_str), 2)
    );
    assert_eq!(plane.kubectl_ok(&["logs", "client"]), format!("{}\n2\n", own.join(",")));
    for address in ips(&web, "podIPs") {
        assert_eq!(
            fetch(&plane, &format!("{}:8080", bracketed(&address))).as_deref(),
            Some("hello\n"),
            "{address}"
        );
    }

    plane.apply(&service("web", "  type: NodePort\n  ipFamilyPolicy: PreferDualStack\n"));
    let made = plane.get(&["service", "web"])["spec"].clone();
    assert_eq!(made["ipFamilies"], json!(["IPv4", "IPv6"]));
    let addresses = texts(&made["clusterIPs"]);
    assert_eq!(addresses.iter().map(|ip| is_six(ip)).collect::<Vec<_>>(), [false, true]);
    eventually("both families have slices", || {
        (address_types(&plane, "web") == ["IPv4", "IPv6"]).then_some(())
    });
    // The machine is asked at its own address among the pods.
    let six = cidrs.last().and_then(|cidr| cidr.split('/').next()).expect("a range of IPv6");
    let gateway = format!("{six}1");
    let node_port = format!("[{gateway}]:{}", made["ports"][0]["nodePort"]);
    for place in addresses.iter().map(|address| bracketed(address)).chain([node_port]) {
        eventually(&format!("{place} is reached"), || fetch(&plane, &place).filter(|said| said == "hello\n"));
    }
    let (four, six) = (&addresses[0], &addresses[1]);
    assert!(
        look_up(&plane, "a", "web").contains(four.as_str())
            && look_up(&plane, "aaaa", "web").contains(six.as_str())
    );

    // A Service of one family has a name of that family, and it is no error to ask for the other.
    plane.apply(&service("single", ""));
    eventually("the name is known", || {
        look_up(&plane, "a", "single").contains("Address: 172.").then_some(())
    });
    let none = look_up(&plane, "aaaa", "single");
    assert!(none.contains("Server:") && !none.contains("NXDOMAIN") && !none.contains("fd43:"), "{none}");
    assert!(look_up(&plane, "aaaa", "nobody").contains("NXDOMAIN"));
    assert_eq!(plane.get(&["service", "kubernetes"])["spec"]["ipFamilyPolicy"], "SingleStack");

    let single = r#"{"spec": {"ipFamilyPolicy": "SingleStack"}}"#;
    plane.kubectl_ok(&["patch", "service", "web", "--type=merge", "-p", single]);
    assert_eq!(texts(&plane.get(&["service", "web"])["spec"]["clusterIPs"]), std::slice::from_ref(four));
    eventually("the slice of IPv6 is gone", || (address_types(&plane, "web") == ["IPv4"]).then_some(()));
    eventually("the name of IPv6 is gone", || {
        (!look_up(&plane, "aaaa", "web").contains(six.as_str())).then_some(())
    });
}

#[test]
fn policies_hold_for_both_families() {
    let Some(plane) = dual_plane() else { return };
    let pods = plane.get(&["pod", "web"])["status"]["podIPs"].clone();
    let places: Vec<String> = pods
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{}:8080", bracketed(one["ip"].as_str().unwrap_or_default())))
        .collect();
    assert_eq!(places.len(), 2);
    let reach = |expected: [bool; 2]| {
        eventually(&format!("{places:?} are reached: {expected:?}"), || {
            places.iter().map(|place| fetch(&plane, place).is_some()).eq(expected).then_some(())
        });
    };
    reach([true, true]);
    let client =
        plane.get(&["pod", "client"])["status"]["podIPs"][1]["ip"].as_str().expect("an address").to_owned();
    let policy = |from: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web}}\nspec:\n  podSelector: {{matchLabels: {{app: web}}}}\n  ingress: [{from}]\n"
        )
    };
    plane.apply(&policy(""));
    reach([false, false]);
    plane.apply(&policy(&format!("{{from: [{{ipBlock: {{cidr: \"{client}/128\"}}}}]}}")));
    reach([false, true]);
    plane.apply(&policy("{from: [{podSelector: {}}]}"));
    reach([true, true]);
}

#[test]
fn a_plane_of_one_family_says_so() {
    let plane = start(&["--disable", "node,edge"]);
    let manifest = service("web", "  ipFamilyPolicy: RequireDualStack\n");
    let refused = plane.kubectl_with(&["apply", "-f", "-"], &manifest);
    let why = "The Service \"web\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not \
               configured for dual-stack services";
    assert_eq!((refused.ok, refused.err.trim()), (false, why));
    plane.apply(&manifest.replace("Require", "Prefer"));
    assert_eq!(plane.get(&["service", "web"])["spec"]["ipFamilies"], json!(["IPv4"]));
}
