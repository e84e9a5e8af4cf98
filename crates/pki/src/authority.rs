//! The plane's certificate authority and the directory that keeps what it issued.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::CertificateDer;

use crate::credential::{Credential, Facts};
use crate::identity::checked;
use crate::issue::{Purpose, Wanted};
use crate::signing::Issuing;
use crate::{Error, Identity, file};

const AUTHORITY_FILE: &str = "ca.pem";
const TRUST_FILE: &str = "ca.crt";

/// A certificate authority with the directory of everything that it issued.
///
/// The directory holds `ca.pem` (certificate and key), `ca.crt` (the certificate, for those who need to trust it) and
/// one `NAME.pem` (certificate and key) for each identity.
pub struct Authority {
    directory: PathBuf,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_identifier: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority kept in `directory`, making it at the first start.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds an authority that cannot be understood.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        file::make_directory(directory)?;
        let path = directory.join(AUTHORITY_FILE);
        let credential = match file::read(&path)? {
            None => keep(&path, self_signed(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, now)?)?,
            Some(text) => {
                let broken =
                    |error: Error| Error::BrokenAuthority { path: path.clone(), reason: error.to_string() };
                let credential = Credential::from_pem(&text).map_err(broken)?;
                let facts = Facts::read(&credential.certificate).map_err(broken)?;
                if Wanted::authority().is_met_by(&facts, &[], now) {
                    credential
                } else {
                    let key = KeyPair::from_pem(&credential.key_pem).map_err(|error| broken(error.into()))?;
                    keep(&path, self_signed(key, now)?)?
                }
            }
        };
        let trust = directory.join(TRUST_FILE);
        if file::read(&trust)?.as_deref() != Some(credential.certificate_pem.as_str()) {
            file::write_atomically(&trust, credential.certificate_pem.as_bytes())?;
        }
        let key_identifier = Facts::read(&credential.certificate)?.subject_key;
        let key = KeyPair::from_pem(&credential.key_pem)?;
        Ok(Self {
            directory: directory.to_owned(),
            issuer: Issuer::from_ca_cert_der(&credential.certificate, key)?,
            certificate: credential.certificate,
            certificate_pem: credential.certificate_pem,
            key_identifier,
        })
    }

    /// The authority's certificate, DER: what verifiers trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The client certificate of an identity: the one kept, or a new one where that is missing, damaged, soon to
    /// expire or another authority's.
    ///
    /// # Errors
    /// When the identity's name cannot be used or the file cannot be written.
    pub fn client(&self, identity: &Identity, now: Timestamp) -> Result<Credential, Error> {
        let file = identity.file_name()?;
        let wanted = Wanted {
            purpose: Purpose::Client,
            common_name: identity.common_name(),
            organisation: identity.group(),
            names: BTreeSet::new(),
        };
        self.kept_or_issued(&file, &wanted, now)
    }

    /// The API's serving certificate, for exactly these names (see [`crate::api_server_names`]).
    ///
    /// # Errors
    /// When a name cannot be put into a certificate or the file cannot be written.
    pub fn serving(&self, names: &BTreeSet<String>, now: Timestamp) -> Result<Credential, Error> {
        self.serving_certificate("apiserver.pem", "kube-apiserver".to_owned(), None, names, now)
    }

    /// The serving certificate of a node's kubelet, for exactly these names (see [`crate::kubelet_names`]).
    ///
    /// # Errors
    /// When a name cannot be put into a certificate or the file cannot be written.
    pub fn kubelet_serving(
        &self,
        node: &str,
        names: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Credential, Error> {
        let file = format!("kubelet-{}.pem", checked(node)?);
        let common_name = format!("system:node:{node}");
        self.serving_certificate(&file, common_name, Some("system:nodes"), names, now)
    }

    /// What of it goes into certificates of others' making.
    pub(crate) fn issuing(&self) -> Result<Issuing<'_>, Error> {
        let own = x509_parser::parse_x509_certificate(&self.certificate);
        let (_, own) = own.map_err(|error| Error::Malformed(error.to_string()))?;
        Ok(Issuing {
            name: own.subject().as_raw().to_vec(),
            key_identifier: &self.key_identifier,
            not_after: Facts::read(&self.certificate)?.not_after,
            issuer: &self.issuer,
        })
    }

    fn serving_certificate(
        &self,
        file: &str,
        common_name: String,
        organisation: Option<&'static str>,
        names: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Credential, Error> {
        let wanted = Wanted { purpose: Purpose::Serving, common_name, organisation, names: names.clone() };
        self.kept_or_issued(file, &wanted, now)
    }

    fn kept_or_issued(&self, file: &str, wanted: &Wanted, now: Timestamp) -> Result<Credential, Error> {
        let path = self.directory.join(file);
        if let Some(text) = file::read(&path)?
            && let Ok(credential) = Credential::from_pem(&text)
            && let Ok(facts) = Facts::read(&credential.certificate)
            && wanted.is_met_by(&facts, &self.key_identifier, now)
        {
            return Ok(credential);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = wanted.parameters(now)?.signed_by(&key, &self.issuer)?;
        keep(&path, certificate.pem() + &key.serialize_pem())
    }
}

fn self_signed(key: KeyPair, now: Timestamp) -> Result<String, Error> {
    let certificate = Wanted::authority().parameters(now)?.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

fn keep(path: &Path, pem: String) -> Result<Credential, Error> {
    file::write_atomically(path, pem.as_bytes())?;
    Credential::from_pem(&pem)
}
