//! Which certificate a client is shown, and the settings of TLS.
//!
//! The certificates are swapped whole; a connection keeps the one that it began with.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::routing::HostPattern;

/// Why a certificate and its key cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the certificate is no PEM: {0}")]
    Certificate(rustls_pki_types::pem::Error),
    #[error("there is no certificate")]
    Empty,
    #[error("the private key is no PEM: {0}")]
    Key(rustls_pki_types::pem::Error),
    #[error("the certificate and the private key: {0}")]
    Pair(rustls::Error),
}

/// A chain of certificates and the key of the first, from PEM.
pub(crate) fn certified(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, Unusable> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(Unusable::Certificate)?;
    if chain.is_empty() {
        return Err(Unusable::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(Unusable::Key)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map(Arc::new).map_err(Unusable::Pair)
}

/// A certificate for whoever asks for a name that has none, signed by itself: clients see that it is not for them.
pub(crate) fn stand_in() -> Result<Arc<CertifiedKey>, std::io::Error> {
    let names = vec!["gateway.monoplane.invalid".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(std::io::Error::other)?;
    certified(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())
        .map_err(std::io::Error::other)
}

/// Certificates by the names that they are shown for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By the suffix with its leading dot, for names of one label more.
    label: HashMap<Box<str>, Arc<CertifiedKey>>,
    any: Option<Arc<CertifiedKey>>,
}

impl Names {
    /// Of two for the same name the first counts.
    pub(crate) fn add(&mut self, host: HostPattern, certificate: Arc<CertifiedKey>) {
        match host {
            HostPattern::Exact(name) => self.exact.entry(name).or_insert(certificate),
            HostPattern::Label(suffix) | HostPattern::Wildcard(suffix) => {
                self.label.entry(suffix).or_insert(certificate)
            }
            HostPattern::Any => self.any.get_or_insert(certificate),
        };
    }

    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let above = || self.label.get(&name[name.find('.')?..]);
            self.exact.get(name).or_else(above)
        });
        named.or(self.any.as_ref())
    }
}

/// The certificates of now.
pub(crate) struct Certificates {
    names: ArcSwap<Names>,
    default: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// None but one for names that have none.
    pub(crate) fn new(default: Arc<CertifiedKey>) -> Self {
        Self { names: ArcSwap::default(), default }
    }

    /// Makes these the certificates of connections that begin from now on.
    pub(crate) fn set(&self, names: Names) {
        self.names.store(Arc::new(names));
    }

    /// How connections over TLS begin.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives the name in lower case.
        let found = self.names.load().find(hello.server_name()).cloned();
        Some(found.unwrap_or_else(|| self.default.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_counts() {
        let mut names = Names::default();
        let all: Vec<_> = (0..4).map(|_| stand_in().unwrap()).collect();
        for (index, host) in ["a.test", "*.a.test", "*.a.test", ""].into_iter().enumerate() {
            let host = HostPattern::parse(Some(host).filter(|host| !host.is_empty())).unwrap();
            names.add(host.of_one_label(), all[index].clone());
        }
        for (name, want) in
            [(Some("a.test"), 0), (Some("x.a.test"), 1), (Some("x.y.a.test"), 3), (Some("b"), 3), (None, 3)]
        {
            assert!(Arc::ptr_eq(names.find(name).unwrap(), &all[want]), "{name:?}");
        }
        assert!(Names::default().find(Some("a.test")).is_none());
    }

    #[test]
    fn what_cannot_be_shown_is_named() {
        let one = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        assert!(certified(chain.as_bytes(), key.as_bytes()).is_ok());
        let said =
            |chain: &str, key: &str| certified(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert_eq!(said("", &key), "there is no certificate");
        assert!(said(&chain, "x").starts_with("the private key is no PEM: "));
        let wrong = said(&chain, &other.signing_key.serialize_pem());
        assert!(wrong.starts_with("the certificate and the private key: "), "{wrong}");
    }
}
