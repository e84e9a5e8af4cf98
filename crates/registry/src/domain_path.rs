//! Names such as `acme.io/foo`: a domain and a path, as controllers are called.

use apimachinery::field::{FieldError, Path};
use apimachinery::meta::names::dns1123_subdomain;

/// Upstream's form of the part after the domain.
const HTTP_PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";

/// What is wrong with such a name.
pub(crate) fn validate(name: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let parts = name.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty());
    let Some((domain, rest)) = parts else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, name, why));
        return;
    };
    errors.extend(dns1123_subdomain(domain).into_iter().map(|why| FieldError::invalid(path, domain, why)));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(fits) {
        let why = format!("Invalid path (regex used for validation is '{HTTP_PATH}')");
        errors.push(FieldError::invalid(path, rest, why));
    }
}
