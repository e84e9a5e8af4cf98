//! Which backends there are, and how each is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use egress::Connector;

use crate::{Embedded, Error, KeyValue, Redis};

/// What an operator chose to put behind a store.
#[derive(Clone, PartialEq, Eq)]
pub enum Backend {
    /// A file of this process's own.
    Embedded {
        /// Where it is; its directory must exist.
        path: PathBuf,
    },
    /// A Redis server, or one that speaks its protocol.
    Redis {
        /// `redis://[user:password@]host[:port][/db]`.
        address: String,
        /// Put in front of every key, so that several stores can share a database.
        key_prefix: String,
    },
}

impl Backend {
    /// Opens it. That it answers is for [`KeyValue::check`] to say.
    pub(crate) async fn open(&self, egress: &Connector) -> Result<Arc<dyn KeyValue>, Error> {
        Ok(match self {
            Self::Embedded { path } => Arc::new(Embedded::open(path).await?),
            Self::Redis { address, key_prefix } => Arc::new(Redis::new(address, key_prefix, egress.clone())?),
        })
    }
}

impl fmt::Debug for Backend {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { path } => f.debug_struct("Embedded").field("path", path).finish(),
            Self::Redis { key_prefix, .. } => {
                f.debug_struct("Redis").field("key_prefix", key_prefix).finish_non_exhaustive()
            }
        }
    }
}
