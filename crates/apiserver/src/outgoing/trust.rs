//! What a server's certificate must be.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::CallError;
use crate::tls::{Presented, provider};

/// Whose certificate a server must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// One that leads to the web's authorities, or to these certificates (PEM) where there are any.
    Bundle(Vec<u8>),
    /// Anybody's (`insecureSkipTLSVerify`).
    Anything,
    /// Nobody's: plain HTTP is spoken.
    Plain,
}

impl Trust {
    /// A `caBundle` as objects hold it: PEM in base64. Nothing but white space is none.
    pub(crate) fn of_bundle(encoded: &str) -> Result<Self, CallError> {
        let unfit = || CallError::of("unable to load root certificates: unable to parse bytes as PEM block");
        let pem = STANDARD.decode(encoded).map_err(|_| unfit())?;
        let is_empty = pem.iter().all(u8::is_ascii_whitespace);
        Ok(Self::Bundle(if is_empty { Vec::new() } else { pem }))
    }

    /// TLS settings for it, if TLS is spoken, offering HTTP/1.1: one connection then carries one request at a time, and many requests are
    /// spread over a Service's endpoints.
    pub(super) fn config(
        &self,
        identity: Option<Arc<Presented>>,
    ) -> Result<Option<Arc<ClientConfig>>, String> {
        let provider = provider();
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Plain => return Ok(None),
            Self::Anything => egress::anybody(),
            Self::Bundle(pem) if pem.is_empty() => {
                let roots = Arc::new(egress::web_roots());
                let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                built.map_err(|error| said(&error))?
            }
            Self::Bundle(pem) => Arc::new(Bundled::new(pem, &provider)?),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| said(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }
}

/// Trusts the certificates of a bundle: as authorities, and the server's very own.
///
/// People put a server's self-signed certificate into the bundle, and most tools mark such a one as an authority's. Upstream
/// takes it; webpki alone would not, because an authority is no server.
#[derive(Debug)]
struct Bundled {
    inner: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Bundled {
    fn new(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        // What is no certificate, or one that cannot be read, is passed over as upstream does.
        let listed: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(listed.iter().cloned());
        let unfit = || "unable to load root certificates: unable to parse bytes as PEM block".to_owned();
        if roots.is_empty() {
            return Err(unfit());
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Ok(Self { inner: inner.map_err(|error| error.to_string())?, listed })
    }

    /// Whether a certificate that is in the bundle itself is for this name, and valid now.
    fn verify_listed(
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(bad)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        if seconds < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if seconds > validity.not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }
}

impl ServerCertVerifier for Bundled {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.inner.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        if judged.is_err() && self.listed.iter().any(|listed| listed == end_entity) {
            return Self::verify_listed(end_entity, name, now).map(|()| ServerCertVerified::assertion());
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
