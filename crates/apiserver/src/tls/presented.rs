//! A certificate that is renewed while connections are made under it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pki::Credential;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::config::{TlsError, provider};

/// What this process presents in handshakes: the credential as it is at that moment. Connections that stand keep theirs.
pub struct Presented(ArcSwap<CertifiedKey>);

impl Presented {
    /// Presents this credential for now.
    ///
    /// # Errors
    /// When the certificate and key cannot be used.
    pub fn new(credential: &Credential) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(credential)?))))
    }

    /// Presents this credential from now on.
    ///
    /// # Errors
    /// When the certificate and key cannot be used; the old ones are then kept.
    pub fn renew(&self, credential: &Credential) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(credential)?));
        Ok(())
    }
}

fn certified(credential: &Credential) -> Result<CertifiedKey, TlsError> {
    let chain = vec![credential.certificate.clone()];
    Ok(CertifiedKey::from_der(chain, credential.key.clone_key(), &provider())?)
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Presented")
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
