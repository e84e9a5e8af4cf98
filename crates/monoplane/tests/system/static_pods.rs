//! Pods of the node's own files need nobody but the node.

use harness::{eventually, kill};

use crate::containers::{plane_with_image, pod};

#[test]
fn a_static_pod_with_a_network_of_its_own_starts_while_the_api_is_away() {
    let Some(plane) = plane_with_image() else { return };
    let directory = plane.data().join("node/manifests");
    std::fs::create_dir_all(&directory).expect("a directory");
    // The server says nothing any more, and the node's next process has never heard of a policy.
    let (server, node) = (plane.pid("server"), plane.pid("node"));
    kill(server, 19);
    std::fs::write(directory.join("alone.yaml"), pod("alone", "echo here; sleep 1", "")).expect("a file");
    kill(node, 9);
    let logs = plane.data().join("node/logs");
    let said = |log: &str| {
        let of_pod = std::fs::read_dir(&logs).ok()?.flatten();
        let mut of_pod =
            of_pod.filter(|entry| entry.file_name().to_string_lossy().contains("alone-test-node"));
        let text = std::fs::read_to_string(of_pod.next()?.path().join(log)).ok()?;
        text.contains("here").then_some(())
    };
    eventually("the pod runs", || said("main/0.log"));
    eventually("it is started again when it has ended", || said("main/1.log"));
    kill(server, 18);
    plane.wait_until_up();
    eventually("its image tells of it", || {
        let image = plane.get(&["pod", "alone-test-node"]);
        image["status"]["containerStatuses"][0]["restartCount"].as_i64().filter(|count| *count >= 1)
    });
    std::fs::remove_file(directory.join("alone.yaml")).expect("it was there");
    eventually("it is gone", || (!plane.kubectl(&["get", "pod", "alone-test-node"]).ok).then_some(()));
}
