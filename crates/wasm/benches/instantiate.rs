//! How long a fresh instance takes, alone and with a whole request around it, without HTTP.
//!
//! `cargo bench -p wasm`. The promise is that instantiation alone stays under 15 µs at the median.

#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::{Connector, Policy};
use http_body_util::{BodyExt, Empty};
use wasm::{CompileLimits, Compiler, Component, ComponentSpec, Config, Host, MacKey};

const WARM_UP: usize = 2_000;
const ROUNDS: usize = 50_000;
const PROMISE: Duration = Duration::from_micros(15);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let compiler = Compiler::new(env!("CARGO_BIN_EXE_compile-component"), [""; 0], CompileLimits::default());
    let key = MacKey::load_or_create(&directory.path().join("key"))?;
    let config =
        Config::new(directory.path().join("cache"), key, compiler, Connector::new(Policy::default()));
    let host = Host::new(config)?;
    let guest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/echo/echo.wasm");
    let started = Instant::now();
    let artifact = host.compile(std::fs::read(guest)?.into()).await?;
    println!("compile echo in a child        {:>9.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    host.compile(std::fs::read(guest)?.into()).await?;
    println!("load it from the cache         {:>9.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let component = host.deploy("bench/echo", ComponentSpec::new(artifact))?;

    let mut instances = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let elapsed = component.time_instantiation().await?;
        if round >= WARM_UP {
            instances.push(elapsed);
        }
    }
    let mut requests = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let started = Instant::now();
        request(&component).await?;
        if round >= WARM_UP {
            requests.push(started.elapsed());
        }
    }
    let median = report("instantiate and drop", &mut instances);
    report("a request, instance included", &mut requests);
    if median > PROMISE {
        return Err(format!("instantiation takes {median:?}, promised are {PROMISE:?}").into());
    }
    Ok(())
}

async fn request(component: &Arc<Component>) -> Result<(), Box<dyn std::error::Error>> {
    let request = http::Request::get("http://bench.local/").body(Empty::<Bytes>::new())?;
    let response = component.serve(request).await?;
    black_box(response.into_body().collect().await?.to_bytes());
    Ok(())
}

fn report(what: &str, times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{what:<30} p50 {:>6.1} µs   p99 {:>6.1} µs", micros(at(0.5)), micros(at(0.99)));
    at(0.5)
}
