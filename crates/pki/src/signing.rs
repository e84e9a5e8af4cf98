//! Certificates for those who asked: made of a request, with the usages and the life that the signer grants.
//!
//! Upstream's permissive policy: subject and alternative names are taken over, all other wishes of the request are not.
//! The certificate is put together here because a name may have several organisations, which `rcgen` cannot say.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey};
use ring::rand::{SecureRandom, SystemRandom};
use yasna::models::ObjectIdentifier;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_IA5STRING, TAG_UTCTIME};
use yasna::{DERWriter, DERWriterSeq, Tag};

use crate::request::Part;
use crate::{Authority, Error, SigningRequest};

/// How far a certificate begins in the past, for clocks that are behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// A certificate of less life than this ends when it was asked to; of others the past part counts as life.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// Usages of keys: their bits.
const KEY_USAGES: [(&str, usize); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Extended usages, in the order in which upstream writes them.
const EXTENDED_USAGES: [(&str, &[u64]); 13] = [
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113730, 4, 1]),
];

const ECDSA_WITH_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u64] = &[2, 5, 29, 35];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];

/// The authority as whoever signs requests holds it: it is exchanged while it is in use when its certificate has been
/// renewed.
pub struct Signer(RwLock<Arc<Authority>>);

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

impl Signer {
    /// Signs with this authority.
    pub fn new(authority: Authority) -> Self {
        Self(RwLock::new(Arc::new(authority)))
    }

    /// Signs with this one from now on.
    pub fn renew(&self, authority: Authority) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(authority);
    }

    /// A certificate (PEM) for who asked, with these usages as the API calls them, and of about this life.
    ///
    /// # Errors
    /// When a usage is not known, or the authority's own certificate has expired.
    pub fn sign(
        &self,
        request: &SigningRequest,
        usages: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<String, Error> {
        let authority = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let issuing = authority.issuing()?;
        Certificate { request, usages, times: times(life, issuing.not_after, now)?, issuing }.issue()
    }
}

/// What of the authority goes into a certificate.
pub(crate) struct Issuing<'a> {
    /// Its name, DER.
    pub(crate) name: Vec<u8>,
    /// The identifier of its key.
    pub(crate) key_identifier: &'a [u8],
    pub(crate) not_after: Timestamp,
    pub(crate) issuer: &'a Issuer<'static, KeyPair>,
}

struct Certificate<'a> {
    request: &'a SigningRequest,
    usages: &'a [String],
    times: (Timestamp, Timestamp),
    issuing: Issuing<'a>,
}

/// From when to when: never longer than the authority itself.
fn times(life: SignedDuration, end: Timestamp, now: Timestamp) -> Result<(Timestamp, Timestamp), Error> {
    if now >= end {
        let why = format!("refusing to sign a certificate that expired in the past: NotAfter={end}");
        return Err(Error::Malformed(why));
    }
    let own = if life < SHORT { life } else { life - BACKDATE };
    let until = now.checked_add(own).unwrap_or(Timestamp::MAX).min(end);
    Ok((now.checked_sub(BACKDATE).unwrap_or(Timestamp::MIN), until))
}

