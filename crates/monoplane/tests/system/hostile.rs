//! Pods that try to get out or to take all there is, through the API as anybody could: they are confined, refused or ended,
//! and another pod does not notice.

use harness::{Plane, eventually};

use crate::containers::{IMAGE, output, plane_with_image_and};

fn pod(name: &str, spec: &str, container: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         restartPolicy: Never\n{spec}  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
         command: [/bin/busybox, sh, -c]\n    args:\n    - |\n      {script}\n{container}"
    )
}

/// Waits for a pod that the node does not take; gives the message.
#[track_caller]
fn failed(plane: &Plane, name: &str, reason: &str) -> String {
    plane.kubectl_ok(&[
        "wait",
        "--for=jsonpath={.status.phase}=Failed",
        &format!("pod/{name}"),
        "--timeout=60s",
    ]);
    let object = plane.get(&["pod", name]);
    assert_eq!(object["status"]["reason"], reason, "{object}");
    object["status"]["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_pod_is_confined_as_it_says() {
    let flags = ["--seccomp-default", "--allowed-unsafe-sysctls", "net.core.*"];
    let Some(plane) = plane_with_image_and(&flags) else { return };
    let profiles = plane.data().join("node/seccomp");
    std::fs::create_dir_all(&profiles).expect("a directory");
    let no_mkdir = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]}"#;
    std::fs::write(profiles.join("no-mkdir.json"), no_mkdir).expect("a file");
    let status = "grep Seccomp: /proc/self/status; /bin/busybox mkdir /d 2>&1; echo $?";
    let of = |kind: &str| format!("  securityContext: {{seccompProfile: {kind}}}\n");
    plane.apply(&pod("unsaid", "", "", status));
    plane.apply(&pod("open", &of("{type: Unconfined}"), "", status));
    let localhost =
        "    securityContext: {seccompProfile: {type: Localhost, localhostProfile: no-mkdir.json}}\n";
    plane.apply(&pod("own", &of("{type: Unconfined}"), localhost, status));
    plane.apply(&pod("missing", &of("{type: Localhost, localhostProfile: none.json}"), "", status));
    let sysctl = |name: &str| format!("  securityContext: {{sysctls: [{{name: {name}, value: '77'}}]}}\n");
    plane.apply(&pod("allowed", &sysctl("net.core.somaxconn"), "", "cat /proc/sys/net/core/somaxconn"));
    plane.apply(&pod("forbidden", &sysctl("kernel.msgmax"), "", "true"));
    plane.apply(&pod(
        "locked",
        "  securityContext: {appArmorProfile: {type: RuntimeDefault}}\n",
        "",
        "echo in",
    ));

    assert_eq!(output(&plane, "unsaid"), "Seccomp:\t2\n0\n");
    assert_eq!(output(&plane, "open"), "Seccomp:\t0\n0\n");
    let own = output(&plane, "own");
    assert!(own.starts_with("Seccomp:\t2\n") && own.contains("quota") && own.ends_with("1\n"), "{own}");
    assert_eq!(output(&plane, "allowed"), "77\n");
    let why = failed(&plane, "forbidden", "SysctlForbidden");
    assert_eq!(why, "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
    {
        assert_eq!(output(&plane, "locked"), "in\n");
    } else {
        let why = failed(&plane, "locked", "AppArmor");
        assert_eq!(why, "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host");
    }
    eventually("the missing profile is named", || {
        let waiting =
            plane.get(&["pod", "missing"])["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let message = waiting["message"].as_str().unwrap_or_default();
        (waiting["reason"] == "CreateContainerError" && message.contains("none.json")).then_some(())
    });
    let refused = plane.kubectl_with(
        &["apply", "-f", "-"],
        &pod("out", &of("{type: Localhost, localhostProfile: ../../../etc/passwd}"), "", "true"),
    );
    assert!(!refused.ok && refused.err.contains("must not contain '..'"), "{refused:?}");
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}

#[test]
fn pods_that_take_all_they_can_hurt_themselves() {
    let Some(plane) = plane_with_image_and(&[]) else { return };
    plane.apply(&pod(
        "neighbour",
        "",
        "",
        "n=0; while true; do echo $n; n=$((n+1)); /bin/busybox sleep 0.1; done",
    ));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/neighbour", "--timeout=60s"]);
    let limits = "    resources: {limits: {memory: 64Mi, cpu: 200m}}\n";
    let bomb = "bomb() { bomb | bomb & }; (bomb) 2>/dev/null; echo lit; /bin/busybox sleep 1000";
    plane.apply(&pod("bomb", "", limits, bomb));
    plane.apply(&pod("greedy", "", limits, "exec /bin/busybox tail -c 1000000000 /dev/zero"));
    plane.apply(&pod(
        "loud",
        "",
        limits,
        "/bin/busybox head -c 80000000 /dev/zero | /bin/busybox tr '\\0' x; echo; echo end",
    ));
    let outside = "for file in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /sys/fs/cgroup/*/release_agent; do \
         (echo 1 >$file) 2>/dev/null && echo wrote $file; done; \
         /bin/busybox mknod /disk b 8 0 2>/dev/null && echo made; /bin/busybox mount -t tmpfs none /bin 2>/dev/null && echo mounted; \
         /bin/busybox ls /host/../../.. | /bin/busybox grep -c passwd; echo end";
    let linked = "  volumes:\n  - {name: v, emptyDir: {}}\n  initContainers:\n  - name: link\n    image: monoplane.test/busybox:1\n    \
         imagePullPolicy: Never\n    command: [/bin/busybox, ln, -s, /etc, /v/out]\n    volumeMounts: [{name: v, mountPath: /v}]\n";
    plane.apply(&pod("climber", linked, "    volumeMounts: [{name: v, mountPath: /host}]\n", outside));
    plane.apply(&pod(
        "subpath",
        linked,
        "    volumeMounts: [{name: v, mountPath: /host, subPath: out}]\n",
        "cat /host/passwd",
    ));

    eventually("the greedy pod is killed for memory", || {
        let ended =
            plane.get(&["pod", "greedy"])["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        (ended["reason"] == "OOMKilled" && ended["exitCode"] == 137).then_some(())
    });
    assert_eq!(output(&plane, "climber"), "0\nend\n");
    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/loud", "--timeout=120s"]);
    assert_eq!(plane.kubectl_ok(&["logs", "loud", "--tail=1"]), "end\n");
    eventually("the link is not followed", || {
        let waiting =
            plane.get(&["pod", "subpath"])["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        waiting["message"].as_str().is_some_and(|message| message.contains("subPath")).then_some(())
    });
    eventually("the bomb is lit", || plane.kubectl_ok(&["logs", "bomb"]).contains("lit").then_some(()));
    // The node goes on, for the neighbour and for who comes new.
    plane.apply(&pod("new", "", "", "echo welcome"));
    assert_eq!(output(&plane, "new"), "welcome\n");
    let neighbour = plane.get(&["pod", "neighbour"]);
    assert_eq!(neighbour["status"]["containerStatuses"][0]["restartCount"], 0, "{neighbour}");
    let before: u64 = plane.kubectl_ok(&["logs", "neighbour", "--tail=1"]).trim().parse().expect("a number");
    eventually("the neighbour goes on", || {
        let now: u64 = plane.kubectl_ok(&["logs", "neighbour", "--tail=1"]).trim().parse().ok()?;
        (now > before).then_some(())
    });
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}
