//! A gateway in front of the echo component, to be measured with a load generator, beside what it is built on:
//!
//! ```text
//! cargo run --release -p gateway --example edge -- gateway 127.0.0.1:8080
//! cargo run --release -p gateway --example edge -- host 127.0.0.1:8081
//! cargo run --release -p gateway --example edge -- bare 127.0.0.1:8082
//! wrk -t1 -c32 -d10 -H 'x-echo: hello' http://127.0.0.1:8080/
//! ```
//!
//! `host` is the component host behind a minimal HTTP server, `bare` that server alone. With the argument
//! `compile-component` this is the child process that compiles, which the tests use too.
#![allow(clippy::print_stdout, reason = "it tells the one who runs it what it does")]

#[path = "../tests/gateway/api.rs"]
#[allow(dead_code, reason = "shared with the tests, which use the rest")]
mod api;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use capabilities::Stores;
use client::Ambient;
use egress::{Connector, Policy};
use gateway::{Options, ServerLimits};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use wasm::{CompileLimits, Compiler, Component, ComponentSpec, Config, Host, MacKey};

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    if what == "compile-component" {
        return wasm::compile_child_main();
    }
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
        println!("{what} on {}", listener.local_addr()?);
        match what.as_str() {
            "gateway" => runtime.block_on(gateway(listener)),
            "host" => runtime.block_on(host(listener)),
            "bare" => serve(listener, None),
            _ => Err("the first argument is gateway, host or bare".into()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn component_host(folder: &std::path::Path) -> Result<Host, Box<dyn std::error::Error + Send + Sync>> {
    let compiler = Compiler::new(std::env::current_exe()?, ["compile-component"], CompileLimits::default());
    let key = MacKey::load_or_create(&folder.join("key"))?;
    Ok(Host::new(Config::new(folder.join("cache"), key, compiler, Connector::new(Policy::default())))?)
}

fn echo() -> std::io::Result<Vec<u8>> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/echo/echo.wasm"))
}

async fn gateway(listener: TcpListener) -> Outcome {
    let folder = tempfile::tempdir()?;
    let api = api::FakeApi::new();
    let source = base64::engine::general_purpose::STANDARD.encode(echo()?);
    api.apply(
        "components",
        "bench",
        "echo",
        json!({ "source": { "inline": source }, "routes": [{ "path": "/" }] }),
    );
    let options = Options {
        listeners: vec![listener],
        tls_listeners: Vec::new(),
        default_certificate: None,
        addresses: Vec::new(),
        trusted: Vec::new(),
        client: api.client(),
        ambient: Ambient::system(),
        node: None,
        host: component_host(folder.path())?,
        stores: Arc::new(Stores::new()),
        egress: Connector::new(Policy::default()),
        worker: tokio::sync::watch::channel(None).1,
        data_dir: folder.path().join("gateway"),
        allow_files: false,
        maxima: gateway::Maxima::default(),
        limits: ServerLimits::default(),
        proxy: gateway::ProxyLimits::default(),
        metrics: None,
    };
    Ok(gateway::serve(options, CancellationToken::new()).await?)
}

async fn host(listener: TcpListener) -> Outcome {
    let folder = tempfile::tempdir()?;
    let host = component_host(folder.path())?;
    let artifact = host.compile(echo()?.into()).await?;
    let component = host.deploy("bench/echo", ComponentSpec::new(artifact))?;
    tokio::task::spawn_blocking(move || serve(listener, Some(component))).await?
}

/// The least that serves: a current-thread runtime a core, each with the whole of hyper's HTTP/1.1 and nothing else.
fn serve(listener: TcpListener, component: Option<Arc<Component>>) -> Outcome {
    listener.set_nonblocking(true)?;
    let cores = std::thread::available_parallelism()?.get();
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            let (listener, component) = (listener.try_clone()?, component.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(std::thread::spawn(move || runtime.block_on(accept(listener, component))))
        })
        .collect::<std::io::Result<_>>()?;
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

async fn accept(listener: TcpListener, component: Option<Arc<Component>>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let component = component.clone();
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            // A client that goes away is no news.
            let _ = match component {
                Some(component) => {
                    let answer = move |request: Request<Incoming>| {
                        let component = component.clone();
                        async move { component.serve(request).await }
                    };
                    http.serve_connection(TokioIo::new(stream), service_fn(answer)).await
                }
                None => {
                    let hello = |_: Request<Incoming>| async {
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello 1\n"))))
                    };
                    http.serve_connection(TokioIo::new(stream), service_fn(hello)).await
                }
            };
        });
    }
}
