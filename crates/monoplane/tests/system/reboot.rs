//! The machine is started again: what ran is gone, with all that the runtime knew of it. What the API knows stays.

use std::path::{Path, PathBuf};

use harness::{Plane, eventually, kill};
use serde_json::Value;

use crate::containers::{plane_with_image, pod};

fn directories(of: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(of).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}

/// The process that a record tells of, if it tells of one that has not ended.
fn pid(record: &Path) -> Option<u32> {
    let record: Value = serde_json::from_slice(&std::fs::read(record).ok()?).expect("JSON");
    let ended = record["finished_at"].as_i64().is_some_and(|at| at > 0);
    record["pid"].as_u64()?.try_into().ok().filter(|_| !ended)
}

/// Ends all processes of pods at once and empties what is in memory, on a machine with this data. Whether it has any for it.
pub(crate) fn lose_power(data: &Path) -> bool {
    let sandboxes = data.join("node/containers/sandboxes");
    let Ok(memory) = std::fs::read_link(&sandboxes) else { return false };
    let sandboxes = directories(&sandboxes);
    let shims = sandboxes.iter().map(|sandbox| sandbox.join("shim.json"));
    let containers = sandboxes.iter().flat_map(|sandbox| directories(&sandbox.join("containers")));
    let records = shims.chain(containers.map(|container| container.join("state.json")));
    let pids: Vec<u32> = records.filter_map(|record| pid(&record)).collect();
    // Shims first, so that none of them hears how its containers end.
    pids.iter().for_each(|pid| kill(*pid, 9));
    let gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
    eventually("all processes have ended", || pids.iter().all(gone).then_some(()));
    std::fs::remove_dir_all(memory).expect("what is in memory goes");
    true
}

fn status(plane: &Plane, pod: &str) -> Value {
    plane.get(&["pod", pod])["status"].clone()
}

#[test]
fn after_a_reboot_pods_run_again_or_have_failed_as_their_policy_says() {
    let Some(mut plane) = plane_with_image() else { return };
    let script = "echo before $HOSTNAME; exec sleep 1000";
    plane.apply(&pod("again", script, ""));
    plane.apply(&pod("never", script, "  restartPolicy: Never\n"));
    plane.apply(&pod("done", "echo was done", "  restartPolicy: Never\n"));
    plane.apply(&pod("clean", "echo was clean; sleep 1", "  restartPolicy: OnFailure\n"));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/again", "pod/never", "--timeout=60s"]);
    for name in ["pod/done", "pod/clean"] {
        plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", name, "--timeout=60s"]);
    }
    plane.kill_everything();
    if !lose_power(plane.data()) {
        return;
    }
    plane.up();

    plane.kubectl_ok(&["wait", "--for=jsonpath={.status.phase}=Failed", "pod/never", "--timeout=60s"]);
    let ended = &status(&plane, "never")["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&137.into(), &"ContainerStatusUnknown".into()));
    assert_eq!(plane.kubectl_ok(&["logs", "never"]), "before never\n");
    assert_eq!(plane.kubectl_ok(&["logs", "-f", "done"]), "was done\n");

    let began_again = || {
        let status = status(&plane, "again");
        let told = &status["containerStatuses"][0];
        (told["restartCount"] == 1 && told["ready"] == true).then(|| told.clone())
    };
    let told = eventually("the pod runs again", began_again);
    assert_eq!(told["lastState"]["terminated"]["reason"], "ContainerStatusUnknown", "{told}");
    for previous in ["--previous=false", "--previous"] {
        assert_eq!(plane.kubectl_ok(&["logs", "again", previous]), "before again\n");
    }
    for name in ["done", "clean"] {
        let told = &status(&plane, name)["containerStatuses"][0];
        assert_eq!((&told["restartCount"], &told["state"]["terminated"]["exitCode"]), (&0.into(), &0.into()));
    }
    plane.kubectl_ok(&["delete", "pod", "again", "never", "done", "clean", "--timeout=30s"]);
    let written = plane.data().join("node/containers/writable");
    eventually("nothing is left of them", || directories(&written).is_empty().then_some(()));
}
