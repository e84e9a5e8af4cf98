//! A Secret's keys as files, in memory.

use api::k8s::api::core::v1::{SecretProjection, SecretVolumeSource};

use super::files::File;
use super::{Content, Keyed, Material, Needs, Volume, default_mode};

const KIND: &str = "secret";

impl Volume for SecretVolumeSource {
    fn needs(&self, needs: &mut Needs) {
        needs.secrets.extend(self.secret_name.clone());
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let Self { secret_name, items, optional, default_mode: mode } = self;
        let (items, mode) = (items.as_deref(), default_mode(*mode));
        let name = secret_name.as_deref().unwrap_or_default();
        let files = files(material, &Keyed { kind: KIND, name, items, optional: *optional, mode })?;
        Ok(Content::Files { files, memory: true })
    }

    fn refresh(&self) -> bool {
        true
    }
}

/// As a part of a projected volume.
pub(super) fn projection(
    source: &SecretProjection,
    material: &Material<'_>,
    mode: u32,
) -> Result<Vec<File>, String> {
    let SecretProjection { name, items, optional } = source;
    files(material, &Keyed { kind: KIND, name, items: items.as_deref(), optional: *optional, mode })
}

fn files(material: &Material<'_>, keyed: &Keyed<'_>) -> Result<Vec<File>, String> {
    keyed.files(
        material.sources.secrets.get(keyed.name).map(|secret| {
            secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()))
        }),
    )
}
