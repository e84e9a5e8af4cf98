//! NetworkPolicies: who reaches whom, from a pod's first packet on.

use harness::{Plane, eventually, send};

use crate::containers::{plane_with_image, pod};

/// A server on port 8080 that begins to say so on its log once it serves.
const SERVE: &str = "mkdir -p /www; echo hello > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www";

fn labelled(pod: &str, label: &str) -> String {
    pod.replacen("metadata: {name: ", &format!("metadata: {{labels: {{role: {label}}}, name: "), 1)
}

/// A client that says again and again whether it gets through.
fn asks(name: &str, label: &str, address: &str) -> String {
    let ask = format!("wget -q -O /dev/null http://{address}:8080/ 2>/dev/null && echo yes || echo no");
    labelled(&pod(name, &format!("while true; do {ask}; sleep 0.2; done"), ""), label)
}

fn says(plane: &Plane, name: &str, word: &str) {
    eventually(&format!("{name} says {word}"), || {
        (plane.kubectl(&["logs", name, "--tail=1"]).out.trim() == word).then_some(())
    });
}

#[test]
fn policies_isolate_pods_and_follow_labels() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&labelled(&pod("server", SERVE, ""), "server"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/server", "--timeout=60s"]);
    let address = plane.get(&["pod", "server"])["status"]["podIP"].as_str().expect("an address").to_owned();
    plane.apply(&asks("one", "friend", &address));
    plane.apply(&asks("two", "stranger", &address));
    ["one", "two"].iter().for_each(|name| says(&plane, name, "yes"));

    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: friends}\nspec:\n  podSelector: {matchLabels: {role: server}}\n  ingress:\n  - from:\n    - podSelector: {matchLabels: {role: friend}}\n    ports: [{port: 8080}]\n";
    plane.apply(policy);
    says(&plane, "two", "no");
    says(&plane, "one", "yes");
    assert!(plane.kubectl_ok(&["get", "netpol"]).contains("role=server"));
    // Probes come from the machine, and pass.
    let answer = send(&format!("http://{address}:8080"), "server", "GET", "/index.html", &[], "");
    assert_eq!(answer.map(|answer| answer.status), Some(200));

    plane.kubectl_ok(&["label", "pod", "two", "role=friend", "--overwrite"]);
    says(&plane, "two", "yes");
    plane.apply(&policy.replace("8080", "8081"));
    ["one", "two"].iter().for_each(|name| says(&plane, name, "no"));
    plane.kubectl_ok(&["delete", "netpol", "friends"]);
    ["one", "two"].iter().for_each(|name| says(&plane, name, "yes"));

    // What a pod sends first is judged already.
    plane.apply("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: mute}\nspec:\n  podSelector: {matchLabels: {role: mute}}\n  policyTypes: [Egress]\n");
    for name in ["mute-1", "mute-2", "mute-3"] {
        let once = format!("wget -q -O /dev/null http://{address}:8080/ 2>/dev/null && echo yes || echo no");
        plane.apply(&labelled(&pod(name, &once, "  restartPolicy: Never\n"), "mute"));
        plane.kubectl_ok(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            &format!("pod/{name}"),
            "--timeout=60s",
        ]);
        assert_eq!(plane.kubectl_ok(&["logs", name, "--tail=1"]).trim(), "no");
    }
}
