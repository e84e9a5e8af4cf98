//! Requests that somebody else answers: the servers of aggregated APIs, kubelets, pods. Bodies go through piece by piece,
//! each way, as fast as the slower side takes them, and are never whole in memory.
//!
//! Owns: which headers go on (`headers`), bodies that must not stand still (`idle`), streams in other protocols (`tunnel`),
//! and links in answers that lead back to the other side (`links`, `html`, `rewriting`). Never does: decide whom to ask. Begin with [`send`].

pub(crate) mod headers;
mod html;
mod idle;
mod links;
mod rewriting;
mod tunnel;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyDataStream, BodyExt};
use hyper_util::rt::TokioIo;

pub(crate) use idle::Idle;
pub(crate) use links::{Links, cleaned};
pub(crate) use rewriting::rewritten;
pub(crate) use tunnel::{client_of, join};

use crate::body::{Body, BodyError, Sending};
use crate::dial::{Duplex, NodeAddress, NodeReply};
use crate::outgoing::{SendError, Server};
use crate::server::ApiServer;

/// How long nothing may move of a body or on a stream: as long as kubelets keep such.
pub(crate) const IDLE: Duration = Duration::from_secs(4 * 60 * 60);

/// Who is asked.
pub(crate) enum To {
    Server(Server),
    Kubelet(NodeAddress),
}

/// What came back.
pub(crate) enum Reply {
    Answered(Response<Body>),
    /// The other side has changed protocols, with this head.
    Switched(HeaderMap, Box<dyn Duplex>),
}

/// A client's body, on its way to somebody else.
pub(crate) fn onward<B>(server: &ApiServer, body: B) -> Sending
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    Idle::new(body, server.clock.clone(), IDLE).boxed_unsync()
}

/// Sends a request, to which headers were chosen already. The caller bounds how long the answer's head may take; of its body
/// something has to come within `idle`.
pub(crate) async fn send(
    server: &ApiServer,
    to: &To,
    request: Request<Sending>,
    idle: Duration,
) -> Result<Reply, SendError> {
    match to {
        To::Kubelet(node) => {
            let reply = server.dialer.send(node, request).await.map_err(|error| SendError::of(&error))?;
            Ok(match reply {
                NodeReply::Switched(head, stream) => Reply::Switched(head, stream),
                NodeReply::Answered(answer) => {
                    let body = backward(server, Body::stream(answer.body), idle);
                    Reply::Answered(Response::from_parts(answer.head, body))
                }
            })
        }
        To::Server(to) if headers::ask_upgrade(request.headers()) => {
            let mut response = server.outgoing.upgrade(to, request).await?;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Reply::Answered(response.map(|body| backward(server, body, idle))));
            }
            let stream = hyper::upgrade::on(&mut response).await.map_err(|error| SendError::of(&error))?;
            let (head, _) = response.into_parts();
            Ok(Reply::Switched(head.headers, Box::new(TokioIo::new(stream))))
        }
        To::Server(to) => {
            let response = server.outgoing.send(to, request).await?;
            Ok(Reply::Answered(response.map(|body| backward(server, body, idle))))
        }
    }
}

fn backward<B>(server: &ApiServer, body: B, idle: Duration) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    Body::stream(BodyDataStream::new(Idle::new(body, server.clock.clone(), idle)))
}
