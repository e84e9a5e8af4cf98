//! What goes wrong between this machine and a registry.

use http::StatusCode;

/// Why a registry gave nothing, or took nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no connection, or none is allowed.
    #[error("{0}")]
    Connect(#[from] egress::Error),
    /// A connection broke, or nothing came for too long.
    #[error("{url}: {why}")]
    Broken {
        /// What was asked for.
        url: String,
        /// What happened.
        why: String,
    },
    /// It has no such thing, or says so to whom it does not know.
    #[error("{url}: not found{said}")]
    NotFound {
        /// What was asked for.
        url: String,
        /// The registry's own words, after a colon.
        said: String,
    },
    /// It wants to know who asks, or refuses who does.
    #[error("{url}: authorization failed{said}")]
    Denied {
        /// What was asked for.
        url: String,
        /// The registry's own words, after a colon.
        said: String,
    },
    /// Any other answer that is not the one hoped for.
    #[error("{url}: unexpected status {status}{said}")]
    Status {
        /// What was asked for.
        url: String,
        /// Its answer.
        status: StatusCode,
        /// The registry's own words, after a colon.
        said: String,
    },
    /// It says something that makes no sense.
    #[error("{url}: {why}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The configuration of registries is wrong; the message names the field.
    #[error("{0}")]
    Config(String),
}

impl RegistryError {
    pub(crate) fn broken(url: &impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Broken { url: url.to_string(), why: why.to_string() }
    }

    pub(crate) fn protocol(url: &impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Protocol { url: url.to_string(), why: why.to_string() }
    }

    /// Whether the same request may go well a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Connect(egress::Error::Refused { .. } | egress::Error::Tls { .. }) => false,
            Self::Connect(_) => true,
            Self::Status { status, .. } => is_transient(*status),
            _ => false,
        }
    }
}

/// Whether a server that answers so may answer otherwise a moment later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}
