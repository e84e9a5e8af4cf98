//! How members are spoken to over TLS.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Error;

/// PEM: whose certificates members have, and which one we show.
#[derive(Clone, Default)]
pub struct Tls {
    /// The authority of the members' certificates.
    pub authority: Vec<u8>,
    /// Our certificate chain and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of logs.
        f.debug_struct("Tls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let malformed = |what: &str, why: &dyn std::fmt::Display| {
            Error::Unavailable(format!("etcd's {what} cannot be used: {why}"))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authority) {
            let certificate = certificate.map_err(|error| malformed("CA", &error))?;
            roots.add(certificate).map_err(|error| malformed("CA", &error))?;
        }
        if roots.is_empty() {
            return Err(malformed("CA", &"it has no certificate"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| malformed("TLS", &error))?.with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(|error| malformed("client certificate", &error))?;
                let key =
                    PrivateKeyDer::from_pem_slice(key).map_err(|error| malformed("client key", &error))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| malformed("client certificate", &error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}
