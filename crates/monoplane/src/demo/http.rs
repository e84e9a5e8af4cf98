//! A plain HTTP client for the demo: what a browser or curl would send, and what came back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// No reply of the demo's guests is larger.
const REPLY_LIMIT: usize = 1 << 20;
/// Long enough to wait through a restart.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// One request, written down.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The verb.
    pub method: Method,
    /// The host it names, which the gateway routes by.
    pub host: String,
    /// The path and query.
    pub path: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Ask {
    /// A GET.
    pub fn get(host: &str, path: &str) -> Self {
        Self {
            method: Method::GET,
            host: host.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// A POST.
    pub fn post(host: &str, path: &str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(host, path) }
    }

    /// With one more header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }
}

/// Sends it on a connection of its own.
pub async fn send(address: SocketAddr, ask: &Ask) -> Result<Answer> {
    tokio::time::timeout(REPLY_WITHIN, exchange(address, ask)).await.context("no reply in time")?
}

async fn exchange(address: SocketAddr, ask: &Ask) -> Result<Answer> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(&ask.method).uri(&ask.path).header(HOST, &ask.host);
    if !ask.body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    let exchange = async {
        let response = sender.send_request(request.body(Full::new(ask.body.clone()))?).await?;
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, REPLY_LIMIT).collect().await.map_err(|e| anyhow::anyhow!(e))?.to_bytes();
        anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // The connection ends before the answer only when it broke; the exchange then says how.
        _ = &mut connection => exchange.await,
    }
}
