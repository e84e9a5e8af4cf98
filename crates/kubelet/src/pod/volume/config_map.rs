//! A ConfigMap's keys as files.

use api::k8s::api::core::v1::{ConfigMapProjection, ConfigMapVolumeSource, KeyToPath};

use super::files::File;
use super::{Content, Material, Needs, Volume, default_mode, select};

impl Volume for ConfigMapVolumeSource {
    fn needs(&self, needs: &mut Needs) {
        needs.config_maps.insert(self.name.clone());
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let (items, mode) = (self.items.as_deref(), default_mode(self.default_mode));
        let files = files(material, &self.name, items, self.optional, mode)?;
        Ok(Content::Files { files, memory: false })
    }

    fn refresh(&self) -> bool {
        true
    }
}

/// As a part of a projected volume.
pub(super) fn projection(
    source: &ConfigMapProjection,
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
    let Some(map) = material.sources.config_maps.get(name) else {
        return if optional { Ok(Vec::new()) } else { Err(format!("configmap \"{name}\" not found")) };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(text.chain(binary).collect(), items, optional, mode)
}
