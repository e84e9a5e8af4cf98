//! The way from the server to the kubelets.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::StatusCode;

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
}
