//! The handler without a socket: a role of the same process calls it as it would over TLS, under its own certificate.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};

use crate::{ApiServer, Body, BodyError, Connection};

/// A connection in memory: what `client`'s in-memory transport calls.
#[derive(Clone, Debug)]
pub struct InMemory {
    server: Arc<ApiServer>,
    connection: Arc<Connection>,
}

impl InMemory {
    /// Requests to this server over this connection (see [`ApiServer::connect`]).
    pub fn new(server: Arc<ApiServer>, connection: Connection) -> Self {
        Self { server, connection: Arc::new(connection) }
    }
}

impl<B> tower::Service<Request<B>> for InMemory
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { server, connection } = self.clone();
        async move { Ok(server.handle(request, &connection).await) }.boxed()
    }
}
