//! A path of the machine.

use std::path::{Path, PathBuf};

use api::k8s::api::core::v1::HostPathVolumeSource;

use super::{Content, Material, Volume};

impl Volume for HostPathVolumeSource {
    fn content(&self, _: &Material<'_>) -> Result<Content, String> {
        let kind = self.type_.clone().unwrap_or_default();
        Ok(Content::Host { path: PathBuf::from(&self.path), kind })
    }
}

/// Checks, or makes, a path of the machine, as its `type` says.
pub(super) fn make(path: &Path, kind: &str) -> std::io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let found = std::fs::metadata(path);
    let is =
        |test: fn(&std::fs::FileType) -> bool| found.as_ref().is_ok_and(|found| test(&found.file_type()));
    let right = match kind {
        "" => true,
        "DirectoryOrCreate" => {
            if found.is_err() {
                std::fs::create_dir_all(path)?;
            }
            path.is_dir()
        }
        "FileOrCreate" => {
            if found.is_err() {
                std::fs::File::create_new(path)?;
            }
            path.is_file()
        }
        "Directory" => is(std::fs::FileType::is_dir),
        "File" => is(std::fs::FileType::is_file),
        "Socket" => is(FileTypeExt::is_socket),
        "CharDevice" => is(FileTypeExt::is_char_device),
        "BlockDevice" => is(FileTypeExt::is_block_device),
        _ => false,
    };
    let words = format!("hostPath type check failed: {} is not a {kind}", path.display());
    if right { Ok(()) } else { Err(std::io::Error::other(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_what_they_have_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/here");
        let check = |path: &Path, kind: &str, good: bool| {
            assert_eq!(make(path, kind).is_ok(), good, "{kind}");
        };
        check(&path, "Directory", false);
        check(&path, "DirectoryOrCreate", true);
        check(&path, "Directory", true);
        check(&path, "File", false);
        check(&path.join("file"), "FileOrCreate", true);
        check(&path.join("none"), "", true);
    }
}
