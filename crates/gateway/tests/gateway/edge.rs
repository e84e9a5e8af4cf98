//! A gateway in a temporary directory, and a client of it.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use capabilities::Stores;
use client::Ambient;
use egress::{Connector, Policy};
use gateway::{Options, ServerLimits};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wasm::{CompileLimits, Compiler, Config, Host, MacKey, Pool};

use crate::api::FakeApi;

/// A running gateway.
pub struct Edge {
    pub address: SocketAddr,
    /// Where it speaks TLS.
    pub tls_address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), gateway::Error>>,
    worker: durable::Worker,
    /// What the gateway knows of the worker.
    pub workers: watch::Sender<Option<durable::Worker>>,
}

/// The example next to this test, which is also the child that compiles.
fn compiler() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join("examples/edge");
    assert!(path.exists(), "{} is missing: cargo build -p gateway --example edge", path.display());
    path
}

impl Edge {
    /// Starts a gateway whose files are in `folder`, be they there already or not.
    pub async fn start(folder: &Path, api: &FakeApi) -> Self {
        Self::start_with(folder, api, |_| ()).await
    }

    pub async fn start_with(folder: &Path, api: &FakeApi, change: impl FnOnce(&mut Options)) -> Self {
        let compiler = Compiler::new(compiler(), ["compile-component"], CompileLimits::default());
        let key = MacKey::load_or_create(&folder.join("key")).unwrap();
        let egress = Connector::new(Policy::default());
        let mut config = Config::new(folder.join("cache"), key, compiler, egress.clone());
        config.pool = Pool { instances: 64, ..Pool::default() };
        let host = Host::new(config).unwrap();
        let (ambient, stop) = (Ambient::system(), CancellationToken::new());
        let worker = durable::Worker::open(
            Box::new(durable::FileStorage::open(&folder.join("journal.db")).unwrap()),
            Arc::new(host.clone()),
            ambient.clock.clone(),
            &*ambient.random,
            durable::Config::default(),
            CancellationToken::new(),
        )
        .await
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tls = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls_address = tls.local_addr().unwrap();
        let (workers, known) = watch::channel(Some(worker.clone()));
        let mut options = Options {
            listeners: vec![listener],
            tls_listeners: vec![tls],
            default_certificate: None,
            addresses: vec!["192.0.2.80".into()],
            trusted: Vec::new(),
            client: api.client(),
            ambient,
            node: Some("test".into()),
            host,
            stores: Arc::new(Stores::new()),
            egress,
            worker: known,
            data_dir: folder.join("gateway"),
            allow_files: false,
            maxima: gateway::Maxima::default(),
            limits: ServerLimits {
                threads: 2,
                head_timeout: Duration::from_secs(2),
                ..ServerLimits::default()
            },
            proxy: gateway::ProxyLimits::default(),
            metrics: None,
        };
        change(&mut options);
        let serving = tokio::spawn(gateway::serve(options, stop.clone()));
        Self { address, tls_address, stop, serving, worker, workers }
    }

    /// The durable worker.
    pub fn worker(&self) -> durable::Worker {
        self.worker.clone()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        self.worker.stop().await;
    }

    /// Begins the stop and gives what ends with it.
    pub fn begin_stop(self) -> JoinHandle<Result<(), gateway::Error>> {
        self.stop.cancel();
        self.serving
    }

    pub async fn get(&self, url: &str) -> Reply {
        self.send(Request::get(url), "").await
    }

    pub async fn send(&self, request: http::request::Builder, body: &str) -> Reply {
        send(self.address, request, body).await
    }
}

/// A reply, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request on a connection of its own: HTTP/2 if the request says so.
pub async fn send(address: SocketAddr, request: http::request::Builder, body: &str) -> Reply {
    let mut request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let response = if request.version() == http::Version::HTTP_2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let host = request.uri().authority().unwrap().as_str().parse().unwrap();
        request.headers_mut().entry("host").or_insert(host);
        *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Reply { status: head.status, headers: head.headers, text }
}

/// The spec of an example component on one route.
pub fn spec(guest: &str, host: Option<&str>, path: &str) -> Value {
    let file = format!("{}/../../examples/{guest}/{guest}.wasm", env!("CARGO_MANIFEST_DIR"));
    let source = base64::engine::general_purpose::STANDARD.encode(std::fs::read(file).unwrap());
    json!({ "source": { "inline": source }, "routes": [{ "host": host, "path": path }] })
}

/// A spec with more fields.
pub fn with(mut spec: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    spec
}
