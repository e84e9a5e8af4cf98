//! What can be asked of a node.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use serde_json::json;

use super::log::{self, LogOptions};
use crate::context::Context;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why a request is refused.
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

pub(super) async fn answer(
    cx: Arc<Context>,
    admitted: bool,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let answered = if admitted {
        route(&cx, request.method(), request.uri().path(), request.uri().query().unwrap_or_default()).await
    } else {
        Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden"))
    };
    Ok(answered.unwrap_or_else(|refusal| text(refusal.code, "text/plain; charset=utf-8", refusal.message)))
}

async fn route(
    cx: &Arc<Context>,
    method: &Method,
    path: &str,
    query: &str,
) -> Result<Response<Body>, Refusal> {
    if method != Method::GET {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"));
    }
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["healthz"] => Ok(text(StatusCode::OK, "text/plain; charset=utf-8", "ok")),
        ["pods"] => Ok(pods(cx)),
        ["containerLogs", namespace, pod, container] => {
            let options = LogOptions::parse(query)?;
            let lines = log::open(cx, namespace, pod, container, options).await?;
            Ok(streamed(lines))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    }
}

fn text(code: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn streamed(bytes: BoxStream<'static, std::io::Result<Bytes>>) -> Response<Body> {
    let frames = StreamBody::new(bytes.map(|bytes| bytes.map(Frame::data)));
    let mut response = Response::new(frames.boxed_unsync());
    let kind = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

fn pods(cx: &Context) -> Response<Body> {
    let items: Vec<_> =
        cx.pods.list().iter().map(|pod| serde_json::to_value(&**pod).unwrap_or_default()).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    text(StatusCode::OK, "application/json", list.to_string())
}
