//! `monoplane demo`: the main job, end to end, on a throw-away plane: deploy, drive, break, watch it heal.
//!
//! Begin with [`tell`], the story; each chapter is a file beside this one.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use crate::flags::Demo;
use crate::say;

mod breaking;
mod components;
mod containers;
mod guard;
mod http;
mod load;
mod orders;
mod plane;
mod report;

use guard::Guard;
use plane::{Names, Plane};
use report::{Report, seconds};

/// Runs the demo.
///
/// # Errors
/// When a step does not do what it should; what the demo made is removed either way.
pub fn run(flags: &Demo) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let directory =
            tempfile::Builder::new().prefix("monoplane-demo-").tempdir().context("making a directory")?;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
        let names = Names::new();
        let guard = Guard::start(directory.path(), &names)?;
        // From here on it is the guard's to remove.
        let directory = directory.keep();
        let mut plane = Plane::new(&directory, names)?;
        let mut report = Report::default();
        let stop = crate::role::stop_on_signal()?;
        let told = tokio::select! {
            told = tell(&mut plane, &mut report) => told,
            () = stop.cancelled() => Err(anyhow::anyhow!("interrupted")),
        };
        if told.is_ok() && flags.keep {
            guard.keep().await?;
            stays(plane);
            return Ok(());
        }
        if told.is_err() {
            say::note(format!("\nThe end of the plane's log:\n{}", tail(&plane)));
        }
        let stopped = plane.stop().await;
        let cleaned = guard.clean().await;
        told?;
        stopped?;
        cleaned?;
        report.finish();
        next_steps();
        Ok(())
    })
}

async fn tell(plane: &mut Plane, report: &mut Report) -> Result<()> {
    report.chapter("A plane of its own");
    let took = report.step("start server, node and edge", start(plane)).await?;
    report.figure("from process start to every role serving", seconds(took));
    let containers = crate::up::can_run_node();
    if containers {
        let ready = report.step("the node is Ready", containers::node_ready(plane, took)).await?;
        report.figure("from process start to a Ready node", seconds(ready));
    }

    report.chapter("Three kinds of work behind one API");
    report
        .step(
            "a URL shortener, a component that keeps its links in a KeyValueStore",
            components::deploy(plane),
        )
        .await?;
    if containers {
        report.step("a web server, a Deployment of two containers", containers::deploy(plane)).await?;
    } else {
        report.skip("containers", "they need root");
    }
    report.step("an order desk, a durable function", orders::deploy(plane)).await?;

    report.chapter("Real requests");
    let link = report.step("shorten a link and follow it", components::shorten(plane)).await?;
    if containers {
        report.step("ask each container who it is", containers::greet(plane)).await?;
    }
    let order = report.step("place an order; the function goes to sleep", orders::place(plane)).await?;

    report.chapter("Now break it");
    let pods = match containers {
        true => {
            let healed = report.step("kill -9 a container", breaking::container(plane)).await?;
            report.figure("kill -9 of a container to its pod Ready again", seconds(healed));
            Some(containers::running(plane).await?)
        }
        false => None,
    };
    let seen =
        report.step("kill -9 the edge in the middle of requests", breaking::edge(plane, &link)).await?;
    report.figure("  requests answered around the kill", seen.answered);
    report.figure("  requests cut off, whose process died with them in hand", seen.broken);
    report.figure("  longest wait of anybody answered", seconds(seen.longest));
    let back = report
        .step("kill -9 every process of the plane, during the sleep", breaking::everything(plane))
        .await?;
    report.figure("kill -9 of everything to every role serving again", seconds(back));
    if let Some(pods) = pods {
        report.step("the containers never noticed", containers::untouched(plane, &pods)).await?;
    }
    report.step("the link is still there", components::follow(plane, &link)).await?;
    let late = report.step("the order is confirmed, once", orders::confirmed(plane, order)).await?;
    report.figure("the order's confirmation, after its time", seconds(late));
    Ok(())
}

async fn start(plane: &mut Plane) -> Result<(std::time::Duration, String)> {
    let took = plane.up().await?;
    let endpoints = plane.layout.read_endpoints()?;
    let found = format!("API {}, gateway {}", endpoints.api, endpoints.gateway.unwrap_or_default());
    Ok((took, found))
}

fn tail(plane: &Plane) -> String {
    let text = std::fs::read_to_string(plane.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn stays(plane: Plane) {
    let (names, root) = (plane.names.clone(), plane.layout.root().to_owned());
    plane.leave();
    say::line(format!("\nThe plane runs on in {}.", root.display()));
    say::line(format!(
        "  use it    export KUBECONFIG={}/admin.kubeconfig; kubectl get components,pods -A",
        root.display()
    ));
    say::line(format!(
        "  stop it   kill $(grep -o '\"up\":{{\"pid\":[0-9]*' {}/processes.json | grep -o '[0-9]*$')",
        root.display()
    ));
    say::line(format!(
        "  clean up  monoplane clean --data-dir {} --bridge {} --cgroup-root {} --all",
        root.display(),
        names.bridge,
        names.cgroup_root
    ));
}

fn next_steps() {
    say::line(format!("\n{}", say::bold("Next")));
    say::line(
        "  monoplane up              a plane of your own; `monoplane check` says what this machine can do",
    );
    say::line("  examples/                 the components of this demo, with their manifests");
    say::line("  docs/                     how-tos: components, capabilities, durable functions, containers");
}