impl Certificate<'_> {
    fn issue(&self) -> Result<String, Error> {
        let key = self.issuing.issuer.key();
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(Error::Malformed("the authority's key is none of P-256".to_owned()));
        }
        let usages = Usages::of(self.usages)?;
        let mut serial = [0; 16];
        SystemRandom::new()
            .fill(&mut serial)
            .map_err(|_| Error::Malformed("there is no randomness for a serial number".to_owned()))?;
        let body =
            yasna::construct_der(|writer| writer.write_sequence(|body| self.write(body, &serial, &usages)));
        let signature = key.sign(&body)?;
        let der = yasna::construct_der(|writer| {
            writer.write_sequence(|whole| {
                whole.next().write_der(&body);
                algorithm(whole.next());
                whole.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem("CERTIFICATE", &der))
    }

    fn write(&self, body: &mut DERWriterSeq<'_>, serial: &[u8], usages: &Usages) {
        // Version 3 is the number 2.
        body.next().write_tagged(Tag::context(0), |version| version.write_u8(2));
        body.next().write_bigint_bytes(serial, true);
        algorithm(body.next());
        body.next().write_der(&self.issuing.name);
        body.next().write_sequence(|validity| {
            time(validity.next(), self.times.0);
            time(validity.next(), self.times.1);
        });
        body.next().write_sequence(|name| {
            for (part, text) in &self.request.subject {
                name.next().write_set(|set| {
                    set.next().write_sequence(|pair| {
                        pair.next().write_oid(&ObjectIdentifier::from_slice(&part.identifier()));
                        directory_text(pair.next(), *part, text);
                    });
                });
            }
        });
        body.next().write_der(&self.request.key);
        body.next().write_tagged(Tag::context(3), |writer| {
            writer.write_sequence(|extensions| self.write_extensions(extensions, usages));
        });
    }

    fn write_extensions(&self, extensions: &mut DERWriterSeq<'_>, usages: &Usages) {
        if let Some((bytes, bits)) = usages.key_bits() {
            extension(extensions.next(), KEY_USAGE, true, |writer| writer.write_bitvec_bytes(&bytes, bits));
        }
        if !usages.extended.is_empty() {
            extension(extensions.next(), EXTENDED_KEY_USAGE, false, |writer| {
                writer.write_sequence(|all| {
                    for identifier in &usages.extended {
                        all.next().write_oid(&ObjectIdentifier::from_slice(identifier));
                    }
                });
            });
        }
        // Nobody's authority: the empty sequence.
        extension(extensions.next(), BASIC_CONSTRAINTS, true, |writer| writer.write_sequence(|_| {}));
        if !self.issuing.key_identifier.is_empty() {
            extension(extensions.next(), AUTHORITY_KEY, false, |writer| {
                writer.write_sequence(|all| {
                    let identifier = self.issuing.key_identifier;
                    let key = all.next();
                    key.write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(identifier));
                });
            });
        }
        let request = self.request;
        let texts = [(2, &request.dns_names), (1, &request.emails)];
        let is_named = texts.iter().any(|(_, names)| !names.is_empty())
            || !request.addresses.is_empty()
            || !request.uris.is_empty();
        if is_named {
            // Where there is no subject, these are all that the certificate is about.
            extension(extensions.next(), ALTERNATIVE_NAMES, request.subject.is_empty(), |writer| {
                writer.write_sequence(|names| {
                    for (tag, text) in
                        texts.iter().flat_map(|(tag, all)| all.iter().map(move |text| (*tag, text)))
                    {
                        tagged(names.next(), tag, text.as_bytes());
                    }
                    for address in &request.addresses {
                        match address {
                            IpAddr::V4(address) => tagged(names.next(), 7, &address.octets()),
                            IpAddr::V6(address) => tagged(names.next(), 7, &address.octets()),
                        }
                    }
                    for uri in &request.uris {
                        tagged(names.next(), 6, uri.as_bytes());
                    }
                });
            });
        }
    }
}

/// Usages as a certificate says them.
struct Usages {
    key: u16,
    extended: Vec<&'static [u64]>,
}

impl Usages {
    fn of(names: &[String]) -> Result<Self, Error> {
        let mut usages = Self { key: 0, extended: Vec::new() };
        let mut unknown = Vec::new();
        for name in names {
            if let Some((_, bit)) = KEY_USAGES.iter().find(|(known, _)| known == name) {
                usages.key |= 0x8000 >> bit;
            } else if !EXTENDED_USAGES.iter().any(|(known, _)| known == name) {
                unknown.push(name);
            }
        }
        if !unknown.is_empty() {
            return Err(Error::Malformed(format!("unrecognized usage values: {unknown:?}")));
        }
        let wanted = EXTENDED_USAGES.iter().filter(|(known, _)| names.iter().any(|name| name == known));
        for (_, identifier) in wanted {
            if !usages.extended.contains(identifier) {
                usages.extended.push(identifier);
            }
        }
        Ok(usages)
    }

    /// The bits up to the last that is set, as DER wants lists of names for bits.
    fn key_bits(&self) -> Option<(Vec<u8>, usize)> {
        if self.key == 0 {
            return None;
        }
        let bits = 16 - self.key.trailing_zeros() as usize;
        Some((self.key.to_be_bytes()[..bits.div_ceil(8)].to_vec(), bits))
    }
}

fn algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|one| one.next().write_oid(&ObjectIdentifier::from_slice(ECDSA_WITH_SHA256)));
}

/// Two digits of the year until 2049, four from then on (RFC 5280, 4.1.2.5).
fn time(writer: DERWriter<'_>, at: Timestamp) {
    let long = at.strftime("%Y%m%d%H%M%SZ").to_string();
    if long.as_str() < "2050" {
        writer.write_tagged_implicit(TAG_UTCTIME, |writer| writer.write_bytes(&long.as_bytes()[2..]));
    } else {
        writer.write_tagged_implicit(TAG_GENERALIZEDTIME, |writer| writer.write_bytes(long.as_bytes()));
    }
}

/// As upstream: the narrow alphabet where it is enough, and always for what may have no other.
fn directory_text(writer: DERWriter<'_>, part: Part, text: &str) {
    let is_printable =
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    if is_printable {
        writer.write_printable_string(text);
    } else if matches!(part, Part::Country | Part::SerialNumber) && text.is_ascii() {
        writer.write_tagged_implicit(TAG_IA5STRING, |writer| writer.write_bytes(text.as_bytes()));
    } else {
        writer.write_utf8string(text);
    }
}

fn tagged(writer: DERWriter<'_>, tag: u64, bytes: &[u8]) {
    writer.write_tagged_implicit(Tag::context(tag), |writer| writer.write_bytes(bytes));
}

fn extension(writer: DERWriter<'_>, identifier: &[u64], critical: bool, value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|parts| {
        parts.next().write_oid(&ObjectIdentifier::from_slice(identifier));
        if critical {
            parts.next().write_bool(true);
        }
        parts.next().write_bytes(&yasna::construct_der(value));
    });
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}
