//! As whom a pod's images are asked for: its pull secrets.

use std::collections::BTreeSet;

use api::k8s::api::core::v1::Secret;
use images::{Credential, Digest, InvalidCredentials, Keyring, Reference};
use runtime::RegistryAuth;

use super::records::Source;
use crate::pod::operation::Scope;

/// One way to ask, and where it is from.
pub(crate) struct Asker {
    pub(crate) auth: RegistryAuth,
    pub(crate) source: Source,
}

/// The ways that a pod has to ask for an image; none: as nobody.
pub(super) async fn of_pod(scope: &Scope, image: &Reference) -> Result<Vec<Asker>, String> {
    let spec = scope.pod.spec.as_ref();
    let named: BTreeSet<String> = spec
        .iter()
        .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let sources = scope.given.sources(scope, BTreeSet::new(), named.clone()).await?;
    let missing: Vec<&str> =
        named.iter().filter(|name| !sources.secrets.contains_key(*name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        scope.warn(
            "FailedToRetrieveImagePullSecret",
            format!(
                "Unable to retrieve some image pull secrets ({missing}); attempting to pull the image may not succeed."
            ),
        );
    }
    let mut askers: Vec<Asker> = Vec::new();
    for (name, secret) in &sources.secrets {
        let ring = ring(secret).map_err(|error| format!("secret {:?}: {error}", name))?;
        for credential in ring.lookup(image) {
            let hash = hash(&credential);
            if askers.iter().any(|known| known.source.hash == hash) {
                continue;
            }
            let source = Source {
                namespace: scope.namespace().to_owned(),
                name: name.clone(),
                uid: secret.metadata.uid.clone().unwrap_or_default(),
                hash,
            };
            askers.push(Asker { auth: auth(credential), source });
        }
    }
    Ok(askers)
}

/// What a secret of one of the two types holds; one of another type holds nothing.
fn ring(secret: &Secret) -> Result<Keyring, InvalidCredentials> {
    let mut ring = Keyring::default();
    let value =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            value(".dockerconfigjson").map(|bytes| ring.add_config_json(bytes)).transpose()?;
        }
        Some("kubernetes.io/dockercfg") => {
            value(".dockercfg").map(|bytes| ring.add_dockercfg(bytes)).transpose()?;
        }
        _ => {}
    }
    Ok(ring)
}

fn auth(credential: Credential) -> RegistryAuth {
    RegistryAuth {
        username: credential.username,
        password: credential.password,
        identity_token: credential.identity_token,
        registry_token: credential.registry_token,
    }
}

/// By which the same credential is known again without being kept.
fn hash(credential: &Credential) -> String {
    let parts =
        [&credential.username, &credential.password, &credential.identity_token, &credential.registry_token];
    // Each with its length: no two credentials give the same bytes.
    let bytes: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    Digest::of(bytes.as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_types_of_secrets_are_read() {
        let secret = |kind: &str, key: &str, value: &str| -> Secret {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            serde_json::from_value(json!({"type": kind, "data": {key: encoded(&value)}})).unwrap()
        };
        fn encoded(text: &str) -> serde_json::Value {
            serde_json::to_value(api::k8s::ByteString(text.as_bytes().to_vec())).unwrap()
        }
        let entry = r#"{"a.example": {"username": "u", "password": "p"}}"#;
        let image: Reference = "a.example/x".parse().unwrap();
        let new = secret(
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson",
            &format!(r#"{{"auths": {entry}}}"#),
        );
        let old = secret("kubernetes.io/dockercfg", ".dockercfg", entry);
        for known in [&new, &old] {
            assert_eq!(ring(known).unwrap().lookup(&image)[0].username, "u");
        }
        assert_eq!(
            hash(&ring(&new).unwrap().lookup(&image)[0]),
            hash(&ring(&old).unwrap().lookup(&image)[0])
        );
        assert!(ring(&secret("Opaque", ".dockercfg", entry)).unwrap().lookup(&image).is_empty());
        assert!(ring(&secret("kubernetes.io/dockercfg", ".dockercfg", "x")).is_err());
    }
}
