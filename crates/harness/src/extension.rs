//! A server of an aggregated API: it keeps `flunders` in memory, as upstream's sample does, and believes who a front proxy says
//! is asking. What else it says is the test's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The group version that it serves.
pub const GROUP_VERSION: &str = "wardle.example.com/v1alpha1";
/// Who may say who is asking.
const PROXY: &[u8] = b"front-proxy-client";

/// A request that it has got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Its headers, with names in lower case.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Its body.
    pub body: Value,
}

impl Asked {
    /// The values of a header.
    pub fn header(&self, name: &str) -> &[String] {
        self.headers.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The server, on a free port of every address of this machine. Dropping it ends it.
pub struct Extension {
    /// Its port.
    pub port: u16,
    /// The certificate of its authority, as a `caBundle`.
    pub ca_bundle: String,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Arc<ServerConfig>,
    asked: Mutex<Vec<Asked>>,
    flunders: Mutex<BTreeMap<String, Value>>,
    /// By path.
    documents: Mutex<BTreeMap<String, Value>>,
    healthy: AtomicBool,
    stopping: AtomicBool,
}

type Stream = BufReader<StreamOwned<ServerConnection, TcpStream>>;

impl Extension {
    /// Starts one for these names that trusts front proxies of this authority (PEM).
    pub fn start(names: &[&str], front_proxies: &str) -> Self {
        let (tls, ca_bundle) = certified(names, front_proxies);
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            tls,
            asked: Mutex::default(),
            flunders: Mutex::default(),
            documents: Mutex::default(),
            healthy: AtomicBool::new(true),
            stopping: AtomicBool::new(false),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = serving.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, ca_bundle, shared }
    }

    /// What it has got so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers so to whoever gets this path from now on.
    pub fn say(&self, path: &str, document: Value) {
        self.shared
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_owned(), document);
    }

    /// Whether it answers with anything but 500 from now on.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::Relaxed);
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Who waits for the next connection gets one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// Serves one connection until the client closes it.
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
        let connection = ServerConnection::new(self.tls.clone()).expect("settings of TLS");
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        while let Some(asked) = request(&mut stream) {
            let shown = stream
                .get_ref()
                .conn
                .peer_certificates()
                .and_then(<[_]>::first)
                .is_some_and(|shown| shown.windows(PROXY.len()).any(|part| part == PROXY));
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
            let done = if !shown {
                answer(&mut stream, 401, &json!({"kind": "Status", "apiVersion": "v1", "code": 401}))
            } else if !self.healthy.load(Ordering::Relaxed) {
                answer(&mut stream, 500, &json!({"kind": "Status", "apiVersion": "v1", "code": 500}))
            } else {
                self.respond(&mut stream, &asked)
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn respond(&self, stream: &mut Stream, asked: &Asked) -> std::io::Result<()> {
        let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let document = self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(document) = document.filter(|_| asked.method == "GET") {
            return answer(stream, 200, &document);
        }
        let root = format!("/apis/{GROUP_VERSION}");
        let rest = path.strip_prefix(root.as_str());
        match (asked.method.as_str(), path, rest) {
            ("GET", "/openapi/v3", _) => answer(
                stream,
                200,
                &json!({"paths": {
                    format!("apis/{GROUP_VERSION}"): {"serverRelativeURL": format!("/openapi/v3/apis/{GROUP_VERSION}?hash=1")},
                }}),
            ),
            ("GET", "/openapi/v2", _) => answer(stream, 200, &openapi_v2()),
            ("GET", path, _) if path == format!("/openapi/v3/apis/{GROUP_VERSION}") => {
                answer(stream, 200, &openapi_v3())
            }
            ("GET", _, Some("")) => answer(stream, 200, &resources()),
            ("GET", _, Some("/echo")) => echo(stream, asked),
            ("GET", _, Some("/namespaces/default/flunders")) if query.contains("watch=true") => {
                self.watch(stream)
            }
            ("GET", _, Some("/namespaces/default/flunders")) => {
                let flunders = self.flunders.lock().unwrap_or_else(PoisonError::into_inner);
                let items: Vec<&Value> = flunders.values().collect();
                answer(
                    stream,
                    200,
                    &json!({"kind": "FlunderList", "apiVersion": GROUP_VERSION,
                    "metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            ("POST", _, Some("/namespaces/default/flunders")) => {
                let mut flunder = asked.body.clone();
                flunder["metadata"]["namespace"] = json!("default");
                flunder["metadata"]["uid"] = json!("1");
                flunder["metadata"]["annotations"]["by"] = json!(asked.header("x-remote-user").join(","));
                let name = flunder["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let mut flunders = self.flunders.lock().unwrap_or_else(PoisonError::into_inner);
                flunders.insert(name, flunder.clone());
                drop(flunders);
                answer(stream, 201, &flunder)
            }
            ("GET", _, Some(rest)) if rest.starts_with("/namespaces/default/flunders/") => {
                let name = rest.rsplit('/').next().unwrap_or_default();
                let flunder = self.flunders.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
                match flunder {
                    Some(flunder) => answer(stream, 200, &flunder),
                    None => answer(
                        stream,
                        404,
                        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "reason": "NotFound", "code": 404, "message": format!("flunders {name:?} not found")}),
                    ),
                }
            }
            ("GET", "/apis/wardle.example.com/v1alpha1/elsewhere", _) => {
                let head = "HTTP/1.1 302 Found\r\nlocation: https://elsewhere/\r\ncontent-length: 0\r\n\r\n";
                write(stream, head.as_bytes())
            }
            _ => answer(
                stream,
                404,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}),
            ),
        }
    }

    /// One event, and then nothing until the client goes.
    fn watch(&self, stream: &mut Stream) -> std::io::Result<()> {
        let event = json!({"type": "ADDED", "object": {"kind": "Flunder", "apiVersion": GROUP_VERSION,
            "metadata": {"name": "watched", "namespace": "default"}}});
        let line = format!("{event}\n");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        write(stream, format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
        let _ = stream.read(&mut [0]);
        Err(std::io::ErrorKind::ConnectionAborted.into())
    }
}

/// Changes protocols, and gives back what it gets.
fn echo(stream: &mut Stream, asked: &Asked) -> std::io::Result<()> {
    if asked.header("upgrade") != ["echo"] {
        return answer(stream, 400, &json!({"kind": "Status", "apiVersion": "v1", "code": 400}));
    }
    write(stream, b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")?;
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        write(stream, &piece[..count])?;
    }
}

fn answer(stream: &mut Stream, code: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {code} Said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    write(stream, (head + &body).as_bytes())
}

fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    let stream = stream.get_mut();
    stream.write_all(bytes).and_then(|()| stream.flush())
}

/// The next request.
fn request(stream: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|values| values.first()?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Asked { method, target, headers, body })
}

fn resources() -> Value {
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
            "shortNames": ["fl"], "verbs": ["create", "get", "list", "watch"]},
    ]})
}

