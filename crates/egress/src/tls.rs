//! TLS settings for connections that go out.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Trusts the web's authorities, as Mozilla lists them.
pub(crate) fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(web_roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The web's authorities, as Mozilla lists them: for whoever makes TLS settings of their own.
pub fn web_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}
