//! A Secret's keys as files, in memory.

use api::k8s::api::core::v1::{KeyToPath, SecretProjection, SecretVolumeSource};

use super::files::File;
use super::{Content, Material, Needs, Volume, default_mode, select};

impl Volume for SecretVolumeSource {
    fn needs(&self, needs: &mut Needs) {
        needs.secrets.extend(self.secret_name.clone());
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let (items, mode) = (self.items.as_deref(), default_mode(self.default_mode));
        let name = self.secret_name.as_deref().unwrap_or_default();
        let files = files(material, name, items, self.optional, mode)?;
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
    files(material, &source.name, source.items.as_deref(), source.optional, mode)
}

fn files(
    material: &Material<'_>,
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
) -> Result<Vec<File>, String> {
    let optional = optional == Some(true);
    let Some(secret) = material.sources.secrets.get(name) else {
        return if optional { Ok(Vec::new()) } else { Err(format!("secret \"{name}\" not found")) };
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(data.collect(), items, optional, mode)
}
