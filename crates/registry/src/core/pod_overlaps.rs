//! Files of a volume that hide one another.

use apimachinery::field::quote;
use serde_json::Value;

use crate::tree::{items, text};

/// A file, and where it comes from.
type File<'a> = (&'a str, String);

/// About the volumes of a spec.
pub(crate) fn warnings(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for volume in items(spec, &["volumes"]) {
        let name = quote(text(volume, &["name"]));
        for (kind, word) in [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")]
        {
            let Some(source) = volume.get(kind) else { continue };
            let what = match kind {
                "downwardAPI" => word.to_owned(),
                "secret" => format!("{word} {}", quote(text(source, &["secretName"]))),
                _ => format!("{word} {}", quote(text(source, &["name"]))),
            };
            let files = items(source, &["items"]).iter().map(|item| (text(item, &["path"]), String::new()));
            overlaps(files, &name, &what, &mut found);
        }
        if volume.get("projected").is_some() {
            let sources = items(volume, &["projected", "sources"]);
            let empty =
                sources.iter().filter(|source| source.as_object().is_none_or(serde_json::Map::is_empty));
            found.extend(empty.map(|_| format!("volume {name} (Projected) has no sources provided")));
            overlaps(sources.iter().flat_map(projected), &name, "Projected", &mut found);
        }
    }
    found
}

/// The files of a source of several.
fn projected(source: &Value) -> Vec<File<'_>> {
    for (kind, word) in [("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")] {
        let files = items(source, &[kind, "items"]);
        if !files.is_empty() {
            let name = text(source, &[kind, "name"]);
            let what = if name.is_empty() { word.to_owned() } else { format!("{word} {}", quote(name)) };
            return files.iter().map(|item| (text(item, &["path"]), what.clone())).collect();
        }
    }
    if let Some(token) = source.get("serviceAccountToken") {
        return vec![(text(token, &["path"]), "ServiceAccountToken".to_owned())];
    }
    if let Some(bundle) = source.get("clusterTrustBundle") {
        let names = ["name", "signerName"].map(|field| text(bundle, &[field]));
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        return vec![(text(bundle, &["path"]), format!("ClusterTrustBundle {}", quote(name)))];
    }
    let Some(certificate) = source.get("podCertificate") else { return Vec::new() };
    [("certificateChainPath", "chain"), ("keyPath", "key"), ("credentialBundlePath", "credential bundle")]
        .map(|(field, word)| (text(certificate, &[field]), format!("PodCertificate {word}")))
        .to_vec()
}

fn overlaps<'a>(files: impl Iterator<Item = File<'a>>, volume: &str, what: &str, found: &mut Vec<String>) {
    let show = |(path, source): &File<'_>| match source.as_str() {
        "" => quote(path),
        source => format!("{} ({source})", quote(path)),
    };
    let mut before: Vec<File<'a>> = Vec::new();
    for (path, source) in files {
        let file = (path.trim_end_matches('/'), source);
        if file.0.is_empty() {
            continue;
        }
        for other in before.iter().filter(|other| is_within(other.0, file.0) || is_within(file.0, other.0)) {
            let (one, two) = (show(&file), show(other));
            found.push(format!("volume {volume} ({what}): overlapping paths: {one} with {two}"));
        }
        before.push(file);
    }
}

/// Whether a path is another one, or below it.
fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
