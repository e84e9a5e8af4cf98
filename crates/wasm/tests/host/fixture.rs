//! A host in a temporary directory, and requests to it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use capabilities::{Embedded, Store};
use egress::{Connector, Policy};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use wasm::{
    Artifact, CompileLimits, Compiler, Component, ComponentSpec, Config, Host, LogSink, LogStream, MacKey,
    Pool,
};

pub(crate) struct Fixture {
    pub(crate) host: Host,
    pub(crate) logs: Arc<Lines>,
    pub(crate) directory: tempfile::TempDir,
}

#[derive(Default)]
pub(crate) struct Lines(Mutex<Vec<String>>);

impl LogSink for Lines {
    fn line(&self, component: &str, stream: LogStream, line: &str) {
        self.0.lock().unwrap().push(format!("{component} {stream:?} {line}"));
    }
}

impl Lines {
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) fn compiler(limits: CompileLimits) -> Compiler {
    Compiler::new(env!("CARGO_BIN_EXE_compile-component"), [""; 0], limits)
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::allowing(Policy::default())
    }

    /// Tests share their cache of artifacts: a compiler that was not optimised itself takes seconds for each.
    pub(crate) fn allowing(policy: Policy) -> Self {
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("artifacts");
        Self::caching(cache, tempfile::tempdir().unwrap(), policy, CompileLimits::default())
    }

    /// With a cache of its own: it compiles.
    pub(crate) fn compiling(limits: CompileLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        Self::caching(cache, directory, Policy::default(), limits)
    }

    fn caching(cache: PathBuf, directory: tempfile::TempDir, policy: Policy, limits: CompileLimits) -> Self {
        let logs = Arc::new(Lines::default());
        let mut config = Config::new(cache, MacKey::new(&[7; 32]), compiler(limits), Connector::new(policy));
        config.pool = Pool { instances: 64, ..Pool::default() };
        config.logs = logs.clone();
        Self { host: Host::new(config).unwrap(), logs, directory }
    }

    pub(crate) async fn compiled(&self, guest: &str) -> Artifact {
        self.host.compile(bytes_of(guest)).await.unwrap()
    }

    pub(crate) async fn spec(&self, guest: &str) -> ComponentSpec {
        ComponentSpec::new(self.compiled(guest).await)
    }

    /// A guest with nothing granted.
    pub(crate) async fn deployed(&self, guest: &str) -> Arc<Component> {
        self.host.deploy(&format!("test/{guest}"), self.spec(guest).await).unwrap()
    }

    pub(crate) async fn store(&self, name: &str) -> Store {
        let path = self.directory.path().join(name);
        Store::standing_alone(name, Arc::new(Embedded::open(&path).await.unwrap()))
    }
}

pub(crate) fn bytes_of(guest: &str) -> Bytes {
    let path = format!("{}/../../examples/{guest}/{guest}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap().into()
}

pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://test.local{path}")).body(Empty::new()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://test.local{path}")).body(Full::new(body.into())).unwrap()
}

/// Status and body of an answer.
pub(crate) async fn text(response: Response<wasm::Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.into()).unwrap())
}

pub(crate) async fn ask(component: &Arc<Component>, path: &str) -> (u16, String) {
    text(component.serve(get(path)).await.unwrap()).await
}

/// A server on loopback that answers `METHOD path key=…` to everything, and counts.
pub(crate) struct Peer {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = log.clone();
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let log = log.clone();
                    async move {
                        let key = request
                            .headers()
                            .get("idempotency-key")
                            .map_or("none", |key| key.to_str().unwrap());
                        let line = format!("{} {} key={key}", request.method(), request.uri().path());
                        log.lock().unwrap().push(line.clone());
                        Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(line))))
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { allow: vec![self.address.to_string().parse().unwrap()], ..Policy::default() }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Long enough for anything that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[async_trait]
pub(crate) trait Within: std::future::Future + Sized + Send {
    async fn within(self) -> Self::Output
    where
        Self::Output: Send,
    {
        tokio::time::timeout(PATIENCE, self).await.expect("took too long")
    }
}

impl<F: std::future::Future + Send> Within for F {}
