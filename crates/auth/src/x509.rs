use crate::UserInfo;

/// Why a certificate names no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not DER of an X.509 certificate, or a subject that is not text.
    #[error("malformed client certificate: {0}")]
    Malformed(String),
    /// Without a common name there is no user name.
    #[error("client certificate has no common name")]
    NoCommonName,
}

/// Whom a client certificate speaks for, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedUser {
    /// Its common name, with its organisations as groups.
    pub user: UserInfo,
    /// The last second, since 1970, at which the certificate is valid.
    pub not_after: i64,
}

/// The organisations that a request to sign a certificate (PEM) asks for; none where it cannot be read.
pub fn organizations_of_request(pem: &[u8]) -> Vec<String> {
    use x509_parser::prelude::FromDer as _;
    let Some(Ok(block)) = x509_parser::pem::Pem::iter_from_buffer(pem).next() else { return Vec::new() };
    let parsed = x509_parser::certification_request::X509CertificationRequest::from_der(&block.contents);
    let Ok((_, request)) = parsed else { return Vec::new() };
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().filter_map(|part| part.as_str().ok()).map(str::to_owned).collect()
}

/// The user whom a client certificate speaks for.
///
/// The caller has verified the chain, the validity and the purpose; this function only reads.
///
/// # Errors
/// When the certificate cannot be read or has no common name.
pub fn user_of_certificate(der: &[u8]) -> Result<CertifiedUser, CertificateError> {
    let malformed = |reason: String| CertificateError::Malformed(reason);
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|error| malformed(error.to_string()))?;
    let subject = certificate.subject();
    let mut name = String::new();
    for part in subject.iter_common_name() {
        part.as_str().map_err(|error| malformed(error.to_string()))?.clone_into(&mut name);
    }
    if name.is_empty() {
        return Err(CertificateError::NoCommonName);
    }
    let mut groups = Vec::new();
    for part in subject.iter_organization() {
        groups.push(part.as_str().map_err(|error| malformed(error.to_string()))?.to_owned());
    }
    Ok(CertifiedUser {
        user: UserInfo { name, groups, ..UserInfo::default() }.authenticated(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, length in 0u8..=255) {
            let _ = (user_of_certificate(&bytes), organizations_of_request(&bytes));
            // As if it were a sequence of that length.
            let framed = [&[0x30, length][..], &bytes].concat();
            prop_assert!(user_of_certificate(&framed).is_err());
        }
    }
}
