//! From a pod's first container to its last signal: who starts after whom, what probes and hooks bring about.

use harness::{Plane, eventually};
use serde_json::Value;

use crate::containers::{IMAGE, plane_with_image};

/// A container of the test's image that runs a script.
fn container(name: &str, script: &str, rest: &str) -> String {
    format!(
        "  - name: {name}\n    image: {IMAGE}\n    imagePullPolicy: Never\n    command: [/bin/busybox, sh, -c]\n    \
         args:\n    - |\n      {script}\n{rest}"
    )
}

fn pod(name: &str, spec: &str, init: &str, containers: &str) -> String {
    let init = if init.is_empty() { String::new() } else { format!("  initContainers:\n{init}") };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{spec}{init}  containers:\n{containers}"
    )
}

fn status(plane: &Plane, name: &str) -> Value {
    plane.get(&["pod", name])["status"]["containerStatuses"][0].clone()
}

#[test]
fn containers_start_in_their_order_and_end_in_the_reverse() {
    let Some(plane) = plane_with_image() else { return };
    let shared = tempfile::tempdir().expect("a directory");
    let mounts = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let on_term = |say: &str| {
        format!("trap \"echo {say} >> /v/log; exit 0\" TERM; while true; do sleep 1000 & wait $!; done")
    };
    let init = [
        container("first", "echo first >> /v/log", mounts),
        container(
            "side",
            &format!("echo side >> /v/log; sleep 1; touch /v/up; {}", on_term("side-ended")),
            &format!(
                "{mounts}    restartPolicy: Always\n    startupProbe: {{exec: {{command: [/bin/busybox, test, -f, /v/up]}}, periodSeconds: 1}}\n"
            ),
        ),
        // A sidecar that is not up yet holds up who comes after it.
        container("second", "test -f /v/up && echo second >> /v/log", mounts),
    ];
    let hooks = "    lifecycle:\n      postStart: {exec: {command: [/bin/busybox, sh, -c, \"until grep -q main /v/log; do sleep 0.1; done; echo post >> /v/log\"]}}\n      \
                 preStop: {exec: {command: [/bin/busybox, sh, -c, \"echo pre >> /v/log; sleep 1\"]}}\n";
    let main = container(
        "main",
        &format!("echo main >> /v/log; {}", on_term("main-ended")),
        &format!("{mounts}{hooks}"),
    );
    let spec = format!(
        "  terminationGracePeriodSeconds: 20\n  volumes: [{{name: v, hostPath: {{path: {}}}}}]\n",
        shared.path().display()
    );
    plane.apply(&pod("ordered", &spec, &init.concat(), &main));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/ordered", "--timeout=60s"]);
    let object = plane.get(&["pod", "ordered"]);
    let told = |which: usize| object["status"]["initContainerStatuses"][which].clone();
    assert_eq!(told(0)["state"]["terminated"]["reason"], "Completed", "{object}");
    assert_eq!((&told(1)["started"], &told(1)["ready"]), (&true.into(), &true.into()), "{object}");
    let lines = || std::fs::read_to_string(shared.path().join("log")).expect("the log of the pod");
    assert_eq!(lines(), "first\nside\nsecond\nmain\npost\n");
    plane.kubectl_ok(&["delete", "pod", "ordered", "--timeout=30s"]);
    assert_eq!(lines(), "first\nside\nsecond\nmain\npost\npre\nmain-ended\nside-ended\n");
}

