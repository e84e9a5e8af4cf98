use serde_json::{Value, json};

use super::super::policy::{Level, Standard, Version};
use super::*;

fn standard(level: Level, version: Version) -> Standard {
    Standard { level, version }
}

fn violations(level: Level, version: Version, pod: &Value) -> String {
    of(&standard(level, version), &Pod::new(pod)).to_string()
}

fn latest(level: Level, pod: &Value) -> String {
    violations(level, Version::Latest, pod)
}

/// A pod of one container, whose security context and the rest of whose spec are these.
fn pod(security: Value, spec: Value) -> Value {
    let mut pod =
        json!({ "metadata": {}, "spec": { "containers": [{ "name": "c", "securityContext": security }] } });
    for (name, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][name] = value.clone();
    }
    pod
}

fn fine() -> Value {
    json!({ "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" } })
}

#[test]
fn a_plain_pod_meets_the_baseline_and_is_told_what_it_lacks_to_be_restricted() {
    let plain = json!({ "spec": { "containers": [{ "name": "a" }], "initContainers": [{ "name": "b" }] } });
    assert_eq!(latest(Level::Baseline, &plain), "");
    assert_eq!(
        latest(Level::Restricted, &plain),
        "allowPrivilegeEscalation != false (containers \"b\", \"a\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"b\", \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"b\", \"a\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"b\", \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(latest(Level::Restricted, &pod(fine(), json!({}))), "");
    assert_eq!(latest(Level::Privileged, &pod(json!({ "privileged": true }), json!({}))), "");
}

#[test]
fn what_a_container_asks_for_is_named() {
    let cases = [
        (
            json!({ "privileged": true }),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            json!({ "capabilities": { "add": ["SYS_ADMIN", "CHOWN", "BPF"] } }),
            "non-default capabilities (container \"c\" must not include \"BPF\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({ "procMount": "Unmasked" }),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({ "seccompProfile": { "type": "Unconfined" } }),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({ "seLinuxOptions": { "type": "spc_t", "user": "u" } }),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            json!({ "appArmorProfile": { "type": "Unconfined" } }),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({ "windowsOptions": { "hostProcess": true } }),
            "hostProcess (container \"c\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (security, expected) in cases {
        assert_eq!(latest(Level::Baseline, &pod(security, json!({}))), expected);
    }
}

#[test]
fn what_a_pod_asks_for_is_named() {
    let cases = [
        (
            json!({ "hostNetwork": true, "hostIPC": true, "hostPID": false }),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (
            json!({ "volumes": [{ "name": "a", "hostPath": { "path": "/" } }, { "name": "b", "emptyDir": {} }] }),
            "hostPath volumes (volume \"a\")",
        ),
        (
            json!({ "containers": [{ "name": "c", "ports": [{ "hostPort": 90 }, { "hostPort": 80 }] }, { "name": "d", "ports": [{ "hostPort": 80 }] }] }),
            "hostPort (containers \"c\", \"d\" use hostPorts 80, 90)",
        ),
        (
            json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax" }, { "name": "net.ipv4.tcp_rmem" }] } }),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({ "containers": [{ "name": "c", "livenessProbe": { "httpGet": { "host": "10.0.0.1" } } }] }),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(latest(Level::Baseline, &pod(json!({}), spec)), expected);
    }
    let volumes = json!({ "volumes": [{ "name": "a", "nfs": {} }, { "name": "b", "image": {} }, { "name": "c", "hostPath": {} }] });
    assert_eq!(
        latest(Level::Restricted, &pod(fine(), volumes)),
        "restricted volume types (volumes \"a\", \"c\" use restricted volume types \"hostPath\", \"nfs\")"
    );
    assert_eq!(
        latest(
            Level::Restricted,
            &pod(fine(), json!({ "securityContext": { "runAsUser": 0, "runAsNonRoot": false } }))
        ),
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)"
    );
}

#[test]
fn a_release_checks_what_it_checked_then() {
    let since = |spec: Value, level, first: u32| {
        let pod = pod(if level == Level::Restricted { fine() } else { json!({}) }, spec);
        let checks = |minor| !violations(level, Version::Minor(minor), &pod).is_empty();
        assert!(checks(first) && checks(first + 1) && (first == 0 || !checks(first - 1)), "{first}");
    };
    since(
        json!({ "containers": [{ "name": "c", "livenessProbe": { "tcpSocket": { "host": "h" } } }] }),
        Level::Baseline,
        34,
    );
    since(json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }), Level::Baseline, 19);
    since(json!({ "securityContext": { "runAsUser": 0 } }), Level::Restricted, 23);
    // What came to be fine.
    let rmem = pod(json!({}), json!({ "securityContext": { "sysctls": [{ "name": "net.ipv4.tcp_rmem" }] } }));
    assert_eq!(
        violations(Level::Baseline, Version::Minor(31), &rmem),
        "forbidden sysctls (net.ipv4.tcp_rmem)"
    );
    assert_eq!(violations(Level::Baseline, Version::Minor(32), &rmem), "");
    let unmasked = pod(json!({ "procMount": "Unmasked" }), json!({ "hostUsers": false }));
    assert!(!violations(Level::Baseline, Version::Minor(34), &unmasked).is_empty());
    assert_eq!(latest(Level::Baseline, &unmasked), "");
    assert!(latest(Level::Restricted, &unmasked).contains("procMount"));
    let windows = pod(json!({ "runAsNonRoot": true }), json!({ "os": { "name": "windows" } }));
    assert_eq!(violations(Level::Restricted, Version::Minor(25), &windows), "");
    assert!(violations(Level::Restricted, Version::Minor(24), &windows).contains("allowPrivilegeEscalation"));
    // Before the restricted level said more, what the baseline says held there, too.
    let added = pod(
        json!({ "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": { "add": ["BPF"] } }),
        json!({}),
    );
    assert!(
        violations(Level::Restricted, Version::Minor(18), &added).starts_with("non-default capabilities")
    );
    assert!(
        violations(Level::Restricted, Version::Minor(22), &added).starts_with("unrestricted capabilities")
    );
}
