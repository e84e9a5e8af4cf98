//! The way from the server to the kubelets.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, Request, StatusCode};

use crate::body::BodyError;

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
    /// HTTP status.
    pub code: StatusCode,
    /// The body as it comes.
    pub body: BoxStream<'static, Result<Bytes, BodyError>>,
}

/// Bytes both ways.
pub trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// What a kubelet answered to a request to change protocols.
pub enum NodeUpgrade {
    /// It has, with this head, and from here on nothing is HTTP's.
    Switched(HeaderMap, Box<dyn Duplex>),
    /// It has not.
    Refused(NodeAnswer),
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
    /// The answer to a GET of `path` (with its query).
    async fn get(&self, node: &NodeAddress, path: &str) -> Result<NodeAnswer, DialError>;

    /// The answer to a request without a body that asks for another protocol.
    async fn upgrade(&self, node: &NodeAddress, request: Request<()>) -> Result<NodeUpgrade, DialError>;
}
