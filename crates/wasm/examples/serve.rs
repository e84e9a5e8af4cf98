//! The component host behind a minimal HTTP server, for measuring: `serve COMPONENT.wasm [ADDRESS]`.

#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use egress::{Connector, Policy};
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use wasm::{CompileLimits, Compiler, Component, ComponentSpec, Config, Host, MacKey};

#[path = "support/mod.rs"]
mod support;

const CHILD: &str = "compile-component";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let guest = arguments.next().ok_or("usage: serve COMPONENT.wasm [ADDRESS]")?;
    if guest == CHILD {
        std::process::exit(i32::from(wasm::compile_child_main() != std::process::ExitCode::SUCCESS));
    }
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let directory = tempfile::tempdir()?;
    let compiler = Compiler::new(std::env::current_exe()?, [CHILD], CompileLimits::default());
    let key = MacKey::load_or_create(&directory.path().join("key"))?;
    let config =
        Config::new(directory.path().join("cache"), key, compiler, Connector::new(Policy::default()));
    let host = Host::new(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let artifact = runtime.block_on(host.compile(std::fs::read(guest)?.into()))?;
    let component = host.deploy("bench/guest", ComponentSpec::new(artifact))?;
    support::run(&address, move || {
        let component = component.clone();
        hyper::service::service_fn(move |request| answer(component.clone(), request))
    })
}

async fn answer(
    component: Arc<Component>,
    request: Request<Incoming>,
) -> Result<Response<Either<wasm::Body, Full<Bytes>>>, Infallible> {
    Ok(match component.serve(request).await {
        Ok(response) => response.map(Either::Left),
        Err(error) => {
            let mut response = Response::new(Either::Right(Full::new(Bytes::from(format!("{error}\n")))));
            *response.status_mut() = error.status();
            response
        }
    })
}
