//! The handler without a socket: a role of the same process calls it as it would over TLS, under its own certificate.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};

use crate::{ApiServer, Body, BodyError, Connection};

/// A connection in memory: what `client`'s in-memory transport calls.
#[derive(Clone, Debug)]
pub struct InMemory {
    server: Arc<ApiServer>,
    connection: Arc<ArcSwap<Connection>>,
    agent: HeaderValue,
}

impl InMemory {
    /// Requests to this server over this connection (see [`ApiServer::connect`]), by a client of that name: what it writes
    /// is managed under it.
    pub fn new(server: Arc<ApiServer>, connection: Connection, agent: &'static str) -> Self {
        let agent = HeaderValue::from_static(agent);
        Self { server, connection: Arc::new(ArcSwap::from_pointee(connection)), agent }
    }

    /// Requests go over this connection from now on: that of a renewed certificate. Those under way go on.
    pub fn renew(&self, connection: Connection) {
        self.connection.store(Arc::new(connection));
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| self.agent.clone());
        let (server, connection) = (self.server.clone(), self.connection.load_full());
        async move { Ok(server.handle(request, &connection).await) }.boxed()
    }
}
