//! Components through the gateway, beside `wasmtime serve` with the same guest and a bare hyper server, in one run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use harness::{Plane, eventually, send};

use super::wrk::Load;
use super::{Table, binary, free_port};
use crate::tools;

/// The peer, at the version of the library inside.
const WASMTIME: &str = "48.0.8";
const HOST: &str = "echo.bench";

/// Options under which the peer is fastest.
const BEST: [&str; 3] =
    ["pooling-pagemap-scan=y", "pooling-memory-keep-resident=4194304", "pooling-table-keep-resident=65536"];

/// Ends a peer with the run.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the comparison.
///
/// # Errors
/// When a server cannot be started, or an answer is wrong.
pub fn run(root: &Path, seconds: u32) -> Result<()> {
    let wasmtime = wasmtime(root)?;
    let guest = root.join("examples/echo/echo.wasm");
    let mut table =
        Table::new("a component that echoes a header and counts, wrk -t1 -c32, a fresh instance a request");

    let plain = serve(&wasmtime, &guest, &[])?;
    let default = measure(&plain.1, seconds)?;
    drop(plain);
    let pooled = serve(&wasmtime, &guest, &BEST)?;
    let best = measure(&pooled.1, seconds)?;
    drop(pooled);
    let bare = bare(root)?;
    let limit = measure(&bare.1, seconds)?;
    drop(bare);

    let plane = Plane::start(&binary(root)?, &["--disable", "node"]);
    plane.apply(&harness::component("echo", HOST, &std::fs::read(&guest)?, ""));
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "component/echo", "--timeout=60s"]);
    let ours = measure(&plane.endpoint("gateway"), seconds)?;
    table.row("bare hyper", &limit, None);
    table.row("wasmtime serve", &default, None);
    table.row("wasmtime serve, best pooling options", &best, None);
    table.row("monoplane gateway", &ours, Some(("of wasmtime serve", default.rate)));
    table.row("", &ours, Some(("of wasmtime serve at its best", best.rate)));
    table.row("", &ours, Some(("of bare hyper", limit.rate)));
    table.print();
    Ok(())
}

fn measure(url: &str, seconds: u32) -> Result<super::wrk::Found> {
    eventually("the server answers", || {
        send(url, HOST, "GET", "/", &["x-echo: warm"], "").filter(|a| a.status == 200)
    });
    let answer = send(url, HOST, "GET", "/", &["x-echo: word"], "").context("no answer")?;
    if answer.body.trim() != "word 1" {
        bail!("{url} answered {:?}: not a fresh instance, or not the guest", answer.body);
    }
    let headers = vec![format!("Host: {HOST}"), "x-echo: word".to_owned()];
    Load { url: url.to_owned(), threads: 1, connections: 32, seconds, headers, ..Load::default() }.run()
}

fn serve(wasmtime: &Path, guest: &Path, options: &[&str]) -> Result<(Peer, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(wasmtime);
    command.args(["serve", "-Scli", "--addr", &address]);
    for option in options {
        command.args(["-O", option]);
    }
    let child =
        command.arg(guest).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("wasmtime serve")?;
    Ok((Peer(child), format!("http://{address}")))
}

fn bare(root: &Path) -> Result<(Peer, String)> {
    tools::run(
        tools::cargo().args(["build", "--release", "-p", "wasm", "--example", "bare"]).current_dir(root),
    )?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let child = Command::new(root.join("target/release/examples/bare"))
        .arg(&address)
        .spawn()
        .context("bare hyper")?;
    Ok((Peer(child), format!("http://{address}")))
}

/// Builds the peer once (several minutes) into `target/tools`.
fn wasmtime(root: &Path) -> Result<PathBuf> {
    let folder = tools::folder(root);
    let program = folder.join("bin/wasmtime");
    if !program.exists() {
        println!("building wasmtime {WASMTIME}, once, to compare with");
        tools::run(
            tools::cargo()
                .args(["install", "wasmtime-cli", "--version", WASMTIME, "--locked", "--root"])
                .arg(&folder)
                .env("CARGO_TARGET_DIR", folder.join("wasmtime-build")),
        )?;
        std::fs::remove_dir_all(folder.join("wasmtime-build"))?;
    }
    Ok(program)
}
