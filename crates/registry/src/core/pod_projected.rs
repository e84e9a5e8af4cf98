//! What is wrong with a volume that shows several sources as one.

use std::collections::BTreeSet;

use apimachinery::field::{FieldError, Path};
use serde_json::Value;

use super::pod_volumes::{downward_file, keys, not_reserved};
use crate::checks::{required, selector};
use crate::tree::{items, number, text};

const KINDS: [&str; 6] =
    ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
/// How long a token lives at least and at most: upstream's numbers.
const TOKEN_MIN: i64 = 10 * 60;
const TOKEN_MAX: i64 = 1 << 32;

/// Checks `sources`.
pub(crate) fn validate(projected: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let mut files = BTreeSet::new();
    let at_sources = path.child("sources");
    for (index, source) in items(projected, &["sources"]).iter().enumerate() {
        let at_source = at_sources.index(index);
        let given = KINDS.iter().filter_map(|kind| Some((*kind, source.get(*kind)?)));
        for (kind, found) in given.clone() {
            let at_kind = at_source.child(kind);
            validate_source(kind, found, path, &at_kind, errors);
            for (file, shown) in files_of(kind, found) {
                if !files.insert(file) {
                    errors.push(FieldError::invalid(path, shown, "conflicting duplicate paths"));
                }
            }
        }
        if given.count() > 1 {
            let why = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(&at_source, why));
        }
    }
}

/// The files of a source, and what an error about each shows.
fn files_of<'a>(kind: &str, source: &'a Value) -> Vec<(&'a str, &'a str)> {
    let itself = |file: &'a str| (file, file);
    let files: Vec<(&str, &str)> = match kind {
        "secret" | "configMap" => {
            let name = text(source, &["name"]);
            items(source, &["items"]).iter().map(|item| (text(item, &["path"]), name)).collect()
        }
        "downwardAPI" => items(source, &["items"]).iter().map(|item| itself(text(item, &["path"]))).collect(),
        "clusterTrustBundle" => vec![itself(text(source, &["path"]))],
        "podCertificate" => {
            let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            fields.iter().map(|field| itself(text(source, &[field]))).collect()
        }
        _ => Vec::new(),
    };
    files.into_iter().filter(|(file, _)| !file.is_empty()).collect()
}

fn validate_source(
    kind: &str,
    source: &Value,
    volume: &Path<'_>,
    path: &Path<'_>,
    errors: &mut Vec<FieldError>,
) {
    match kind {
        "secret" | "configMap" => {
            required(source, "name", path, errors);
            keys(source, path, errors);
        }
        "downwardAPI" => {
            for file in items(source, &["items"]) {
                downward_file(file, path, errors);
            }
        }
        "serviceAccountToken" => {
            let seconds = number(source, &["expirationSeconds"]).unwrap_or_default();
            let at_seconds = path.child("expirationSeconds");
            if seconds < TOKEN_MIN {
                let why = "may not specify a duration less than 10 minutes";
                errors.push(FieldError::invalid(&at_seconds, seconds, why));
            }
            if seconds > TOKEN_MAX {
                let why = "may not specify a duration larger than 2^32 seconds";
                errors.push(FieldError::invalid(&at_seconds, seconds, why));
            }
            // Upstream's errors about the path do not say which source's.
            if required(source, "path", volume, errors) {
                not_reserved(text(source, &["path"]), &volume.child("path"), errors);
            }
        }
        "clusterTrustBundle" => validate_bundle(source, path, errors),
        "podCertificate" => {
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                not_reserved(text(source, &[field]), &path.child(field), errors);
            }
            if files_of(kind, source).is_empty() {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.push(FieldError::required(path, why));
            }
        }
        _ => {}
    }
}

fn validate_bundle(source: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    match (source.get("name"), source.get("signerName")) {
        (Some(_), Some(_)) => {
            let why = "only one of name and signerName may be used";
            errors.push(FieldError::invalid(path, source.clone(), why));
        }
        (Some(name), None) => {
            if name == "" {
                errors.push(FieldError::required(&path.child("name"), "must be a valid object name"));
            }
            if let Some(labels) = source.get("labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                errors.push(FieldError::invalid(&path.child("labelSelector"), labels.clone(), why));
            }
        }
        (None, Some(signer)) => {
            if signer == "" {
                errors.push(FieldError::required(&path.child("signerName"), "must be a valid signer name"));
            }
            selector(source, "labelSelector", path, errors);
        }
        (None, None) => {
            errors.push(FieldError::required(path, "either name or signerName must be specified"));
        }
    }
    required(source, "path", path, errors);
    not_reserved(text(source, &["path"]), &path.child("path"), errors);
}
