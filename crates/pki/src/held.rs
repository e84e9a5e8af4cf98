//! What somebody who was issued a certificate does with it: recognises its authority, asks for it, keeps it, and knows when
//! to ask again.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::credential::{Credential, Facts};
use crate::{Error, Identity};

/// What pins begin with.
const ALGORITHM: &str = "sha256:";

/// The pin of a certificate (PEM): a digest of its public key, as kubeadm writes it. An authority keeps it when its
/// certificate is signed anew.
///
/// # Errors
/// When it is no certificate.
pub fn pin(certificate: &str) -> Result<String, Error> {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes());
    let der = der.map_err(|error| Error::Malformed(error.to_string()))?;
    let parsed = x509_parser::parse_x509_certificate(&der);
    let (_, parsed) = parsed.map_err(|error| Error::Malformed(error.to_string()))?;
    let bytes = digest(&SHA256, parsed.public_key().raw);
    let hex: String = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{ALGORITHM}{hex}"))
}

/// A request for a certificate, and the key that it is for.
pub struct Application {
    /// The request (PKCS #10), PEM.
    pub request_pem: String,
    key_pem: String,
}

impl std::fmt::Debug for Application {
    /// The request alone: a key has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Application").field("request_pem", &self.request_pem).finish_non_exhaustive()
    }
}

impl Application {
    /// For an identity, with a new key, under these names and addresses.
    ///
    /// # Errors
    /// When a name cannot be put into a certificate.
    pub fn new(identity: &Identity, names: &BTreeSet<String>) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        let mut subject = DistinguishedName::new();
        if let Some(group) = identity.group() {
            subject.push(DnType::OrganizationName, group);
        }
        subject.push(DnType::CommonName, identity.common_name());
        parameters.distinguished_name = subject;
        let request_pem = parameters.serialize_request(&key)?.pem()?;
        Ok(Self { request_pem, key_pem: key.serialize_pem() })
    }

    /// The key together with the certificate (PEM) that was issued for it.
    ///
    /// # Errors
    /// When that is no certificate.
    pub fn granted(self, certificate: &str) -> Result<Credential, Error> {
        let end = if certificate.ends_with('\n') { "" } else { "\n" };
        Credential::from_pem(&format!("{certificate}{end}{}", self.key_pem))
    }
}

/// What its holder looks at in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whom it speaks for.
    pub common_name: String,
    /// Where it is to be believed of a server.
    pub names: BTreeSet<String>,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// From when on it is to be renewed: as upstream's holders do, after 70 to 90 per cent of its life, so that those who
    /// were issued theirs together do not all ask together.
    pub renewal: Timestamp,
}

impl Held {
    /// Reads it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(credential: &Credential) -> Result<Self, Error> {
        let facts = Facts::read(&credential.certificate)?;
        let life = facts.not_after.duration_since(facts.not_before);
        // A part that is by chance, but always the same of one certificate.
        let chance = digest(&SHA256, &credential.certificate).as_ref()[0];
        let share = 700 + 200 * i32::from(chance) / 255;
        let pass = SignedDuration::from_secs(life.as_secs() / 1000 * i64::from(share));
        Ok(Self {
            common_name: facts.common_name,
            names: facts.names,
            not_after: facts.not_after,
            renewal: facts.not_before.checked_add(pass).unwrap_or(facts.not_after),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::{Authority, Signer, SigningRequest};

    #[test]
    fn what_is_asked_for_is_what_is_granted_and_renewed_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let authority = Authority::open(directory.path(), now).unwrap();
        let pinned = pin(authority.certificate_pem()).unwrap();
        let names = crate::kubelet_names("one", ["192.0.2.1", "2001:db8::1"]);
        let application = Application::new(&Identity::Node("one".into()), &names).unwrap();
        let asked = SigningRequest::from_pem(application.request_pem.as_bytes()).unwrap();
        assert_eq!((asked.common_name.as_str(), asked.organisations.len()), ("system:node:one", 1));
        assert_eq!((asked.dns_names, asked.addresses.len()), (vec!["one".to_owned()], 2));
        let asked = SigningRequest::from_pem(application.request_pem.as_bytes()).unwrap();
        let usages = ["digital signature", "server auth"].map(str::to_owned);
        let life = SignedDuration::from_hours(100);
        let signed = Signer::new(authority).sign(&asked, &usages, life, now).unwrap();
        assert!(!format!("{application:?}").contains("PRIVATE"));
        let credential = application.granted(&signed).unwrap();
        let held = Held::read(&credential).unwrap();
        assert_eq!((held.common_name.as_str(), &held.names), ("system:node:one", &names));
        let after = held.renewal.duration_since(now).as_hours();
        assert!((65..=92).contains(&after), "{after}");
        assert_eq!(Held::read(&Credential::from_pem(&credential.to_pem()).unwrap()).unwrap(), held);

        // The pin is the key's, and another's is another.
        let later = now + SignedDuration::from_hours(24 * 3600);
        let renewed = Authority::open(directory.path(), later).unwrap();
        assert_eq!(pin(renewed.certificate_pem()).unwrap(), pinned);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(pin(Authority::open(other.path(), now).unwrap().certificate_pem()).unwrap(), pinned);
        assert!(pin("").is_err() && pinned.len() == "sha256:".len() + 64);
    }
}
