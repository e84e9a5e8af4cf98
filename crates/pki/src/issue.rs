//! What goes into each kind of certificate, and when one on disk will no longer do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};

use crate::Error;
use crate::credential::Facts;

const DAY: i64 = 24 * 60 * 60;

/// How long an authority's certificate is valid. Within the last fifth it is signed anew with the same key, which
/// leaves every certificate that it issued valid.
const AUTHORITY_DAYS: i64 = 3650;

/// How long every other certificate is valid. Within the last fifth it is issued anew.
const LEAF_DAYS: i64 = 365;

/// How far a client's clock may be behind the one that issued.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Authority,
    Client,
    Serving,
}

/// A certificate that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) purpose: Purpose,
    pub(crate) common_name: String,
    pub(crate) organisation: Option<&'static str>,
    /// DNS names and IP addresses.
    pub(crate) names: BTreeSet<String>,
}

impl Wanted {
    pub(crate) fn authority() -> Self {
        Self {
            purpose: Purpose::Authority,
            common_name: "monoplane-ca".to_owned(),
            organisation: None,
            names: BTreeSet::new(),
        }
    }

    /// Whether a certificate that says these things may be used from `now` on.
    pub(crate) fn is_met_by(&self, facts: &Facts, authority_key: &[u8], now: Timestamp) -> bool {
        let life = facts.not_after.duration_since(facts.not_before);
        let left = facts.not_after.duration_since(now);
        facts.common_name == self.common_name
            && facts.organisations.iter().map(String::as_str).eq(self.organisation)
            && facts.names == self.names
            && facts.not_before <= now
            && left > life / 5
            && facts.is_authority == (self.purpose == Purpose::Authority)
            && (self.purpose == Purpose::Authority || facts.authority_key == authority_key)
    }

    /// The certificate's content.
    pub(crate) fn parameters(&self, now: Timestamp) -> Result<CertificateParams, Error> {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let mut parameters = CertificateParams::new(names)?;
        let days = if self.purpose == Purpose::Authority { AUTHORITY_DAYS } else { LEAF_DAYS };
        let begin = now.checked_sub(SKEW).unwrap_or(Timestamp::UNIX_EPOCH);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        parameters.not_before = epoch + since_epoch(begin);
        parameters.not_after = epoch + since_epoch(now) + Duration::from_secs((days * DAY).unsigned_abs());
        let mut subject = DistinguishedName::new();
        if let Some(organisation) = self.organisation {
            subject.push(DnType::OrganizationName, organisation);
        }
        subject.push(DnType::CommonName, self.common_name.clone());
        parameters.distinguished_name = subject;
        match self.purpose {
            Purpose::Authority => {
                parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
                parameters.key_usages = vec![
                    KeyUsagePurpose::KeyCertSign,
                    KeyUsagePurpose::CrlSign,
                    KeyUsagePurpose::DigitalSignature,
                ];
            }
            Purpose::Client | Purpose::Serving => {
                parameters.is_ca = IsCa::ExplicitNoCa;
                parameters.use_authority_key_identifier_extension = true;
                parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                parameters.extended_key_usages = vec![if self.purpose == Purpose::Client {
                    ExtendedKeyUsagePurpose::ClientAuth
                } else {
                    ExtendedKeyUsagePurpose::ServerAuth
                }];
            }
        }
        Ok(parameters)
    }
}

/// The names under which every API server answers, beside those of its machine.
const API_SERVER_NAMES: [&str; 7] = [
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// The names and addresses of the API's serving certificate: the given ones (host names, addresses, the service
/// address of `kubernetes.default`) and those that every API server has.
pub fn api_server_names<I: IntoIterator<Item = S>, S: Into<String>>(given: I) -> BTreeSet<String> {
    given.into_iter().map(Into::into).chain(API_SERVER_NAMES.map(str::to_owned)).map(canonical).collect()
}

/// The names and addresses of a kubelet's serving certificate.
pub fn kubelet_names<I: IntoIterator<Item = S>, S: Into<String>>(node: &str, given: I) -> BTreeSet<String> {
    given.into_iter().map(Into::into).chain([node.to_owned()]).map(canonical).collect()
}

/// One spelling an address, so that what was asked for can be compared with what a certificate says.
fn canonical(name: String) -> String {
    name.parse::<IpAddr>().map_or(name, |address| address.to_string())
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}
