//! A small backend through an Ingress, beside nginx as a reverse proxy in front of the same backend.
//!
//! With four busy processes on two processors, where the scheduler puts them decides the 99th percentile more than the
//! proxies do: of one nginx it is anything from 1 to 4 ms. So all servers run at once, are asked in turns, and the
//! medians of the rounds count. nginx is there twice, as it comes and with its workers bound to processors, as the
//! gateway's threads are.

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

/// How often each is asked.
const ROUNDS: usize = 7;

/// Of the machine that the backend is on: no EndpointSlice may name a loopback address.
const ADDRESS: &str = "10.215.0.1";

/// Runs the comparison, on a machine that has no network yet ([`super::apart`]).
///
/// # Errors
/// When a server cannot be started, or an answer is wrong.
pub fn run(root: &Path, seconds: u32) -> Result<()> {
    tools::run(Command::new("ip").args(["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]))?;
    let backend = Nginx::small(ADDRESS)?;
    let peers = [Nginx::proxy(&[backend.address()], false)?, Nginx::proxy(&[backend.address()], true)?];
    let plane = Plane::start(&binary(root)?, &["--disable", "node", "--egress-allow", &backend.address()]);
    plane.apply(&objects(&backend.address())?);
    let [peer, bound] = peers.each_ref().map(|peer| format!("http://{}", peer.address()));
    let servers = [
        ("the backend itself (nginx, one worker)", format!("http://{}", backend.address())),
        ("nginx as a reverse proxy, two workers", peer),
        ("the same, each bound to a processor", bound),
        ("monoplane gateway, an Ingress", plane.endpoint("gateway")),
    ];
    for (_, url) in &servers {
        warm_up(url)?;
    }
    let mut runs: Vec<Vec<Found>> = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for ((_, url), runs) in servers.iter().zip(&mut runs) {
            runs.push(load(url, seconds.div_ceil(3)).run()?);
        }
    }
    let mut table =
        Table::new("a small backend behind a reverse proxy, wrk -t1 -c32, keep-alive on both sides");
    let found = runs.iter().map(|runs| Found::median(runs)).collect::<Result<Vec<_>>>()?;
    for (number, ((name, _), row)) in servers.iter().zip(&found).enumerate() {
        table.row(name, row, (number > 1).then_some(("of nginx", found[1].rate)));
    }
    table.row("", &found[3], Some(("of nginx, bound", found[2].rate)));
    table.print();
    Ok(())
}

/// Waits for the right answer, then asks for a while: connections, routes, the processor.
fn warm_up(url: &str) -> Result<()> {
    let ask = || send(url, HOST, "GET", "/", &[], "").filter(|answer| answer.status == 200);
    let answer = eventually("the server answers", ask);
    if answer.body != "hello" {
        bail!("{url} answered {:?}", answer.body);
    }
    load(url, 1).run().map(drop)
}

fn load(url: &str, seconds: u32) -> Load {
    let headers = vec![format!("Host: {HOST}")];
    Load { url: url.to_owned(), threads: 1, connections: CONNECTIONS, seconds, headers, ..Load::default() }
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
