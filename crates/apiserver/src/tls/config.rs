use std::sync::Arc;

use pki::Authority;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedCipherSuite};

use super::Presented;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key that rustls refuses.
    #[error("TLS: {0}")]
    Refused(#[from] rustls::Error),
    /// An authority that nothing can be verified against.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate that names no server.
    #[error("TLS: {0}")]
    Name(#[from] rustls_pki_types::InvalidDnsNameError),
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// As [`provider`], with AES of 128-bit keys first, as Go's servers have it: 256 bits protect no better in practice, and cost
/// both sides a third more for each byte of a long list.
fn quick() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    let is_quick = |suite: &SupportedCipherSuite| {
        let quick =
            [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
        quick.contains(&suite.suite())
    };
    provider.cipher_suites.sort_by_key(|suite| !is_quick(suite));
    Arc::new(provider)
}

pub(super) fn roots(authority: &Authority) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    Ok(roots)
}

/// What verifies client certificates, for sockets and in memory alike. A client without one may connect: it sends a
/// token, or is anonymous.
///
/// # Errors
/// When the authority's certificate cannot be trusted.
pub fn client_verifier(authority: &Authority) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider());
    Ok(builder.allow_unauthenticated().build()?)
}

/// TLS for the API: its serving certificate, as it is at each handshake, optional client certificates, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When rustls knows no protocol version that the provider has.
pub fn server_config(
    serving: Arc<Presented>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(quick())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