#[test]
fn an_init_container_that_fails_holds_up_the_pod_or_ends_it() {
    let Some(plane) = plane_with_image() else { return };
    let failing = container("fails", "exit 7", "");
    let main = container("main", "echo never", "");
    plane.apply(&pod("waits", "", &failing, &main));
    plane.apply(&pod("ends", "  restartPolicy: Never\n", &failing, &main));
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/ends", "--timeout=60s"]);
    eventually("it is tried again, later and later", || {
        let object = plane.get(&["pod", "waits"]);
        let told = &object["status"]["initContainerStatuses"][0];
        (told["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && told["lastState"]["terminated"]["exitCode"] == 7)
            .then_some(())
    });
    let shown = plane.kubectl_ok(&["get", "pods", "--no-headers"]);
    assert!(shown.contains("Init:Error") && shown.contains("Init:CrashLoopBackOff"), "{shown}");
    for name in ["waits", "ends"] {
        assert_eq!(status(&plane, name)["state"]["waiting"]["reason"], "PodInitializing", "{name}");
    }
    plane.kubectl_ok(&["delete", "pod", "waits", "ends", "--timeout=30s"]);
}

#[test]
fn probes_restart_hold_back_and_take_out() {
    let Some(plane) = plane_with_image() else { return };
    let one = "  terminationGracePeriodSeconds: 1\n";
    let run = "exec: {command: [/bin/busybox, test, -f, /up]}";
    let patient = format!(
        "    startupProbe: {{{run}, periodSeconds: 1, failureThreshold: 60}}\n    \
         livenessProbe: {{{run}, periodSeconds: 1, failureThreshold: 1}}\n"
    );
    plane.apply(&pod("slow", one, "", &container("main", "sleep 4; touch /up; sleep 1000", &patient)));
    let deaf =
        "    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 2}\n".to_owned();
    plane.apply(&pod("deaf", one, "", &container("main", "sleep 1000", &deaf)));
    let gated = "    ports: [{name: web, containerPort: 8080}]\n    \
                 readinessProbe: {httpGet: {port: web, path: /ready}, periodSeconds: 1, failureThreshold: 1}\n";
    let serve = "mkdir -p /www; exec /bin/busybox httpd -f -p 8080 -h /www";
    plane.apply(&pod("gated", one, "", &container("main", serve, gated)));

    // Until it has started, nobody asks whether it lives.
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/slow", "--timeout=60s"]);
    let told = status(&plane, "slow");
    assert_eq!((&told["started"], &told["restartCount"]), (&true.into(), &0.into()), "{told}");

    eventually("who does not answer is started again", || {
        (status(&plane, "deaf")["restartCount"].as_i64()? > 0).then_some(())
    });
    let described = plane.kubectl_ok(&["describe", "pod", "deaf"]);
    for words in
        ["Unhealthy", "Liveness probe failed: ", "Container main failed liveness probe, will be restarted"]
    {
        assert!(described.contains(words), "{words} in {described}");
    }

    let exec = |command: [&str; 2]| {
        plane.kubectl_ok(&["exec", "gated", "--", "/bin/busybox", command[0], command[1]]);
    };
    let ready = |is: &str| {
        plane.kubectl_ok(&["wait", &format!("--for=condition=Ready={is}"), "pod/gated", "--timeout=60s"]);
    };
    eventually("it runs", || status(&plane, "gated")["state"]["running"].is_object().then_some(()));
    assert_eq!(status(&plane, "gated")["ready"], false);
    exec(["touch", "/www/ready"]);
    ready("True");
    exec(["rm", "/www/ready"]);
    ready("False");
    let told = status(&plane, "gated");
    assert_eq!(told["restartCount"], 0, "{told}");
    let described = plane.kubectl_ok(&["describe", "pod", "gated"]);
    assert!(
        described.contains("Readiness probe failed: HTTP probe failed with statuscode: 404"),
        "{described}"
    );
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=30s"]);
}

#[test]
fn who_does_not_end_in_time_is_ended() {
    let Some(plane) = plane_with_image() else { return };
    let deaf = "trap \"\" TERM; echo deaf; while true; do sleep 1; done";
    plane.apply(&pod("deaf", "  terminationGracePeriodSeconds: 2\n", "", &container("main", deaf, "")));
    let sleeps = "    lifecycle: {preStop: {exec: {command: [/bin/busybox, sleep, \"1000\"]}}}\n";
    plane.apply(&pod(
        "dozes",
        "  terminationGracePeriodSeconds: 2\n",
        "",
        &container("main", "exec sleep 1000", sleeps),
    ));
    plane.apply(&pod("long", "  terminationGracePeriodSeconds: 3600\n", "", &container("main", deaf, "")));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    plane.kubectl_ok(&["delete", "pod", "deaf", "dozes", "--timeout=30s"]);
    // A shorter time takes the place of a longer one that has begun.
    plane.kubectl_ok(&["delete", "pod", "long", "--wait=false"]);
    let deleted = plane.get(&["pod", "long"]);
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 3600, "{deleted}");
    plane.kubectl_ok(&["delete", "pod", "long", "--grace-period=1", "--timeout=30s"]);
}
