//! Ports of the node, and endpoints that leave.

use harness::{eventually, send};

use crate::containers::{plane_with_image, pod};

#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    let Some(plane) = plane_with_image() else { return };
    let script = "mkdir -p /www; hostname > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www";
    let free = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let ports = format!("    ports:\n    - {{containerPort: 8080, hostPort: {port}}}\n");
    plane.apply(&pod("web", script, &ports));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    // The pods' gateway is an address of the machine.
    let address = plane.get(&["pod", "web"])["status"]["podIP"].as_str().expect("an address").to_owned();
    let mut octets: Vec<&str> = address.split('.').collect();
    octets.pop();
    let url = format!("http://{}.1:{port}", octets.join("."));
    let ask = || send(&url, "web", "GET", "/index.html", &[], "").map(|answer| answer.body);
    assert_eq!(eventually("it answers", ask).trim(), "web");
    plane.kubectl_ok(&["delete", "pod", "web", "--timeout=30s"]);
    eventually("nobody has the port", || {
        let to = url.trim_start_matches("http://");
        let refused = std::net::TcpStream::connect(to).err()?;
        (refused.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn an_endpoint_that_is_not_ready_leaves_and_a_service_without_any_refuses() {
    let Some(plane) = plane_with_image() else { return };
    // It is ready for as long as its file is there.
    let script = "mkdir -p /www; echo 1 > /www/ready; (sleep 15; rm /www/ready) & exec /bin/busybox httpd -f -p 8080 -h /www";
    let probe =
        "    readinessProbe: {httpGet: {port: 8080, path: /ready}, periodSeconds: 1, failureThreshold: 1}\n";
    let web = pod("web", script, probe).replacen("{name: web}", "{name: web, labels: {app: web}}", 1);
    plane.apply(&web);
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    plane.kubectl_ok(&["expose", "pod", "web", "--port=80", "--target-port=8080"]);
    let address = plane.get(&["service", "web"])["spec"]["clusterIP"].as_str().expect("one").to_owned();
    let url = format!("http://{address}:80");
    eventually("it answers", || send(&url, "web", "GET", "/", &[], "").map(drop));
    let watching = plane
        .kubectl_command()
        .args(["wait", "--for=condition=Ready=False", "pod/web", "--timeout=60s"])
        .output()
        .expect("kubectl runs");
    assert!(watching.status.success(), "{watching:?}");
    let since = std::time::Instant::now();
    eventually("it is refused", || {
        let refused = std::net::TcpStream::connect((address.as_str(), 80)).err()?;
        (refused.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    });
    eprintln!("from the condition to the refusal: {:?}", since.elapsed());
}
