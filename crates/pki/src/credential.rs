//! A certificate with its key, as one PEM text: one file, one rename, so that the two always belong together.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use crate::Error;

/// A certificate and its private key.
pub struct Credential {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: String,
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Credential {
    /// The certificate alone: a key has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let certificate = &self.certificate_pem;
        formatter.debug_struct("Credential").field("certificate_pem", certificate).finish_non_exhaustive()
    }
}

impl Clone for Credential {
    fn clone(&self) -> Self {
        Self {
            certificate_pem: self.certificate_pem.clone(),
            key_pem: self.key_pem.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

const BEGIN_KEY: &str = "-----BEGIN PRIVATE KEY-----";

impl Credential {
    /// Reads a certificate followed by its key, as [`Credential::to_pem`] writes them.
    ///
    /// # Errors
    /// When either is missing or malformed.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let Some(split) = text.find(BEGIN_KEY) else {
            return Err(Error::Malformed("no private key".to_owned()));
        };
        let (certificate_pem, key_pem) = text.split_at(split);
        let malformed = |error: rustls_pki_types::pem::Error| Error::Malformed(error.to_string());
        Ok(Self {
            certificate: CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(malformed)?,
            key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(malformed)?,
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        })
    }

    /// The certificate followed by its key.
    pub fn to_pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }
}

/// What a certificate says of itself, as far as deciding whether it can still be used needs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) common_name: String,
    pub(crate) organisations: Vec<String>,
    pub(crate) names: BTreeSet<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) subject_key: Vec<u8>,
    pub(crate) authority_key: Vec<u8>,
    pub(crate) is_authority: bool,
}

impl Facts {
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed(reason);
        let (_, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|error| malformed(error.to_string()))?;
        let time =
            |seconds: i64| Timestamp::from_second(seconds).map_err(|error| malformed(error.to_string()));
        let text = |value: Result<&str, _>| value.unwrap_or_default().to_owned();
        let subject = certificate.subject();
        let mut facts = Self {
            common_name: subject.iter_common_name().next().map(|cn| text(cn.as_str())).unwrap_or_default(),
            organisations: subject.iter_organization().map(|o| text(o.as_str())).collect(),
            names: BTreeSet::new(),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            subject_key: Vec::new(),
            authority_key: Vec::new(),
            is_authority: certificate.is_ca(),
        };
        facts.read_extensions(&certificate);
        Ok(facts)
    }

    fn read_extensions(&mut self, certificate: &X509Certificate<'_>) {
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => self.subject_key = key.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    self.authority_key =
                        key.key_identifier.as_ref().map(|key| key.0.to_vec()).unwrap_or_default();
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    self.names = names.general_names.iter().filter_map(readable).collect();
                }
                _ => {}
            }
        }
    }
}

fn readable(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|octets| IpAddr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}
