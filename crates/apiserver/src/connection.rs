//! Who is at the other end of a connection: found out once, used for every request on it.

use std::net::SocketAddr;
use std::sync::Arc;

use auth::UserInfo;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

/// One connection, over a socket or in memory. Both kinds are made by [`crate::ApiServer::connect`], which verifies the
/// certificates the same way.
#[derive(Debug)]
pub struct Connection {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) certified: Option<Certified>,
}

/// The user of a verified certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) user: Arc<UserInfo>,
    pub(crate) not_after: i64,
}

impl Connection {
    /// The user that the client's certificate names, while the certificate is valid. A connection may outlive it.
    pub(crate) fn user_at(&self, now: Timestamp) -> Option<&Arc<UserInfo>> {
        self.certified.as_ref().filter(|certified| now.as_second() <= certified.not_after).map(|it| &it.user)
    }

    /// The address that the client connects from; `None` in memory.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }
}

/// Why a connection cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The chain does not lead to the plane's authority, or may not be used by a client.
    #[error("client certificate: {0}")]
    Untrusted(#[from] rustls::Error),
    /// The certificate names no user.
    #[error(transparent)]
    Nameless(#[from] auth::CertificateError),
}

/// Certificates that a client presented, its own first.
pub type Chain<'a> = &'a [CertificateDer<'a>];
