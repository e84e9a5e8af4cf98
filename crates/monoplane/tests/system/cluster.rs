//! Several machines of one plane: each a network of its own on this one, with the real binary.

use harness::{Cluster, eventually, is_root, tools};

/// A cluster of one machine; `None` without root.
fn cluster(flags: &[&str]) -> Option<Cluster> {
    if !is_root() {
        eprintln!("skipped: machines of a cluster need root");
        return None;
    }
    Some(Cluster::start(env!("CARGO_BIN_EXE_monoplane"), flags))
}

#[test]
fn machines_reach_each_other_while_their_cables_are_plugged_in() {
    let Some(mut cluster) = cluster(&[]) else { return };
    let mut machine = cluster.machine();
    let kubeconfig = cluster.server.data().join("admin.kubeconfig");
    let sees = |machine: &harness::Machine| {
        let mut kubectl = machine.command(tools().join("kubectl"));
        kubectl.arg("--kubeconfig").arg(&kubeconfig).args(["get", "--raw", "/readyz", "--request-timeout=1s"]);
        kubectl.output().expect("kubectl runs").status.success()
    };
    assert!(sees(&machine));
    machine.host().unplug();
    assert!(!sees(&machine));
    machine.host().plug();
    eventually("the cable is plugged in", || sees(&machine).then_some(()));
    machine.host_mut().move_to(77);
    eventually("it has another address", || sees(&machine).then_some(()));
}
