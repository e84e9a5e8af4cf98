//! Services as people describe them: whom they lead to, from where, and by which names.

use std::collections::BTreeSet;

use harness::{Plane, eventually, send};
use serde_json::{Value, json};

use crate::containers::{IMAGE, output, plane_with_image, pod};

/// Three pods that say their names.
fn herd(plane: &Plane) {
    let serve = "mkdir -p /www; hostname > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www";
    plane.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 3\n  \
         selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 1\n      containers:\n      - name: web\n        image: '{IMAGE}'\n        \
         imagePullPolicy: Never\n        ports: [{{name: http, containerPort: 8080}}]\n        \
         command: [/bin/busybox, sh, -c, '{serve}']\n        readinessProbe: {{httpGet: {{port: http}}, periodSeconds: 1}}\n"
    ));
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: web}}\n  \
         ports: [{{name: http, port: 80, targetPort: http}}]\n{spec}"
    )
}

fn address(plane: &Plane, service: &str) -> String {
    plane.get(&["service", service])["spec"]["clusterIP"].as_str().expect("an address").to_owned()
}

fn ask(url: &str) -> Option<String> {
    send(url, "web", "GET", "/", &[], "").filter(|answer| answer.status == 200).map(|answer| answer.body)
}

#[test]
fn a_client_stays_with_its_pod_while_the_service_says_so() {
    let Some(plane) = plane_with_image() else { return };
    herd(&plane);
    plane.apply(&service("sticky", "  sessionAffinity: ClientIP\n"));
    let url = format!("http://{}:80", address(&plane, "sticky"));
    eventually("it answers", || ask(&url));
    let whom = || (0..30).filter_map(|_| ask(&url)).collect::<BTreeSet<_>>();
    assert_eq!(whom().len(), 1);
    let patch = r#"{"spec":{"sessionAffinity":"None","sessionAffinityConfig":null}}"#;
    plane.kubectl_ok(&["patch", "service", "sticky", "--patch", patch]);
    eventually("all are led to", || (whom().len() == 3).then_some(()));
}

#[test]
fn a_port_of_the_node_leads_to_all_pods_and_is_kept() {
    let Some(plane) = plane_with_image() else { return };
    herd(&plane);
    plane.apply(&service("outside", "  type: NodePort\n"));
    let port = |name: &str| plane.get(&["service", name])["spec"]["ports"][0]["nodePort"].clone();
    let number = port("outside").as_u64().expect("a port");
    assert!((30000..32768).contains(&number), "{number}");
    // The pods' gateway is an address of the machine.
    let pods = plane.get(&["pods", "-l", "app=web"]);
    let (network, _) =
        pods["items"][0]["status"]["podIP"].as_str().and_then(|ip| ip.rsplit_once('.')).expect("one");
    let node = format!("{network}.1");
    let url = format!("http://{node}:{number}");
    eventually("it answers", || ask(&url));
    eventually("by all pods", || {
        let seen: BTreeSet<String> = (0..30).filter_map(|_| ask(&url)).collect();
        (seen.len() == 3).then_some(())
    });
    let twice = service("twice", "  type: NodePort\n")
        .replace("targetPort: http", &format!("targetPort: http, nodePort: {number}"));
    let refused = plane.kubectl_with(&["apply", "-f", "-"], &twice);
    assert!(!refused.ok && refused.err.contains("provided port is already allocated"), "{refused:?}");
    plane.kubectl_ok(&["patch", "service", "outside", "--patch", r#"{"spec":{"type":"ClusterIP"}}"#]);
    assert!(port("outside").is_null());
    eventually("the port is closed", || ask(&url).is_none().then_some(()));
}

#[test]
fn names_lead_to_pods_where_there_is_no_address() {
    let Some(plane) = plane_with_image() else { return };
    herd(&plane);
    plane.apply(&service("each", "  clusterIP: None\n"));
    plane.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: away}\nspec: {type: ExternalName, externalName: web.house.test}\n",
    );
    let addresses = || {
        let pods = plane.get(&["pods", "-l", "app=web"]);
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter_map(|pod| Some(pod["status"]["podIP"].as_str()?.to_owned()))
            .collect::<BTreeSet<_>>()
    };
    let look = "nslookup each.default.svc.cluster.local; nslookup -type=srv _http._tcp.each.default.svc.cluster.local; \
                nslookup -type=cname away.default.svc.cluster.local";
    plane.apply(&pod("client", look, "  restartPolicy: Never\n"));
    let said = output(&plane, "client");
    for address in addresses() {
        assert!(said.contains(&format!("Address: {address}")), "{address} in {said}");
    }
    assert_eq!(said.matches(" 8080 ").count(), 3, "{said}");
    assert!(said.contains("web.house.test"), "{said}");
}

