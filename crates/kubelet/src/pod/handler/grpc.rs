//! Asking by gRPC's health checking protocol: one request with the name of a service, one answer with how it fares.
//!
//! Its two messages have one field each, so they are written and read here.

use api::k8s::api::core::v1::GRPCAction;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{ANSWER_LIMIT, Target, Trouble, failed};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// The one answer that is good.
const SERVING: u8 = 1;
/// A message's compression flag and length.
const PREFIX: usize = 5;

impl Target {
    /// Asks how a service of the container fares.
    pub(crate) async fn grpc(&self, action: &GRPCAction) -> Result<(), Trouble> {
        let port = u16::try_from(action.port);
        let port = port.map_err(|_| failed(format!("invalid port number: {}", action.port)))?;
        let stream = self.connect(None, port).await?;
        let peer = stream.peer_addr().map_err(failed)?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(failed)?;
        let request = http::Request::post(format!("http://{peer}{METHOD}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/1.36")
            .body(Full::new(message(action.service.as_deref().unwrap_or_default())))
            .map_err(failed)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let mut status = response.headers().get("grpc-status").cloned();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(failed)?;
            if let Some(trailers) = body.trailers() {
                status = trailers.get("grpc-status").cloned().or(status);
            }
            let status = status.as_ref().and_then(|status| status.to_str().ok()).unwrap_or("none");
            if status != "0" {
                return Err(failed(format!("the health check failed with gRPC status {status}")));
            }
            match serving(&body.to_bytes()) {
                true => Ok(()),
                false => Err(failed("service unhealthy")),
            }
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }
}

/// The request: field 1, the service's name.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            body.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        body.put_u8(length as u8);
        body.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(PREFIX + body.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    framed.put_slice(&body);
    framed.freeze()
}

/// Whether the answer's field 1 says that it serves.
fn serving(framed: &[u8]) -> bool {
    let Some((prefix, body)) = framed.split_at_checked(PREFIX) else { return false };
    // Uncompressed, as nothing else was asked for.
    prefix[0] == 0 && body == [1 << 3, SERVING]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 10, 2, b'a', b'b']);
        let long = message(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 10, 0xc8, 1]);
        assert!(serving(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(!serving(&[0, 0, 0, 0, 2, 8, 2]) && !serving(&[0, 0, 0, 0, 0]) && !serving(&[]));
    }
}
