//! The files of an image. The runtime mounts them for each container; nothing of them is on the kubelet's disk.

use api::k8s::api::core::v1::ImageVolumeSource;

use super::{Content, Material, Volume};

impl Volume for ImageVolumeSource {
    fn content(&self, _: &Material<'_>) -> Result<Content, String> {
        Ok(Content::Image)
    }
}
