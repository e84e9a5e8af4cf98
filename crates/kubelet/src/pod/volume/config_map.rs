//! A ConfigMap's keys as files.

use api::k8s::api::core::v1::{ConfigMapProjection, ConfigMapVolumeSource};

use super::files::File;
use super::{Content, Keyed, Material, Needs, Volume, default_mode};

const KIND: &str = "configmap";

impl Volume for ConfigMapVolumeSource {
    fn needs(&self, needs: &mut Needs) {
        needs.config_maps.insert(self.name.clone());
    }

    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let Self { name, items, optional, default_mode: mode } = self;
        let (items, mode) = (items.as_deref(), default_mode(*mode));
        let files = files(material, &Keyed { kind: KIND, name, items, optional: *optional, mode })?;
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
    let ConfigMapProjection { name, items, optional } = source;
    files(material, &Keyed { kind: KIND, name, items: items.as_deref(), optional: *optional, mode })
}

fn files(material: &Material<'_>, keyed: &Keyed<'_>) -> Result<Vec<File>, String> {
    keyed.files(material.sources.config_maps.get(keyed.name).map(|map| {
        let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let binary = map.binary_data.iter().flatten();
        text.chain(binary.map(|(key, value)| (key.as_str(), value.0.as_slice())))
    }))
}