#[test]
fn a_service_of_this_node_only_leads_nowhere_else() {
    let Some(plane) = plane_with_image() else { return };
    herd(&plane);
    plane.apply(&service("near", "  internalTrafficPolicy: Local\n"));
    // An endpoint that somebody else's node would have.
    plane.apply(&service("far", "  internalTrafficPolicy: Local\n").replace("  selector: {app: web}\n", ""));
    plane.apply(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: far-1\n  \
         labels: {kubernetes.io/service-name: far}\naddressType: IPv4\nports: [{name: http, port: 8080}]\n\
         endpoints: [{addresses: [192.0.2.1], nodeName: elsewhere, conditions: {ready: true}}]\n",
    );
    eventually("it answers", || ask(&format!("http://{}:80", address(&plane, "near"))));
    // What has no endpoint here is dropped, as upstream does, and not sent over.
    let far = format!("{}:80", address(&plane, "far")).parse().expect("an address");
    let tried = std::net::TcpStream::connect_timeout(&far, std::time::Duration::from_millis(500));
    assert!(tried.is_err(), "{tried:?}");
}

#[test]
fn endpoints_follow_the_zones_of_the_nodes() {
    let Some(plane) = plane_with_image() else { return };
    herd(&plane);
    plane.kubectl_ok(&["scale", "deployment", "web", "--replicas=4"]);
    plane.kubectl_ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    plane.kubectl_ok(&["label", "node", "test-node", "topology.kubernetes.io/zone=here"]);
    plane.apply(&service("zoned", ""));
    let url = format!("http://{}:80", address(&plane, "zoned"));
    let whom = || (0..40).filter_map(|_| ask(&url)).collect::<BTreeSet<_>>();
    eventually("all are led to", || (whom().len() == 4).then_some(()));

    // Another node, as large, in another zone. It is none but in the API, and takes no pods.
    plane.apply(
        "apiVersion: v1\nkind: Node\nmetadata: {name: far, labels: {topology.kubernetes.io/zone: there}}\nspec: {unschedulable: true}\n",
    );
    let cpu = plane.get(&["node", "test-node"])["status"]["allocatable"]["cpu"].clone();
    let status = json!({"status": {
        "allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let patch = ["patch", "node", "far", "--subresource=status", "--type=merge", "-p"];
    plane.kubectl_ok(&[&patch[..], &[&status.to_string()]].concat());
    plane.kubectl_ok(&["annotate", "service", "zoned", "service.kubernetes.io/topology-mode=Auto"]);
    let meant = || {
        let slices = plane.get(&["endpointslices", "-l", "kubernetes.io/service-name=zoned"]);
        let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        let zone = |one: &Value| one["hints"]["forZones"][0]["name"].as_str().map(str::to_owned);
        let mut zones: Vec<String> = endpoints.iter().filter_map(zone).collect();
        zones.sort();
        zones
    };
    let halves = ["here", "here", "there", "there"];
    eventually("half of them are meant for each", || (meant() == halves).then_some(()));
    eventually("half of them are led to from here", || (whom().len() == 2).then_some(()));

    plane.kubectl_ok(&["delete", "node", "far"]);
    eventually("they are meant for anybody", || meant().is_empty().then_some(()));
    eventually("all are led to again", || (whom().len() == 4).then_some(()));
    let events = plane.kubectl_ok(&["get", "events", "-o", "custom-columns=R:.reason,M:.message"]);
    assert!(
        events.contains("TopologyAwareHintsEnabled") && events.contains("TopologyAwareHintsDisabled"),
        "{events}"
    );
}
