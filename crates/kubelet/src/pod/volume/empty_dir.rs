//! A directory of the pod's own.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use api::k8s::api::core::v1::EmptyDirVolumeSource;
use apimachinery::quantity::Quantity;

use super::{Content, Material, Volume, memory};

impl Volume for EmptyDirVolumeSource {
    fn content(&self, _: &Material<'_>) -> Result<Content, String> {
        let limit = self.size_limit.as_ref().and_then(|limit| limit.0.parse::<Quantity>().ok());
        match self.medium.as_deref().unwrap_or_default() {
            "" => Ok(Content::Empty { memory: false, limit: None }),
            "Memory" => Ok(Content::Empty { memory: true, limit: limit.map(|limit| limit.value()) }),
            medium => Err(format!("emptyDir medium {medium:?} is not supported on this node")),
        }
    }
}

/// Makes it once. `limit` is there for what is in memory. The marker, beside the directory, says that all was done:
/// whoever made the directory may have ended before it had its mode.
pub(super) fn make(
    directory: &Path,
    marker: &Path,
    limit: Option<Option<i64>>,
    group: Option<u32>,
) -> std::io::Result<()> {
    let mut fresh = !directory.exists() || !marker.exists();
    std::fs::create_dir_all(directory)?;
    if let Some(limit) = limit
        && !memory::is_mounted(directory)?
    {
        // The machine's memory has been lost since, and the mount with it.
        memory::mount(directory, limit)?;
        fresh = true;
    }
    if !fresh {
        return Ok(());
    }
    // As upstream: whoever the container runs as may write.
    let mut mode = 0o777;
    if let Some(group) = group {
        chown(directory, None, Some(group))?;
        mode |= 0o2000;
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode))?;
    if let Some(parent) = marker.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(marker, b"")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn mode_and_owner_are_set_until_they_were_once() {
        let root = tempfile::tempdir().unwrap();
        let (directory, marker) = (root.path().join("volumes/v"), root.path().join("made/v"));
        // Whoever began to make it came no further.
        std::fs::create_dir_all(&directory).unwrap();
        let mode = || std::fs::metadata(&directory).unwrap().mode() & 0o7777;
        let group = std::fs::metadata(&directory).unwrap().gid();
        make(&directory, &marker, None, Some(group)).unwrap();
        assert_eq!(mode(), 0o2777);
        // From now on it is the pod's.
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        make(&directory, &marker, None, Some(group)).unwrap();
        assert_eq!(mode(), 0o700);
    }
}
