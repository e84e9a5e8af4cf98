//! `hostUsers: false`: root inside, nobody outside.

use std::collections::BTreeSet;

use harness::Plane;

use crate::containers::{IMAGE, first_process, plane_with_image};
use crate::streams::{BOTH, on_terminal};

/// A pod whose root is nobody outside. That the ids are mapped where commands run too is what its probe looks at.
fn pod(name: &str, script: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: init
    image: {IMAGE}
    imagePullPolicy: Never
    command: [/bin/busybox, sh, -c, 'touch /work/from-init; chown 7:8 /work/from-init']
    volumeMounts: [{{name: work, mountPath: /work}}]
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [/bin/busybox, sh, -c]
    args: ['{script}']
    readinessProbe:
      periodSeconds: 1
      exec: {{command: [/bin/busybox, sh, -c, 'set -- $(cat /proc/self/uid_map) && [ $1 = 0 ] && [ $2 -ge 65536 ] && [ $3 = 65536 ]']}}
    volumeMounts:
    - {{name: work, mountPath: /work}}
    - {{name: config, mountPath: /config}}
    - {{name: secret, mountPath: /secret}}
  volumes:
  - {{name: work, emptyDir: {{}}}}
  - {{name: config, configMap: {{name: config}}}}
  - {{name: secret, secret: {{secretName: secret, defaultMode: 256}}}}
"#
    )
}

/// The first id outside of the pod's range, and the user outside of its first process.
fn outside(plane: &Plane, pod: &str) -> (u32, u32) {
    let process = first_process(plane, pod);
    let number = |text: &str, word: usize| {
        text.split_whitespace().nth(word).and_then(|word| word.parse().ok()).expect("a number")
    };
    let map = std::fs::read_to_string(format!("/proc/{process}/uid_map")).expect("a map of ids");
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a status");
    let user = status.lines().find(|line| line.starts_with("Uid:")).expect("a user");
    assert_eq!((number(&map, 0), number(&map, 2)), (0, 65536));
    (number(&map, 1), number(user, 1))
}

#[test]
fn a_pods_root_is_nobody_outside_and_shares_its_ids_with_nobody() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config}\ndata: {key: open}\n");
    plane.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: secret}\nstringData: {key: hidden}\n");
    let script = "id -u; cat /config/key /secret/key; echo; ls -ln /work/from-init; touch /work/own; \
                  wget -qO- http://127.0.0.1:1 2>&1 | grep -c refused; while true; do sleep 1; done";
    for name in ["one", "two"] {
        plane.apply(&pod(name, script));
    }
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/one", "pod/two", "--timeout=60s"]);
    let mut bases = BTreeSet::new();
    for name in ["one", "two"] {
        let (base, user) = outside(&plane, name);
        assert!(base >= 65536 && base.is_multiple_of(65536) && bases.insert(base), "{bases:?}");
        assert_eq!(user, base);
        let said = plane.kubectl_ok(&["logs", name, "-c", "main"]);
        assert!(said.starts_with("0\nopenhidden\n") && said.ends_with("\n1\n"), "{said}");
        let owner: Vec<&str> = said.lines().nth(2).expect("a file").split_whitespace().collect();
        assert_eq!(owner[2..4], ["7", "8"], "{said}");
        // On the disk are the ids that the pod sees.
        let uid = plane.get(&["pod", name])["metadata"]["uid"].as_str().expect("a UID").to_owned();
        let work = plane.data().join("node/pods").join(uid).join("volumes/work");
        let owner = |file: &str| {
            use std::os::unix::fs::MetadataExt;
            let about = std::fs::metadata(work.join(file)).expect("a file");
            (about.uid(), about.gid())
        };
        assert_eq!((owner("from-init"), owner("own")), ((7, 8), (0, 0)));
    }

    // A terminal is the pod's own, too.
    for transport in BOTH {
        let keys = "/bin/busybox stty size; /bin/busybox ls -ln $(/bin/busybox tty); /bin/busybox head -n 1 /proc/self/uid_map; exit 4\n";
        let said = on_terminal(&plane, transport, "exec -it one -c main -- /bin/busybox sh", keys);
        assert!(said.out.contains("37 101") && said.out.contains("/dev/pts/"), "{transport:?} {said:?}");
        assert!(!said.ok && said.out.contains("exit code 4"), "{transport:?} {said:?}");
        let owner = said.out.lines().find(|line| line.starts_with("crw")).expect("its terminal").to_owned();
        assert_eq!(owner.split_whitespace().nth(2), Some("0"), "{owner}");
    }

    // The node's next process knows who has which, also when commands are run.
    let before = (outside(&plane, "one"), outside(&plane, "two"));
    plane.restart("node", 9);
    plane.apply(&pod("three", script));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/three", "--timeout=60s"]);
    assert!(bases.insert(outside(&plane, "three").0), "{bases:?}");
    assert_eq!((outside(&plane, "one"), outside(&plane, "two")), before);
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/one", "pod/two", "--timeout=60s"]);

    // Given back, and given anew.
    plane.kubectl_ok(&["delete", "pod", "one", "--timeout=30s"]);
    plane.apply(&pod("four", script));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/four", "--timeout=60s"]);
    assert_eq!(outside(&plane, "four").0, before.0.0);

    let mixed = pod("mixed", "true").replace("hostUsers: false", "hostUsers: false\n  hostNetwork: true");
    let said = plane.kubectl_with(&["apply", "-f", "-"], &mixed);
    assert!(
        !said.ok && said.err.contains("spec.hostNetwork: Forbidden: when `hostUsers` is false"),
        "{said:?}"
    );
    plane.kubectl_ok(&["delete", "pod", "two", "three", "four", "--timeout=30s"]);
}
