//! Requests to sign a certificate (PKCS #10, RFC 2986): what they ask for.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::Error;
use crate::credential::Facts;

/// Parts of a name that a certificate takes over from the request: upstream's, in upstream's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Country,
    Organisation,
    Unit,
    Locality,
    Province,
    Street,
    PostalCode,
    CommonName,
    SerialNumber,
}

/// Each with the last number of its object identifier, which begins 2.5.4.
const PARTS: [(Part, u64); 9] = [
    (Part::Country, 6),
    (Part::Organisation, 10),
    (Part::Unit, 11),
    (Part::Locality, 7),
    (Part::Province, 8),
    (Part::Street, 9),
    (Part::PostalCode, 17),
    (Part::CommonName, 3),
    (Part::SerialNumber, 5),
];

impl Part {
    /// The numbers of its object identifier.
    pub(crate) fn identifier(self) -> [u64; 4] {
        let last = PARTS.iter().find(|(part, _)| *part == self).map_or(0, |(_, last)| *last);
        [2, 5, 4, last]
    }
}

/// What a request to sign a certificate asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningRequest {
    /// The user name; of several the last one, as upstream reads them.
    pub common_name: String,
    /// The groups.
    pub organisations: Vec<String>,
    /// Alternative names: hosts.
    pub dns_names: Vec<String>,
    /// Alternative names: mail addresses.
    pub emails: Vec<String>,
    /// Alternative names: addresses.
    pub addresses: Vec<IpAddr>,
    /// Alternative names: URIs.
    pub uris: Vec<String>,
    pub(crate) subject: Vec<(Part, String)>,
    /// The public key with its algorithm: a SubjectPublicKeyInfo, DER.
    pub(crate) key: Vec<u8>,
}

impl SigningRequest {
    /// Reads a request and checks that whoever made it holds the key.
    ///
    /// # Errors
    /// When it is not PEM of a request, says something that cannot be put into a certificate, or is not signed with its
    /// own key.
    pub fn from_pem(text: &[u8]) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed(reason);
        let block = Pem::iter_from_buffer(text).next().and_then(Result::ok);
        let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
        let block =
            block.ok_or_else(|| malformed("PEM block type must be CERTIFICATE REQUEST".to_owned()))?;
        let parsed = X509CertificationRequest::from_der(&block.contents);
        let (rest, parsed) = parsed.map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("trailing data after the request".to_owned()));
        }
        parsed.verify_signature().map_err(|error| malformed(error.to_string()))?;
        let asked = &parsed.certification_request_info;
        let mut request = Self { key: asked.subject_pki.raw.to_vec(), ..Self::default() };
        request.read_subject(&asked.subject)?;
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    request.read_name(name)?;
                }
            }
        }
        Ok(request)
    }

    fn read_subject(&mut self, subject: &X509Name<'_>) -> Result<(), Error> {
        for attribute in subject.iter_attributes() {
            let identifier: Vec<u64> =
                attribute.attr_type().iter().map(Iterator::collect).unwrap_or_default();
            let [2, 5, 4, last] = identifier[..] else { continue };
            let Some((part, _)) = PARTS.iter().find(|(_, known)| *known == last) else { continue };
            let text = attribute.as_str().map_err(|error| Error::Malformed(error.to_string()))?.to_owned();
            match part {
                Part::CommonName => self.common_name.clone_from(&text),
                Part::Organisation => self.organisations.push(text.clone()),
                _ => {}
            }
            self.subject.push((*part, text));
        }
        // One name and one number, the last ones: all else may come several times.
        for single in [Part::CommonName, Part::SerialNumber] {
            let last = self.subject.iter().rposition(|(part, _)| *part == single);
            let mut at = 0..;
            self.subject.retain(|(part, text)| {
                let is_last = at.next() == last;
                *part != single || (is_last && !text.is_empty())
            });
        }
        self.subject.sort_by_key(|(part, _)| *part);
        Ok(())
    }

    fn read_name(&mut self, name: &GeneralName<'_>) -> Result<(), Error> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                let wrong = |_| Error::Malformed(format!("an IP address of {} bytes", bytes.len()));
                self.addresses.push(address.map_err(wrong)?);
            }
            GeneralName::Invalid(..) => {
                return Err(Error::Malformed("an alternative name that is no text".to_owned()));
            }
            // As upstream: what a certificate for a client or a server has no use for is left out.
            _ => {}
        }
        let mut texts = [&self.dns_names, &self.emails, &self.uris].into_iter().flatten();
        if texts.any(|text| !text.is_ascii()) {
            return Err(Error::Malformed("an alternative name that is not ASCII".to_owned()));
        }
        Ok(())
    }
}

/// When the first certificate of a chain (PEM) expires.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn expiry(chain: &[u8]) -> Result<Timestamp, Error> {
    let block = Pem::iter_from_buffer(chain).next().and_then(Result::ok);
    let block = block.ok_or_else(|| Error::Malformed("no PEM block".to_owned()))?;
    Ok(Facts::read(&CertificateDer::from(block.contents))?.not_after)
}
