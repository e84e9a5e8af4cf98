//! Servers behind Services, and the objects that lead to them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use egress::Policy;
use futures::stream;
use gateway::Options;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use crate::api::FakeApi;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server that tells what it was asked.
pub struct Upstream {
    pub address: SocketAddr,
    /// Connections that were ever accepted, and those that are open.
    pub accepted: Arc<AtomicUsize>,
    pub open: Arc<AtomicUsize>,
    /// Requests that were ever begun.
    pub requests: Arc<AtomicUsize>,
    /// Lets one `/gate` go on for each permit.
    pub gate: Arc<Semaphore>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    /// Starts one that calls itself so.
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let [accepted, open, requests] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let (counts, waits) = ([accepted.clone(), open.clone(), requests.clone()], gate.clone());
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let ([accepted, open, requests], gate) = (counts.clone(), waits.clone());
                accepted.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        requests.fetch_add(1, Ordering::SeqCst);
                        let gate = gate.clone();
                        async move { Ok::<_, Infallible>(answer(name, request, &gate).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, accepted, open, requests, gate, serving }
    }

    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many connections are open.
    pub async fn until_open(&self, count: usize) {
        until("connections are open", || self.open.load(Ordering::SeqCst) == count).await;
    }

    /// Waits until so many requests have begun.
    pub async fn until_begun(&self, count: usize) {
        until("requests have begun", || self.count() >= count).await;
    }
}

/// Waits for what another task brings about.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

async fn answer(name: &str, mut request: Request<Incoming>, gate: &Semaphore) -> Response<Body> {
    match request.uri().path() {
        "/upgrade" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgraded.await.unwrap());
                let mut buffer = [0; 64];
                while let Ok(read) = stream.read(&mut buffer).await
                    && read > 0
                {
                    stream.write_all(&buffer[..read].to_ascii_uppercase()).await.unwrap();
                }
            });
            let reply = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            reply.header("connection", "upgrade").header("upgrade", "shout").body(whole("")).unwrap()
        }
        // What is sent comes back frame by frame, and its trailers with a word more.
        "/echo" => {
            let (sender, receiver) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut trailers = HeaderMap::new();
                while let Some(Ok(frame)) = body.frame().await {
                    match frame.into_data() {
                        Ok(data) => drop(sender.send(Frame::data(data))),
                        Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                    }
                }
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let _ = sender.send(Frame::trailers(trailers));
            });
            let frames = stream::unfold(receiver, |mut receiver| async move {
                Some((Ok(receiver.recv().await?), receiver))
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        "/gate" => {
            gate.acquire().await.unwrap().forget();
            Response::new(whole(name.to_owned()))
        }
        "/hang" => std::future::pending().await,
        _ => {
            let headers: Vec<(String, String)> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            let (method, uri) = (request.method().to_string(), request.uri().to_string());
            let version = format!("{:?}", request.version());
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or(0);
            let told = json!({ "name": name, "method": method, "uri": uri, "version": version,
                "headers": headers, "body": body });
            let reply = Response::builder().header("keep-alive", "timeout=1").header("x-from", name);
            reply.body(whole(told.to_string())).unwrap()
        }
    }
}

/// What a server does with a connection of its own.
pub async fn raw<F, G>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> G + Send + 'static,
    G: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, number));
            number += 1;
        }
    });
    address
}

/// Reads a request's head; false when the client has gone.
pub async fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Lets the gateway reach servers of this test.
pub fn reach_tests(options: &mut Options) {
    let policy = Policy { allow: vec!["127.0.0.1".parse().unwrap()], ..Policy::default() };
    options.egress = egress::Connector::new(policy);
}

/// An API with the class, in which Ingresses are.
pub fn api() -> FakeApi {
    let api = FakeApi::new();
    api.place(
        "ingressclasses",
        json!({ "metadata": { "name": "monoplane" }, "spec": { "controller": "monoplane.dev/gateway" } }),
    );
    api
}

/// Places a Service of one port, 80 named `http`, with these endpoints.
pub fn service(api: &FakeApi, namespace: &str, name: &str, endpoints: &[SocketAddr], port: Value) {
    let mut given = json!({ "name": "http", "port": 80 });
    for (field, value) in port.as_object().unwrap() {
        given[field] = value.clone();
    }
    api.place(
        "services",
        json!({ "metadata": { "namespace": namespace, "name": name }, "spec": { "ports": [given] } }),
    );
    slices(api, namespace, name, endpoints);
}

/// Makes these the endpoints of a Service: a slice for each, for each has a port of its own.
pub fn slices(api: &FakeApi, namespace: &str, name: &str, endpoints: &[SocketAddr]) {
    for index in 0..8 {
        let slice = format!("{name}-{index}");
        match endpoints.get(index) {
            None => api.delete("endpointslices", namespace, &slice),
            Some(address) => api.place(
                "endpointslices",
                json!({
                    "metadata": { "namespace": namespace, "name": slice,
                        "labels": { "kubernetes.io/service-name": name } },
                    "addressType": "IPv4",
                    "ports": [{ "name": "http", "port": address.port(), "protocol": "TCP" }],
                    "endpoints": [{ "addresses": [address.ip().to_string()], "conditions": { "ready": true } }],
                }),
            ),
        }
    }
}

/// Places an Ingress of our class.
pub fn ingress(api: &FakeApi, namespace: &str, name: &str, mut spec: Value) {
    spec["ingressClassName"] = "monoplane".into();
    api.place("ingresses", json!({ "metadata": { "namespace": namespace, "name": name }, "spec": spec }));
}

/// A rule that sends all of a host to a Service.
pub fn rule(host: &str, service: &str) -> Value {
    json!({ "host": host, "http": { "paths": [path("/", "Prefix", service)] } })
}

pub fn path(path: &str, kind: &str, service: &str) -> Value {
    json!({ "path": path, "pathType": kind, "backend": backend(service) })
}

pub fn backend(service: &str) -> Value {
    json!({ "service": { "name": service, "port": { "number": 80 } } })
}
