//! A small backend through an Ingress, beside nginx as a reverse proxy in front of the same backend, in one run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::{Plane, eventually, send};
use serde_json::json;

use super::nginx::Nginx;
use super::wrk::{Found, Load};
use super::{Table, binary};
use crate::tools;

const HOST: &str = "small.bench";
const CONNECTIONS: u32 = 32;

/// Of the machine that the backend is on: no EndpointSlice may name a loopback address.
const ADDRESS: &str = "10.215.0.1";

/// Runs the comparison, on a machine that has no network yet ([`super::apart`]).
///
/// # Errors
/// When a server cannot be started, or an answer is wrong.
pub fn run(root: &Path, seconds: u32) -> Result<()> {
    tools::run(Command::new("ip").args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]))?;
    let backend = Nginx::small(ADDRESS)?;
    let mut table =
        Table::new("a small backend behind a reverse proxy, wrk -t1 -c32, keep-alive on both sides");
    let direct = measure(&format!("http://{}", backend.address()), seconds)?;

    let peer = Nginx::proxy(&[backend.address()])?;
    let proxied = measure(&format!("http://{}", peer.address()), seconds)?;
    drop(peer);

    let plane = Plane::start(&binary(root)?, &["--disable", "node", "--egress-allow", &backend.address()]);
    plane.apply(&objects(&backend.address())?);
    let ours = measure(&plane.endpoint("gateway"), seconds)?;
    table.row("the backend itself (nginx, one worker)", &direct, None);
    table.row("nginx as a reverse proxy, two workers", &proxied, None);
    table.row("monoplane gateway, an Ingress", &ours, Some(("of nginx", proxied.rate)));
    table.print();
    Ok(())
}

fn measure(url: &str, seconds: u32) -> Result<Found> {
    let ask = || send(url, HOST, "GET", "/", &[], "").filter(|answer| answer.status == 200);
    let answer = eventually("the server answers", ask);
    if answer.body != "hello" {
        bail!("{url} answered {:?}", answer.body);
    }
    let headers = vec![format!("Host: {HOST}")];
    let load = Load {
        url: url.to_owned(),
        threads: 1,
        connections: CONNECTIONS,
        seconds,
        headers,
        ..Load::default()
    };
    // Once to warm up: connections, routes, the processor.
    Load { seconds: 2, ..load.clone() }.run()?;
    load.run()
}

/// A Service without pods, its endpoint, and an Ingress.
fn objects(backend: &str) -> Result<String> {
    let (ip, port) = backend.split_once(':').context("an address")?;
    let port: u16 = port.parse()?;
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "small" },
        "spec": { "ports": [{ "port": 80 }] } });
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "small-1", "labels": { "kubernetes.io/service-name": "small" } },
        "addressType": "IPv4", "ports": [{ "port": port }], "endpoints": [{ "addresses": [ip] }] });
    let to = json!({ "service": { "name": "small", "port": { "number": 80 } } });
    let ingress = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "small" },
        "spec": { "rules": [{ "host": HOST, "http": { "paths": [
            { "path": "/", "pathType": "Prefix", "backend": to } ] } }] } });
    Ok(format!("{service}\n---\n{slice}\n---\n{ingress}\n"))
}
