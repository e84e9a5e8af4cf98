//! The API under load, authorisation on, each figure beside its limit measured in the same run.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use harness::Plane;

use super::nginx::Nginx;
use super::wrk::Load;
use super::{Table, binary};

/// The administrator's.
pub const TOKEN: &str = "bench-token";
const NAMESPACE: &str = "bench";
/// Bytes of one ConfigMap, and of a list of 500.
const SMALL: usize = 1 << 10;
const LARGE: usize = 650 << 10;

/// Creates, gets and lists against a plane without node and edge.
///
/// # Errors
/// When a request fails.
pub fn run(root: &Path, seconds: u32) -> Result<()> {
    let plane = plane(root, &[])?;
    plane.kubectl_ok(&["create", "namespace", NAMESPACE]);
    let url = plane.endpoint("api");
    let load = |threads, connections, script: &str, target: &str| Load {
        url: url.clone(),
        threads,
        connections,
        seconds,
        script: Some(root.join("benches/api").join(script)),
        environment: vec![
            ("TOKEN", TOKEN.to_owned()),
            ("NAMESPACE", NAMESPACE.to_owned()),
            ("TARGET", target.to_owned()),
        ],
        ..Load::default()
    };
    let nginx = nginx(&plane)?;
    let plain = |threads, connections, size| Load {
        url: nginx.url(size),
        threads,
        connections,
        seconds,
        ..Load::default()
    };
    let mut table = Table::new("the API over TLS, authorisation on, 2 wrk threads; nginx serves fixed files");
    let small = plain(2, 32, SMALL).run()?;
    let large = plain(2, 8, LARGE).run()?;
    let version = load(2, 32, "read.lua", "/version").run()?;
    let dry = load(2, 32, "create.lua", "?dryRun=All").run()?;
    let creates = load(2, 32, "create.lua", "").run()?;
    plane.kubectl_ok(&["create", "configmap", "probe", "-n", NAMESPACE, "--from-literal=a=b"]);
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let mut writer = writing(&plane)?;
    let gets = load(2, 32, "read.lua", &format!("{path}/probe")).run();
    let lists = load(2, 8, "read.lua", &format!("{path}?limit=500")).run();
    writer.kill()?;
    writer.wait()?;
    let (gets, lists) = (gets?, lists?);
    table.row("nginx, a file of 1 KiB, 32 connections", &small, None);
    table.row("GET /version, 32 connections (no object read)", &version, Some(("of nginx", small.rate)));
    table.row("GET one ConfigMap while it is written, 32 connections", &gets, Some(("of nginx", small.rate)));
    table.row("create 1 KiB ConfigMaps with dryRun=All, 32 connections (nothing kept)", &dry, None);
    table.row("create 1 KiB ConfigMaps, fsynced, 32 connections", &creates, Some(("of a dry run", dry.rate)));
    table.row("nginx, a file of 650 KiB, 8 connections", &large, None);
    table.row(
        "LIST 500 ConfigMaps (650 KB) while they are written, 8 connections",
        &lists,
        Some(("of nginx", large.rate)),
    );
    table.print();
    Ok(())
}

/// A plane without node and edge whose administrator has a token, with further flags of `up`.
///
/// # Errors
/// When the token cannot be written down.
pub fn plane(root: &Path, flags: &[&str]) -> Result<Plane> {
    let work = tempfile::tempdir()?;
    let tokens = work.path().join("tokens.csv");
    std::fs::write(&tokens, format!("{TOKEN},bench,1,\"monoplane:cluster-admins\"\n"))?;
    super::readable(work.path(), &tokens)?;
    let tokens = tokens.to_str().context("a path that is no text")?;
    let own = ["--disable", "node,edge", "--token-auth-file", tokens];
    Ok(Plane::start(&binary(root)?, &[&own, flags].concat()))
}

/// With the certificate of the plane's own API, so that both sides pay for the same handshake and cipher.
fn nginx(plane: &Plane) -> Result<Nginx> {
    Nginx::start(&plane.data().join("server/pki/apiserver.pem"), &[SMALL, LARGE])
}

/// Somebody who keeps changing the object that is read, so that a remembered answer would be a wrong one.
fn writing(plane: &Plane) -> Result<std::process::Child> {
    let kubectl = plane.kubectl_command();
    let mut words = vec![kubectl.get_program().to_string_lossy().into_owned()];
    words.extend(kubectl.get_args().map(|a| a.to_string_lossy().into_owned()));
    let patch = format!(
        "while sleep 0.2; do {} -n {NAMESPACE} label --overwrite cm probe n=$(date +%N); done",
        words.join(" ")
    );
    Command::new("sh").args(["-c", &patch]).stdout(Stdio::null()).spawn().context("starting a writer")
}
