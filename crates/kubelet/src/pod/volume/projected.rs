//! Several sources in one directory, in memory: one of them may be a secret or a token.

use api::k8s::api::core::v1::{ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection};

use super::files::File;
use super::{
    Content, Material, Needs, TokenRequest, Volume, config_map, default_mode, downward, inside, secret,
};

impl Volume for ProjectedVolumeSource {
    fn needs(&self, needs: &mut Needs) {
        for part in self.sources.iter().flatten() {
            needs.config_maps.extend(part.config_map.as_ref().map(|source| source.name.clone()));
            needs.secrets.extend(part.secret.as_ref().map(|source| source.name.clone()));
            needs.tokens.extend(part.service_account_token.as_ref().map(token_request));
        }
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let mode = default_mode(self.default_mode);
        let mut files: Vec<File> = Vec::new();
        for part in self.sources.iter().flatten() {
            let part = projection(part, material, mode)?;
            // Of one path the last one stays, as upstream.
            files.retain(|file| !part.iter().any(|later| later.path == file.path));
            files.extend(part);
        }
        Ok(Content::Files { files, memory: true })
    }

    fn refresh(&self) -> bool {
        true
    }
}

fn token_request(source: &ServiceAccountTokenProjection) -> TokenRequest {
    TokenRequest {
        audience: source.audience.clone().unwrap_or_default(),
        expiration_seconds: source.expiration_seconds.unwrap_or(3600),
    }
}

fn projection(part: &VolumeProjection, material: &Material<'_>, mode: u32) -> Result<Vec<File>, String> {
    let VolumeProjection {
        config_map,
        downward_api,
        secret,
        service_account_token,
        cluster_trust_bundle,
        pod_certificate,
    } = part;
    if let Some(source) = config_map {
        return config_map::projection(source, material, mode);
    }
    if let Some(source) = secret {
        return secret::projection(source, material, mode);
    }
    if let Some(source) = downward_api {
        return downward::files(material, source.items.as_deref(), mode);
    }
    if let Some(source) = service_account_token {
        let token = material.tokens.get(&token_request(source));
        let token = token.ok_or("the service account's token could not be had")?;
        let bytes = token.clone().into_bytes();
        return Ok(vec![File { path: inside(&source.path)?, bytes, mode: 0o600 | mode }]);
    }
    let name = match (cluster_trust_bundle, pod_certificate) {
        (Some(_), _) => "clusterTrustBundle",
        (None, Some(_)) => "podCertificate",
        (None, None) => "a projection without a source",
    };
    Err(format!("projected {name} is not supported on this node"))
}
