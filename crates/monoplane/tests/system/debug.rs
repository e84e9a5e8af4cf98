//! kubectl debug: somebody on a terminal beside a container, and on a node.

use harness::eventually;

use crate::containers::{IMAGE, plane_with_image, pod};
use crate::streams::{BOTH, on_terminal};

#[test]
fn a_terminal_is_opened_beside_a_container() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&pod("held", "while true; do sleep 1; done", ""));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/held", "--timeout=60s"]);
    for (name, transport) in ["one", "two"].into_iter().zip(BOTH) {
        let words = format!(
            "debug -it held --image {IMAGE} --target=main --image-pull-policy=Never -c {name} -- /bin/busybox sh"
        );
        let keys = "/bin/busybox stty size; /bin/busybox ps -o pid,args; exit 5\n";
        let said = on_terminal(&plane, transport, &words, keys);
        assert!(said.out.contains("37 101"), "{transport:?} {said:?}");
        // It is among the processes of the container that it looks at.
        assert!(said.out.contains("while true; do sleep 1; done"), "{transport:?} {said:?}");
        let code = eventually("its end is told", || {
            let told = plane.get(&["pod", "held"]);
            let told = told["status"]["ephemeralContainerStatuses"].as_array()?.clone();
            let told = told.into_iter().find(|one| one["name"] == name)?;
            told["state"]["terminated"]["exitCode"].as_i64()
        });
        assert_eq!(code, 5, "{transport:?}");
    }
    assert_eq!(plane.get(&["pod", "held"])["status"]["containerStatuses"][0]["restartCount"], 0);
    plane.kubectl_ok(&["delete", "pod", "held", "--timeout=30s"]);
}

#[test]
fn a_terminal_is_opened_on_the_node() {
    let Some(plane) = plane_with_image() else { return };
    std::fs::write(plane.data().join("sign"), "here").expect("a file");
    let words =
        format!("debug -it node/test-node --image {IMAGE} --image-pull-policy=Never -- /bin/busybox sh");
    // The node's files, processes and network are seen, and its host name.
    let keys = format!(
        "echo file $(/bin/busybox cat /host{}/sign); echo node $(/bin/busybox cat /proc/{}/comm); \
         echo net $(/bin/busybox readlink /proc/self/ns/net); echo ipc $(/bin/busybox readlink /proc/self/ns/ipc); exit\n",
        plane.data().display(),
        plane.pid("node"),
    );
    let said = on_terminal(&plane, BOTH[0], &words, &keys);
    let own = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        link.display().to_string()
    };
    assert!(said.out.contains("file here"), "{said:?}");
    assert!(said.out.contains(&format!("net {}", own("net"))), "{said:?}");
    assert!(said.out.contains(&format!("ipc {}", own("ipc"))), "{said:?}");
    let name = std::fs::read_to_string(format!("/proc/{}/comm", plane.pid("node"))).expect("the node's name");
    assert!(said.out.contains(&format!("node {}", name.trim())), "{said:?}");
    let pods = plane.kubectl_ok(&["get", "pods", "-o", "name"]);
    assert!(pods.starts_with("pod/node-debugger-test-node-"), "{pods}");
    plane.kubectl_ok(&["delete", "pods", "--all", "--timeout=60s"]);
}
