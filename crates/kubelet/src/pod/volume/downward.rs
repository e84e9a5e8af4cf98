//! What a pod may know of itself, as files.

use api::k8s::api::core::v1::{DownwardAPIVolumeFile, DownwardAPIVolumeSource};

use super::files::File;
use super::{Content, Material, Volume, default_mode, inside};
use crate::environment;
use crate::pod::containers;

impl Volume for DownwardAPIVolumeSource {
    fn content(&self, material: &Material<'_>) -> Result<Content, String> {
        let files = files(material, self.items.as_deref(), default_mode(self.default_mode))?;
        Ok(Content::Files { files, memory: false })
    }

    /// Labels and annotations may change.
    fn refresh(&self) -> bool {
        true
    }
}

/// The files of these items; a part of a projected volume has the same.
pub(super) fn files(
    material: &Material<'_>,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    for item in items.unwrap_or_default() {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => environment::field_value(material.pod, field, material.place),
            (None, Some(field)) => {
                let name = field.container_name.as_deref().unwrap_or_default();
                let Some(container) = containers::find(material.pod, name) else {
                    return Err(format!("container {name:?} not found in pod"));
                };
                environment::resource_value(&container.spec, field, material.place)
            }
            (None, None) => continue,
        };
        let mode = item.mode.map_or(mode, |mode| mode as u32);
        let bytes = text.map_err(|error| error.0)?.into_bytes();
        files.push(File { path: inside(&item.path)?, bytes, mode });
    }
    Ok(files)
}
