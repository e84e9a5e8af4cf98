//! What can be asked of a node.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use serde_json::json;

use tokio::sync::OwnedSemaphorePermit;

use super::log::{self, LogOptions};
use super::upgrade::Upgrade;
use super::{command, metrics, ports, summary};
use crate::context::Context;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why a request is refused.
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) message: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), headers: Vec::new() }
    }
}

impl From<streams::Refused> for Refusal {
    fn from(refused: streams::Refused) -> Self {
        Self { code: refused.code, message: refused.message, headers: refused.headers }
    }
}

pub(super) async fn answer(
    cx: Arc<Context>,
    admitted: bool,
    request: Request<Incoming>,
    place: Arc<OwnedSemaphorePermit>,
) -> Result<Response<Body>, Infallible> {
    let answered = if admitted {
        route(&cx, request, place).await
    } else {
        Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden"))
    };
    Ok(answered.unwrap_or_else(|refusal| {
        let mut response = text(refusal.code, "text/plain; charset=utf-8", refusal.message);
        for (name, value) in refusal.headers {
            response.headers_mut().append(name, value);
        }
        response
    }))
}

async fn route(
    cx: &Arc<Context>,
    mut request: Request<Incoming>,
    place: Arc<OwnedSemaphorePermit>,
) -> Result<Response<Body>, Refusal> {
    let uri = request.uri().clone();
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    // WebSockets begin with GET, SPDY with POST.
    let streams = matches!(parts[..], ["exec" | "attach" | "portForward", ..]);
    if request.method() != Method::GET && !(streams && request.method() == Method::POST) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
    }
    let upgrade = Upgrade { cx: cx.clone(), request: &mut request, place };
    match parts[..] {
        ["exec", namespace, pod, container] => {
            command::exec(upgrade, namespace, pod, container, query).await.map(switched)
        }
        ["attach", namespace, pod, container] => {
            command::attach(upgrade, namespace, pod, container, query).await.map(switched)
        }
        ["portForward", namespace, pod] => {
            ports::port_forward(upgrade, namespace, pod, query).await.map(switched)
        }
        ["healthz"] => Ok(text(StatusCode::OK, "text/plain; charset=utf-8", "ok")),
        ["pods"] => Ok(pods(cx)),
        ["metrics"] => Ok(page(metrics::own(cx).await)),
        ["metrics", "resource"] => Ok(page(metrics::resource(cx).await)),
        ["metrics", "probes"] => Ok(page(metrics::probes(cx))),
        ["metrics", "cadvisor"] => Ok(page(metrics::cadvisor(cx).await)),
        ["stats", "summary"] => {
            Ok(text(StatusCode::OK, "application/json", summary::summary(cx).await.to_string()))
        }
        ["containerLogs", namespace, pod, container] => {
            let options = LogOptions::parse(query)?;
            let lines = log::open(cx, namespace, pod, container, options).await?;
            Ok(streamed(lines))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    }
}

fn page(page: String) -> Response<Body> {
    text(StatusCode::OK, instruments::TEXT, page)
}

fn switched(head: Response<()>) -> Response<Body> {
    head.map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync())
}

fn text(code: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn streamed(bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Response<Body> {
    let frames = StreamBody::new(bytes.map(|bytes| bytes.map(Frame::data)));
    let mut response = Response::new(frames.boxed_unsync());
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn pods(cx: &Context) -> Response<Body> {
    let items: Vec<_> =
        cx.pods.list().iter().map(|pod| serde_json::to_value(&**pod).unwrap_or_default()).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    text(StatusCode::OK, "application/json", list.to_string())
}
