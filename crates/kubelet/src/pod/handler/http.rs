//! Asking over HTTP, or HTTPS.

use std::net::SocketAddr;

use api::k8s::api::core::v1::HTTPGetAction;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{ANSWER_LIMIT, Target, Trouble, connect, failed};

impl Target {
    /// Asks; the status code and the beginning of the body.
    pub(crate) async fn get(&self, action: &HTTPGetAction) -> Result<(u16, String), Trouble> {
        let port = self.port(&action.port)?;
        let stream = self.connect(action.host.as_deref(), port).await?;
        let peer = stream.peer_addr().map_err(failed)?;
        let request = request(action, peer)?;
        if action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            ask(connect::secured(stream, peer.ip()).await?, request).await
        } else {
            ask(stream, request).await
        }
    }
}

fn request(action: &HTTPGetAction, peer: SocketAddr) -> Result<http::Request<Empty<Bytes>>, Trouble> {
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = http::Request::get(path);
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let named = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let host = match action.host.as_deref().filter(|host| !host.is_empty()) {
        Some(host) => format!("{host}:{}", peer.port()),
        None => peer.to_string(),
    };
    let ours = [("user-agent", "kube-probe/1.36"), ("accept", "*/*"), ("host", host.as_str())];
    for (name, value) in ours.into_iter().filter(|(name, _)| !named(name)) {
        request = request.header(name, value);
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    request.body(Empty::new()).map_err(failed)
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Empty<Bytes>>,
) -> Result<(u16, String), Trouble> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection ends when the other side has said all; the answer may be there already.
        _ = connection => answer.await,
    }
}
