//! What requests and certificates hold: base64 of PEM of DER.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

/// What is wrong with a request to sign a certificate, if anything: its form, or its signature.
pub(crate) fn fault_of_request(encoded: &str) -> Option<String> {
    let block = blocks(encoded).into_iter().next().filter(|block| block.label == "CERTIFICATE REQUEST");
    let Some(block) = block else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    match X509CertificationRequest::from_der(&block.contents) {
        Err(error) => Some(format!("x509: malformed certificate request: {error}")),
        Ok((rest, _)) if !rest.is_empty() => {
            Some("x509: trailing data after ASN.1 of certificate request".into())
        }
        Ok((_, request)) => request.verify_signature().err().map(|error| format!("x509: {error}")),
    }
}

/// What is wrong with an issued chain of certificates, if anything.
pub(crate) fn fault_of_certificates(encoded: &str) -> Option<String> {
    if encoded.is_empty() {
        return None;
    }
    let blocks = blocks(encoded);
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            let label = apimachinery::field::quote(&block.label);
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {label}"));
        }
        if let Err(error) = block.parse_x509() {
            return Some(format!("x509: malformed certificate: {error}"));
        }
    }
    blocks.is_empty().then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// The blocks up to the first that cannot be read.
fn blocks(encoded: &str) -> Vec<Pem> {
    let text = STANDARD.decode(encoded).unwrap_or_default();
    Pem::iter_from_buffer(&text).map_while(Result::ok).collect()
}
