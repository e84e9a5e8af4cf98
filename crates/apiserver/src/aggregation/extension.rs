//! Group versions that a part of this process serves, as a server behind an APIService would: requests that were
//! authenticated and authorised here reach it without a socket.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::body::{Body, Sending};

type Serve = dyn Fn(Parts) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// An API that is only read, as a part of this process serves it.
#[derive(Clone)]
pub struct Extension {
    group: &'static str,
    version: &'static str,
    serve: Arc<Serve>,
}

impl Extension {
    /// The group version, and what answers requests for it and for what is below it.
    pub fn new(
        group: &'static str,
        version: &'static str,
        serve: impl Fn(Parts) -> BoxFuture<'static, Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self { group, version, serve: Arc::new(serve) }
    }

    pub(super) fn serves(&self, group: &str, version: &str) -> bool {
        self.group == group && self.version == version
    }

    /// The name of its APIService.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.version, self.group)
    }

    /// The spec of its APIService, as upstream's add-ons have it.
    pub(super) fn spec(&self) -> Value {
        json!({
            "group": self.group, "version": self.version, "groupPriorityMinimum": 100, "versionPriority": 100,
        })
    }

    pub(crate) async fn answer(&self, request: Request<Sending>) -> Response<Body> {
        let (parts, _) = request.into_parts();
        (self.serve)(parts).await.map(Body::whole)
    }
}

impl PartialEq for Extension {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.serve, &other.serve)
    }
}

impl std::fmt::Debug for Extension {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Extension({})", self.name())
    }
}
