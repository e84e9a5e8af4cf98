//! The end that connected.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use bytes::Bytes;
use clock::Clock;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};

use crate::beat::{beat, within};
use crate::{Error, FRAMES, HEAD, SILENCE, STREAMS, Stream, UNSENT, WINDOW, WINDOWS};

/// Answers what the other end asks for, until the tunnel ends; it ends at once when this is dropped. `dial` judges an address
/// (`HOST:PORT`) and connects to it, in a bounded time, or says why not.
///
/// # Errors
/// Why it has ended, unless the other end ended it in order.
pub async fn answer<T, D, F, S>(connection: T, clock: Arc<dyn Clock>, dial: D) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
    D: Fn(String) -> F,
    F: Future<Output = Result<S, String>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS as u32)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_header_list_size(HEAD)
        .max_send_buffer_size(UNSENT)
        .data_frame_budget(FRAMES);
    let mut tunnel = within(SILENCE, &*clock, builder.handshake(connection)).await?;
    let mut beat = std::pin::pin!(beat(tunnel.ping_pong(), clock));
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            asked = tunnel.accept() => match asked {
                None => return Ok(()),
                Some(asked) => {
                    let (request, mut respond) = asked?;
                    // What the other end has reset is none of its streams any more, and one of these until it is looked at.
                    if streams.len() < 2 * STREAMS {
                        streams.push(pass(request, respond, &dial));
                    } else {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    }
                }
            },
            Some(()) = streams.next() => {}
            error = &mut beat => return Err(error),
        }
    }
}

/// One stream, from its request to its end.
async fn pass<D, F, S>(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, dial: &D)
where
    D: Fn(String) -> F,
    F: Future<Output = Result<S, String>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let is_connect = request.method() == Method::CONNECT;
    let to = match request.uri().authority().filter(|_| is_connect) {
        Some(to) => to.to_string(),
        None => return refuse(respond, StatusCode::METHOD_NOT_ALLOWED, "only CONNECT is understood".into()),
    };
    let dialled = tokio::select! {
        dialled = dial(to) => dialled,
        _ = poll_fn(|context| respond.poll_reset(context)) => return,
    };
    let mut dialled = match dialled {
        Ok(dialled) => dialled,
        Err(why) => return refuse(respond, StatusCode::BAD_GATEWAY, why),
    };
    let Ok(to) = respond.send_response(Response::new(()), false) else { return };
    let mut stream = Stream::new(to, request.into_body(), None);
    if let Err(error) = copy_bidirectional(&mut stream, &mut dialled).await {
        tracing::debug!(%error, "a stream of the tunnel broke");
    }
}

fn refuse(mut respond: SendResponse<Bytes>, code: StatusCode, why: String) {
    let mut response = Response::new(());
    *response.status_mut() = code;
    // An error says that the other end is gone: then there is nobody to tell.
    if let Ok(mut to) = respond.send_response(response, false) {
        let _ = to.send_data(why.into(), true);
    }
}