fn definition() -> Value {
    json!({
        "description": "A flunder is what the sample server serves.",
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string", "description": "Its version."},
            "kind": {"type": "string", "description": "Its kind."},
            "metadata": {"type": "object", "description": "Its metadata."},
            "spec": {"type": "object", "description": "What it is to be.", "properties": {
                "reference": {"type": "string", "description": "What it refers to."},
            }},
        },
        "x-kubernetes-group-version-kind":
            [{"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}],
    })
}

fn openapi_v3() -> Value {
    let path = format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/flunders");
    json!({
        "openapi": "3.0.0", "info": {"title": "wardle", "version": "0"},
        "paths": {path: {"get": {"x-kubernetes-action": "list", "responses": {},
            "x-kubernetes-group-version-kind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"}}}},
        "components": {"schemas": {"com.example.wardle.v1alpha1.Flunder": definition()}},
    })
}

fn openapi_v2() -> Value {
    let path = format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/flunders");
    let schema = json!({"$ref": "#/definitions/com.example.wardle.v1alpha1.Flunder"});
    json!({
        "swagger": "2.0", "info": {"title": "wardle", "version": "0"},
        "paths": {path: {"get": {"responses": {"200": {"description": "OK", "schema": schema}}}}, "/version/": {}},
        "definitions": {"com.example.wardle.v1alpha1.Flunder": definition(), "unused": {"type": "string"}},
    })
}

/// An authority, and a server with a certificate of it, which wants to see those of front proxies.
fn certified(names: &[&str], front_proxies: &str) -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let bundle = authority.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(authority, key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let server = CertificateParams::new(names).expect("names");
    let key = KeyPair::generate().expect("a key");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for proxy in CertificateDer::pem_slice_iter(front_proxies.as_bytes()) {
        roots.add(proxy.expect("a certificate")).expect("an authority");
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_client_cert_verifier(verifier.allow_unauthenticated().build().expect("a verifier"))
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    (Arc::new(config), STANDARD.encode(bundle.pem()))
}
