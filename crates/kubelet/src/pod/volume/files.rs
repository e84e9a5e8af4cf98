//! A volume of generated files, changed all at once.
//!
//! The files lie in a directory of their own beside those of earlier versions; the link `..data` says which one counts,
//! and what is seen under the files' names are links through it. A reader who keeps `..data` open sees one version.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// A file of a generated volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

/// Makes the directory hold these files and no others. Blocks.
pub(super) fn write(directory: &Path, files: &[File], group: Option<u32>) -> io::Result<()> {
    set_mode(directory, 0o755, group)?;
    let current = fs::read_link(directory.join(DATA)).ok();
    let current = match current {
        Some(current) if holds(&directory.join(&current), files, group)? => current,
        before => {
            let version = before.as_deref().and_then(number).map_or(1, |version| version + 1);
            let fresh = PathBuf::from(format!("..{version}"));
            write_version(&directory.join(&fresh), files, group)?;
            replace(directory, OsStr::new(NEXT), &fresh)?;
            fs::rename(directory.join(NEXT), directory.join(DATA))?;
            fresh
        }
    };
    show(directory, files)?;
    tidy(directory, &current)
}

fn number(version: &Path) -> Option<u64> {
    version.to_str()?.strip_prefix("..")?.parse().ok()
}

/// The mode that a file has on the disk: those of the pod's group may read it.
fn mode_of(file: &File, group: Option<u32>) -> u32 {
    file.mode | if group.is_some() { 0o440 } else { 0 }
}

/// Whether a version holds exactly these files.
fn holds(version: &Path, files: &[File], group: Option<u32>) -> io::Result<bool> {
    let mut found = Vec::new();
    list(version, &mut found)?;
    let wanted: BTreeSet<PathBuf> = files.iter().map(|file| version.join(&file.path)).collect();
    if found.into_iter().collect::<BTreeSet<_>>() != wanted {
        return Ok(false);
    }
    for file in files {
        let path = version.join(&file.path);
        let metadata = fs::metadata(&path)?;
        let same = metadata.mode() & 0o7777 == mode_of(file, group)
            && group.is_none_or(|group| metadata.gid() == group)
            && fs::read(&path)? == file.bytes;
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn write_version(version: &Path, files: &[File], group: Option<u32>) -> io::Result<()> {
    // Whoever wrote it before did not come to its end, or it would count.
    remove(version)?;
    fs::create_dir(version)?;
    set_mode(version, 0o755, group)?;
    for file in files {
        let path = version.join(&file.path);
        let parents = file.path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        for parent in parents.collect::<Vec<_>>().into_iter().rev() {
            let parent = version.join(parent);
            fs::create_dir_all(&parent)?;
            set_mode(&parent, 0o755, group)?;
        }
        fs::write(&path, &file.bytes)?;
        if let Some(group) = group {
            chown(&path, None, Some(group))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode_of(file, group)))?;
    }
    Ok(())
}

fn set_mode(directory: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    if let Some(group) = group {
        chown(directory, None, Some(group))?;
    }
    let mode = mode | if group.is_some() { 0o2000 } else { 0 };
    fs::set_permissions(directory, fs::Permissions::from_mode(mode))
}

/// Puts a link where there may be something else.
fn replace(directory: &Path, name: &OsStr, target: &Path) -> io::Result<()> {
    let path = directory.join(name);
    if fs::read_link(&path).is_ok_and(|known| known == target) {
        return Ok(());
    }
    remove(&path)?;
    symlink(target, path)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Shows the current version's files, by links through the one that is changed.
fn show(directory: &Path, files: &[File]) -> io::Result<()> {
    for name in names(files) {
        replace(directory, name, &Path::new(DATA).join(name))?;
    }
    Ok(())
}

fn names(files: &[File]) -> BTreeSet<&OsStr> {
    files.iter().filter_map(|file| Some(file.path.components().next()?.as_os_str())).collect()
}

/// Removes what neither shows nor holds the current version.
fn tidy(directory: &Path, current: &Path) -> io::Result<()> {
    let version = directory.join(current);
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let kept = name == OsStr::new(DATA) || Path::new(&name) == current || version.join(&name).exists();
        if !kept {
            remove(&directory.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), bytes: text.into(), mode: 0o440 }
    }

    fn entries(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_version_replaces_another_at_once() {
        let volume = tempfile::tempdir().unwrap();
        let volume = volume.path();
        // As an earlier release left it.
        fs::write(volume.join("a"), "old").unwrap();
        write(volume, &[file("a", "one"), file("sub/b", "one"), file("gone", "")], None).unwrap();
        assert_eq!(entries(volume), ["..1", "..data", "a", "gone", "sub"]);
        assert_eq!(fs::read_to_string(volume.join("sub/b")).unwrap(), "one");
        let mode = fs::metadata(volume.join("a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o440);

        let kept = fs::File::open(volume.join("..data/a")).unwrap();
        write(volume, &[file("a", "two"), file("sub/b", "two"), file("new", "")], None).unwrap();
        assert_eq!(entries(volume), ["..2", "..data", "a", "new", "sub"]);
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "two");
        assert_eq!(io::read_to_string(kept).unwrap(), "one");
    }

    #[test]
    fn what_is_the_same_stays() {
        let volume = tempfile::tempdir().unwrap();
        let volume = volume.path();
        let files = [file("a", "one"), file("sub/b", "one")];
        write(volume, &files, None).unwrap();
        write(volume, &files, None).unwrap();
        assert_eq!(fs::read_link(volume.join(DATA)).unwrap(), Path::new("..1"));
        let mut other = files.clone();
        other[0].mode = 0o400;
        write(volume, &other, None).unwrap();
        assert_eq!(fs::read_link(volume.join(DATA)).unwrap(), Path::new("..2"));
    }

    #[test]
    fn a_version_that_was_not_finished_is_written_again() {
        let volume = tempfile::tempdir().unwrap();
        let volume = volume.path();
        fs::create_dir(volume.join("..1")).unwrap();
        fs::write(volume.join("..1/stray"), "").unwrap();
        symlink("..1", volume.join(NEXT)).unwrap();
        write(volume, &[file("a", "one")], None).unwrap();
        assert_eq!(entries(volume), ["..1", "..data", "a"]);
        assert_eq!(entries(&volume.join("..1")), ["a"]);
    }
}
