//! The way from the server to the kubelets.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, Request};

use crate::body::{BodyError, Sending};

/// Where a node's kubelet listens, as its Node object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node's name.
    pub name: String,
    /// Address or host name.
    pub host: String,
    /// Port of the kubelet.
    pub port: u16,
}

/// What a kubelet answered.
pub struct NodeAnswer {
    /// HTTP status and headers.
    pub head: http::response::Parts,
    /// The body as it comes.
    pub body: BoxStream<'static, Result<Bytes, BodyError>>,
}

/// Bytes both ways.
pub trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// What became of a request to a kubelet.
pub enum NodeReply {
    /// It was answered, and if it asked for another protocol it did not get it.
    Answered(NodeAnswer),
    /// It has changed protocols, with this head, and from here on nothing is HTTP's.
    Switched(HeaderMap, Box<dyn Duplex>),
}

/// Why a kubelet cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection, no trust, or no answer.
    #[error("{0}")]
    Unreachable(String),
}

/// Asks a node's kubelet. All that the server wants of nodes goes through here, whatever way leads to them.
#[async_trait]
pub trait NodeDialer: Send + Sync {
    /// Sends a request; the answer's head is there in a bounded time, its body goes on for as long as it likes.
    async fn send(&self, node: &NodeAddress, request: Request<Sending>) -> Result<NodeReply, DialError>;
}
