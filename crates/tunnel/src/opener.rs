//! The end that was connected to.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use clock::Clock;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use http::uri::{Authority, Uri};
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::beat::{beat, within};
use crate::{Error, FRAMES, HEAD, REASON, SILENCE, STREAMS, Stream, UNSENT, WINDOW, WINDOWS};

/// Opens streams to the other end of a tunnel. Clones open them through the same one.
#[derive(Clone, Debug)]
pub struct Opener {
    requests: SendRequest<Bytes>,
    places: Arc<Semaphore>,
}

impl Opener {
    /// Over a connection that the other end made. The second is the tunnel itself: it lives as long as that is polled, and says
    /// why it has ended.
    ///
    /// # Errors
    /// When the connection ends at once, or takes nothing.
    pub async fn over<T>(
        connection: T,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = Option<Error>>), Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOWS)
            .max_header_list_size(HEAD)
            .max_send_buffer_size(UNSENT)
            .data_frame_budget(FRAMES);
        let (requests, mut tunnel) = within(SILENCE, &*clock, builder.handshake(connection)).await?;
        let beat = beat(tunnel.ping_pong(), clock);
        let tunnel = async move {
            tokio::select! {
                ended = tunnel => ended.err().map(Error::Broken),
                error = beat => Some(error),
            }
        };
        Ok((Self { requests, places: Arc::new(Semaphore::new(STREAMS)) }, tunnel))
    }

    /// A stream to an address, `HOST:PORT`, as the other end sees it. How long that may take is the caller's to say.
    ///
    /// # Errors
    /// When the other end does not connect to it, there are too many streams, or the tunnel has ended.
    pub async fn open(&self, to: &str) -> Result<Stream, Error> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Error::Full)?;
        let mut requests = self.requests.clone().ready().await?;
        let (answer, stream) = requests.send_request(request(to)?, false)?;
        let (head, mut from) = answer.await?.into_parts();
        match head.status {
            StatusCode::OK => Ok(Stream::new(stream, from, Some(place))),
            code => Err(Error::Refused(reason(&mut from).await.unwrap_or_else(|| code.to_string()))),
        }
    }
}

fn request(to: &str) -> Result<Request<()>, Error> {
    let no_address = || Error::Address(to.to_owned());
    let authority: Authority = to.parse().map_err(|_| no_address())?;
    if authority.port_u16().is_none() {
        return Err(no_address());
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from(authority);
    Ok(request)
}

/// What the other end says of why it does not connect.
async fn reason(from: &mut RecvStream) -> Option<String> {
    let mut text = from.data().await?.ok()?;
    text.truncate(REASON);
    Some(String::from_utf8_lossy(&text).into_owned()).filter(|text| !text.is_empty())
}
