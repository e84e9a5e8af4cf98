//! As whom containers run, what they may do, and what of the machine they see.

use harness::{Plane, eventually};

use crate::containers::{IMAGE, output, plane_with_image};

fn pod(name: &str, script: &str, container: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         restartPolicy: Never\n{spec}  containers:\n  - name: main\n    image: {IMAGE}\n    imagePullPolicy: Never\n    \
         command: [/bin/busybox, sh, -c]\n    args:\n    - |\n      {script}\n{container}"
    )
}

/// The message of a container that is not made.
fn refused(plane: &Plane, name: &str) -> String {
    eventually("the container is refused", || {
        let waiting = plane.get(&["pod", name])["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        (waiting["reason"] == "CreateContainerConfigError")
            .then(|| waiting["message"].as_str().unwrap_or_default().to_owned())
    })
}

#[test]
fn a_container_runs_as_who_it_is_told() {
    let Some(plane) = plane_with_image() else { return };
    let pod_says = "  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, supplementalGroups: [4000, 5000]}\n  \
                    volumes: [{name: v, emptyDir: {}}]\n";
    let mount = "    volumeMounts: [{name: v, mountPath: /v}]\n";
    let who = "id -u; id -g; id -G; touch /v/file && stat -c '%u %g' /v/file; stat -c %a /v";
    plane.apply(&pod("whole", who, mount, pod_says));
    let own =
        format!("{mount}    securityContext: {{runAsUser: 1001, runAsGroup: 2001, runAsNonRoot: true}}\n");
    plane.apply(&pod("own", who, &own, pod_says));
    plane.apply(&pod("root", "true", "    securityContext: {runAsNonRoot: true}\n", ""));
    plane.apply(&pod("zero", "true", "    securityContext: {runAsNonRoot: true, runAsUser: 0}\n", ""));
    assert_eq!(output(&plane, "whole"), "1000\n2000\n2000 3000 4000 5000\n1000 3000\n2777\n");
    assert_eq!(output(&plane, "own"), "1001\n2001\n2001 3000 4000 5000\n1001 3000\n2777\n");
    assert!(refused(&plane, "root").starts_with("container has runAsNonRoot and image will run as root"));
    assert!(
        refused(&plane, "zero").starts_with("container's runAsUser breaks non-root policy"),
        "{}",
        refused(&plane, "zero")
    );
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=30s"]);
}

#[test]
fn a_container_may_do_what_it_was_given() {
    let Some(plane) = plane_with_image() else { return };
    let security = |what: &str| format!("    securityContext: {{{what}}}\n");
    let bits = "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status | tr '\\t\\n' '  '";
    plane.apply(&pod("usual", bits, "", ""));
    plane.apply(&pod("none", bits, &security("capabilities: {drop: [ALL]}"), ""));
    plane.apply(&pod("two", bits, &security("capabilities: {drop: [ALL], add: [NET_ADMIN, SYS_TIME]}"), ""));
    plane.apply(&pod("bound", bits, &security("allowPrivilegeEscalation: false"), ""));
    // It has what the machine has, the kernel's own log among it.
    let everything = "grep CapEff /proc/self/status | grep -c -v 00000000a00425fb; ls /dev | grep -c kmsg; \
                      mkdir -p /m; mount -t tmpfs none /m && echo mounted";
    plane.apply(&pod("privileged", everything, &security("privileged: true"), ""));
    let closed = "touch /file 2>&1 | grep -c Read-only; touch /dev/shm/file && echo shared";
    plane.apply(&pod("closed", closed, &security("readOnlyRootFilesystem: true"), ""));
    let usual = "CapEff: 00000000a00425fb CapBnd: 00000000a00425fb NoNewPrivs: ";
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT,
    // AUDIT_WRITE and SETFCAP: what containerd gives, but for MKNOD.
    assert_eq!(output(&plane, "usual").trim(), format!("{usual}0"));
    let none = "0000000000000000";
    assert_eq!(output(&plane, "none").trim(), format!("CapEff: {none} CapBnd: {none} NoNewPrivs: 0"));
    let two = "0000000002001000";
    assert_eq!(output(&plane, "two").trim(), format!("CapEff: {two} CapBnd: {two} NoNewPrivs: 0"));
    assert_eq!(output(&plane, "bound").trim(), format!("{usual}1"));
    let said = output(&plane, "privileged");
    assert!(said.starts_with("1\n") && said.ends_with("mounted\n") && !said.contains("\n0\n"), "{said}");
    assert_eq!(output(&plane, "closed"), "1\nshared\n");
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=30s"]);
}

#[test]
fn a_pod_sees_of_the_machine_what_it_asks_for() {
    let Some(plane) = plane_with_image() else { return };
    let spaces = "for space in net pid ipc uts mnt; do readlink /proc/self/ns/$space; done";
    plane.apply(&pod("apart", spaces, "", ""));
    plane.apply(&pod("within", spaces, "", "  hostNetwork: true\n  hostPID: true\n  hostIPC: true\n"));
    let names = ["net", "pid", "ipc", "uts", "mnt"];
    let machine: Vec<String> = names
        .iter()
        .map(|name| {
            std::fs::read_link(format!("/proc/self/ns/{name}")).expect("a link").display().to_string()
        })
        .collect();
    let lines = |name: &str| output(&plane, name).lines().map(str::to_owned).collect::<Vec<_>>();
    let apart = lines("apart");
    assert!(apart.len() == 5 && apart.iter().all(|space| !machine.contains(space)), "{apart:?}");
    let within = lines("within");
    assert_eq!(within[..4], machine[..4]);
    assert_ne!(within[4], machine[4]);
    let object = plane.get(&["pod", "within"]);
    assert_eq!(object["status"]["podIP"], object["status"]["hostIP"]);

    // Containers of one pod see one another where it says so, and else their network and IPC only.
    let other = |name: &str| {
        format!(
            "  - {{name: other, image: '{IMAGE}', imagePullPolicy: Never, command: [/bin/busybox, sleep, '{name}']}}\n"
        )
    };
    let look = "sleep 1; ps -o args | grep -c '[s]leep 77'; true";
    plane.apply(&pod("shared", look, &other("771"), "  shareProcessNamespace: true\n"));
    plane.apply(&pod("alone", look, &other("772"), ""));
    for (name, seen) in [("shared", "1\n"), ("alone", "0\n")] {
        let ended =
            "--for=jsonpath={.status.containerStatuses[?(@.name=='main')].state.terminated.exitCode}=0";
        plane.kubectl_ok(&["wait", ended, &format!("pod/{name}"), "--timeout=60s"]);
        assert_eq!(plane.kubectl_ok(&["logs", name, "-c", "main"]), seen, "{name}");
    }
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=30s"]);
}

#[test]
fn a_pod_has_names_of_its_own() {
    let Some(plane) = plane_with_image() else { return };
    let spec = "  hostname: one\n  subdomain: herd\n  setHostnameAsFQDN: true\n  \
                hostAliases: [{ip: 192.0.2.7, hostnames: [far, away]}]\n  dnsPolicy: None\n  \
                dnsConfig: {nameservers: [192.0.2.53], searches: [house.test], options: [{name: ndots, value: '2'}]}\n";
    plane.apply(&pod("named", "hostname; grep 192.0.2.7 /etc/hosts; cat /etc/resolv.conf", "", spec));
    assert_eq!(
        output(&plane, "named"),
        "one.herd.default.svc.cluster.local\n192.0.2.7\tfar\taway\nnameserver 192.0.2.53\nsearch house.test\noptions ndots:2\n"
    );
    plane.kubectl_ok(&["delete", "pod", "named", "--timeout=30s"]);
}
