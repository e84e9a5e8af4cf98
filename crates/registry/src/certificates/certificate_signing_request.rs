//! CertificateSigningRequests.

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::NameRule;
use apimachinery::meta::names::{dns1123_label, dns1123_subdomain};
use jiff::Timestamp;
use serde_json::Value;

use super::{conditions, pem};
use crate::Part;
use crate::cache::Field;
use crate::checks::invalid;
use crate::kind::{Column, Subresource};
use crate::strategy::{Builtin, Rules, Strategy};
use crate::table;
use crate::tree::{copy, items, number, object, text};

/// The signer of the versions before this one.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const MAX_DOMAIN: usize = 253;
const MAX_PATH: usize = 253 + 1 + 63;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

struct CertificateSigningRequest;

pub(crate) fn builtin() -> Builtin {
    let kind = "CertificateSigningRequest";
    let approval = Subresource {
        name: "approval",
        group_version: None,
        kind: kind.into(),
        verbs: &["get", "patch", "update"],
    };
    Builtin {
        name: ("certificates.k8s.io", "v1", kind),
        rules: Rules { name: NameRule::PathSegment, status: true, ..Rules::default() },
        fields: vec![Field::at("spec.signerName")],
        subresources: vec![approval, table::status(kind)],
        scale: None,
        columns: Column::parse(&["Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"]),
        strategy: Arc::new(CertificateSigningRequest),
    }
}

/// What a write may decide.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    Nothing,
    Approve,
    Sign,
}

impl Strategy for CertificateSigningRequest {
    fn prepare_update(&self, request: &mut Value, old: &Value) {
        copy(request, old, "spec");
    }

    fn prepare_status(&self, request: &mut Value, old: &Value, now: Timestamp) {
        conditions::stamp(request, old, now);
    }

    /// Approval changes the conditions alone.
    fn keep_part(&self, _part: Part, request: &mut Value, old: &Value, now: Timestamp) {
        let given = conditions::all(request).to_vec();
        let mut kept = old.clone();
        object(&mut kept, "status").insert("conditions".into(), given.into());
        *request = kept;
        conditions::stamp(request, old, now);
    }

    fn validate(&self, request: &Value, errors: &mut Vec<FieldError>) {
        validate(request, None, errors);
    }

    fn validate_update(&self, request: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_change(request, old, May::Nothing, errors);
    }

    fn validate_status(&self, request: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_change(request, old, May::Sign, errors);
    }

    fn validate_part(&self, _part: Part, request: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate_change(request, old, May::Approve, errors);
    }

    fn cells(&self, request: &Value, now: Timestamp) -> Vec<Value> {
        let seconds = number(request, &["spec", "expirationSeconds"]);
        let asked =
            seconds.map(|seconds| apimachinery::time::human(u64::try_from(seconds).unwrap_or_default()));
        vec![
            table::name(request),
            table::age(request, now),
            table::or_none(text(request, &["spec", "signerName"])),
            text(request, &["spec", "username"]).into(),
            table::or_none(&asked.unwrap_or_default()),
            conditions::summary(request).into(),
        ]
    }
}

fn validate_change(request: &Value, old: &Value, may: May, errors: &mut Vec<FieldError>) {
    validate(request, Some(old), errors);
    conditions::validate_change(request, old, may == May::Approve, errors);
    let certificate = |request| text(request, &["status", "certificate"]);
    if certificate(request) != certificate(old) {
        let why = match may {
            May::Sign if certificate(old).is_empty() => return,
            May::Sign => "updates may not modify existing certificate content",
            _ => "updates may not set certificate content",
        };
        errors.push(FieldError::forbidden(&Path::new("status").child("certificate"), why));
    }
}

fn validate(request: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = Path::new("spec");
    let encoded = text(request, &["spec", "request"]);
    // It cannot change, and verifying its signature again is not for free.
    let is_known = old.is_some_and(|old| text(old, &["spec", "request"]) == encoded);
    if let Some(why) = Some(encoded).filter(|_| !is_known).and_then(pem::fault_of_request) {
        errors.push(FieldError::invalid(&spec.child("request"), encoded, why));
    }
    validate_usages(request, &spec.child("usages"), errors);
    let (signer, at_signer) = (text(request, &["spec", "signerName"]), spec.child("signerName"));
    if signer == LEGACY_SIGNER {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid(&at_signer, signer, why));
    } else {
        validate_signer(signer, &at_signer, errors);
    }
    if let Some(seconds) = number(request, &["spec", "expirationSeconds"]).filter(|seconds| *seconds < 600) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&spec.child("expirationSeconds"), seconds, why));
    }
    conditions::validate(request, old, errors);
    let certificate = |request| text(request, &["status", "certificate"]);
    let is_known = old.is_some_and(|old| certificate(old) == certificate(request));
    if let Some(why) = Some(certificate(request)).filter(|_| !is_known).and_then(pem::fault_of_certificates) {
        let status = Path::new("status");
        errors.push(FieldError::invalid(&status.child("certificate"), "<certificate data>", why));
    }
}

fn validate_usages(request: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let usages = items(request, &["spec", "usages"]);
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let named = || usages.iter().map(|usage| usage.as_str().unwrap_or_default()).enumerate();
    for (index, usage) in named().filter(|(_, usage)| !USAGES.contains(usage)) {
        errors.push(FieldError::not_supported(&path.index(index), usage, USAGES));
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in named() {
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(&path.index(index), usage));
        }
    }
}

/// `example.com/signer`, both parts of which are names.
fn validate_signer(signer: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if signer.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut parts = signer.split('/');
    let (Some(domain), Some(own), None) = (parts.next(), parts.next(), parts.next()) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, signer, why));
        return;
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(FieldError::too_long(path, MAX_DOMAIN));
    }
    if domain.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    for label in domain.split('.') {
        let faults = dns1123_label(label).into_iter();
        errors.extend(
            faults.map(|why| FieldError::invalid(path, domain, format!("validating label {label:?}: {why}"))),
        );
    }
    if own.is_empty() {
        let why = "validating label \"\": must be a non-empty path";
        errors.push(FieldError::invalid(path, signer, why));
    } else {
        invalid(path, own, dns1123_subdomain(own), errors);
    }
    if own.len() > MAX_PATH {
        errors.push(FieldError::too_long(path, MAX_PATH));
    }
}
