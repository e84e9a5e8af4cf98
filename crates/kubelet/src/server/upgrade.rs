//! Requests that become streams.

use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use streams::{Handshake, Protocol, Purpose, Terms};
use tokio::sync::OwnedSemaphorePermit;

use super::route::Refusal;
use crate::context::Context;

/// A request that asks for streams.
pub(super) struct Upgrade<'a> {
    pub(super) cx: Arc<Context>,
    pub(super) request: &'a mut Request<Incoming>,
    /// The connection's place among those that are served.
    pub(super) place: Arc<OwnedSemaphorePermit>,
}

impl Upgrade<'_> {
    /// Agrees on a protocol. What is served once the answer has gone out ends with the connection, or with the node.
    pub(super) fn begin<S, F>(self, purpose: Purpose, serve: S) -> Result<Response<()>, Refusal>
    where
        S: FnOnce(Terms, TokioIo<Upgraded>, Protocol) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Handshake { protocol, response } = Handshake::new(self.request.headers(), purpose)?;
        let upgraded = hyper::upgrade::on(self.request);
        let terms = Terms::new(self.cx.ambient.clock.clone());
        let place = self.place;
        self.cx.tasks.spawn("streams", async move {
            match upgraded.await {
                Ok(upgraded) => serve(terms, TokioIo::new(upgraded), protocol).await,
                Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
            }
            drop(place);
        });
        Ok(response)
    }
}
