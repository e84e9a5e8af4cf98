//! A hundred pods on one node, from `kubectl apply` of one Deployment until all are Ready, and until none is left.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Plane, eventually};
use serde_json::json;

use super::{Samples, print};
use crate::bench::{Build, rule};
use crate::tools;

const PODS: usize = 100;
/// Times that they come and go.
const ROUNDS: usize = 5;
/// What the slowest of them may take until all are Ready.
const LIMIT: Duration = Duration::from_secs(5);
const IMAGE: &str = "bench.test/busybox:1";

/// Measures and prints.
///
/// # Errors
/// When a program is missing, a pod does not become Ready, or they take longer than they may.
pub fn run(root: &Path, build: Build) -> Result<()> {
    tools::debian_program("umoci", "umoci")?;
    let work = tempfile::tempdir()?;
    let layout = image(work.path())?;
    let plane = Plane::start(&build.binary(root)?, &[]);
    let loaded = plane.monoplane(&["image", "load", &layout, "--tag", IMAGE]);
    ensure!(loaded.ok, "{loaded:?}");
    let manifest = deployment();
    let (mut came, mut went) =
        (Samples::new("from apply to all Ready"), Samples::new("from delete to none left"));
    for round in 0..=ROUNDS {
        let began = Instant::now();
        plane.apply(&manifest);
        let said = plane.kubectl(&["rollout", "status", "deployment/many", "--timeout=120s"]);
        let took = began.elapsed();
        ensure!(
            said.ok && took < LIMIT,
            "{PODS} pods took {took:?}, and may take {LIMIT:?}\n{}",
            why(&plane)
        );
        let began = Instant::now();
        plane.kubectl_ok(&["delete", "deployment", "many", "--cascade=foreground", "--timeout=120s"]);
        eventually("no pod is left", || {
            plane.kubectl_ok(&["get", "pods", "-o", "name"]).is_empty().then_some(())
        });
        // The first finds the image's layers unpacked for nobody yet, and the processor cold.
        if round > 0 {
            came.times.push(took);
            went.times.push(began.elapsed());
        }
    }
    print(&format!("{PODS} pods of a Deployment on one node, {ROUNDS} times"), &[&came, &went], &[]);
    rule();
    Ok(())
}

/// What went wrong with pods, and which of them were started more than once.
fn why(plane: &Plane) -> String {
    let events = plane.kubectl(&["get", "events", "--field-selector", "type!=Normal"]);
    let columns = "custom-columns=NAME:.metadata.name,STARTED:.status.startTime,RESTARTS:.status.containerStatuses[0].restartCount,\
                   BEGAN:.status.containerStatuses[0].state.running.startedAt";
    let pods = plane.kubectl(&["get", "pods", "-o", columns, "--sort-by", ".status.startTime"]);
    format!("{}{}\n{}", events.out, pods.out, plane.log())
}

/// An OCI layout of busybox alone.
fn image(work: &Path) -> Result<String> {
    let layout = work.join("layout");
    let layout = layout.to_str().context("a path that is no text")?;
    let tagged = format!("{layout}:1");
    tools::run(Command::new("umoci").args(["init", "--layout", layout]))?;
    tools::run(Command::new("umoci").args(["new", "--image", &tagged]))?;
    tools::run(Command::new("umoci").args(["insert", "--image", &tagged, "/bin/busybox", "/bin/busybox"]))?;
    Ok(layout.to_owned())
}

fn deployment() -> String {
    let labels = json!({ "app": "many" });
    let container = json!({ "name": "main", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sleep", "1000"] });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "many" }, "spec": {
        "replicas": PODS, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] } } } })
    .to_string()
}
