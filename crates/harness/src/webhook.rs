//! A webhook: an HTTPS server whose answers a test makes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// One request that a webhook has got.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Path and query.
    pub target: String,
    /// The body.
    pub body: Value,
    /// Number of the connection that it came over.
    pub connection: usize,
}

/// What a webhook says to a path and a body; `None`: nothing, ever.
type Answer = dyn Fn(&str, &Value) -> Option<Value> + Send + Sync;

/// A webhook on a free port of every address of this machine. Dropping it ends it.
pub struct Webhook {
    /// Its port.
    pub port: u16,
    /// The certificate of its authority, as a `caBundle`.
    pub ca_bundle: String,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Arc<ServerConfig>,
    answer: Box<Answer>,
    heard: Mutex<Vec<Heard>>,
    connections: AtomicUsize,
    /// To be closed in the end.
    open: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

impl Webhook {
    /// Starts one with a certificate for loopback and these names.
    pub fn start(
        names: &[&str],
        answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let (tls, ca_bundle) = certified(names);
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            tls,
            answer: Box::new(answer),
            heard: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
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

    /// Its URL at that path.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// What it has got so far, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Who waits for the next connection gets one.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    /// Serves one connection until the client closes it.
    fn serve(&self, stream: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(120)));
        let clone = stream.try_clone().expect("a socket twice");
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(clone);
        let connection = ServerConnection::new(self.tls.clone()).expect("settings of TLS");
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        while let Some((target, body)) = request(&mut stream) {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let heard = Heard { target: target.clone(), body: body.clone(), connection: number };
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
            let Some(answer) = (self.answer)(&target, &body) else {
                // Until the client has lost its patience.
                let _ = stream.read(&mut [0]);
                return;
            };
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            let stream = stream.get_mut();
            if stream.write_all((head + &answer).as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }
}

/// The next request: its target and its body.
fn request(stream: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let target = line.split_whitespace().nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok()?;
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((target, body))
}

/// An authority, and a server with a certificate of it.
fn certified(names: &[&str]) -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let bundle = authority.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(authority, key);
    let names = ["127.0.0.1", "localhost"].iter().chain(names).map(|name| (*name).to_owned());
    let server = CertificateParams::new(names.collect::<Vec<_>>()).expect("names");
    let key = KeyPair::generate().expect("a key");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    (Arc::new(config), STANDARD.encode(bundle.pem()))
}
