//! Who is at the other end of a connection: found out once, used for every request on it.

use std::net::SocketAddr;
use std::sync::Arc;

use auth::UserInfo;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

/// One connection, over a socket or in memory. Both kinds are made by [`crate::ApiServer::connect`], which verifies the
/// certificates the same way.
#[derive(Debug)]
pub struct Connection {
    peer: Option<SocketAddr>,
    pub(crate) certified: Option<Certified>,
    /// Somebody with a name has asked for something.
    known: watch::Sender<bool>,
}

/// The user of a verified certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) user: Arc<UserInfo>,
    pub(crate) not_after: i64,
}

impl Connection {
    pub(crate) fn new(peer: Option<SocketAddr>, certified: Option<Certified>) -> Self {
        let known = watch::Sender::new(certified.is_some());
        Self { peer, certified, known }
    }

    /// Notes that a request came from somebody with a name.
    pub(crate) fn is_known_now(&self) {
        if !*self.known.borrow() {
            self.known.send_replace(true);
        }
    }

    /// Returns once it is known who is at the other end.
    pub(crate) async fn known(&self) {
        // An error would mean that the sender is gone, and it is borrowed here.
        let _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    /// The user that the client's certificate names, while the certificate is valid. A connection may outlive it.
    pub(crate) fn user_at(&self, now: Timestamp) -> Option<&Arc<UserInfo>> {
        self.certified.as_ref().filter(|certified| now.as_second() <= certified.not_after).map(|it| &it.user)
    }

    /// When the client's certificate, if it has one, is none any more.
    pub(crate) fn certified_until(&self) -> Option<Timestamp> {
        self.certified.as_ref().and_then(|certified| Timestamp::from_second(certified.not_after).ok())
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
