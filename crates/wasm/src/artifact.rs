//! Compiled components on disk, and the one place where bytes become machine code.
//!
//! An artifact is executed as it stands, so nothing is loaded that this host (or another holder of the same key) did
//! not write: each carries an HMAC-SHA256 tag over its content, its component's digest and the engine's code hash. The
//! directory is the owner's alone; the tag guards against what is copied, restored or half written into it.
#![allow(unsafe_code)] // `deserialize_file` trusts its input; `load` and `load_module` are its only callers.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ring::rand::SecureRandom;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

/// Goes into every tag, so that the key can serve no other purpose by accident.
const DOMAIN: &[u8] = b"monoplane compiled component 1\0";
/// The same of tags of notes.
const NOTES: &[u8] = b"monoplane digest of a file 1\0";

/// A compiled component, loaded and ready to be linked. Cheap to clone.
#[derive(Clone)]
pub struct Artifact {
    digest: Arc<str>,
    pub(crate) component: Component,
}

impl Artifact {
    /// The digest of the component's own bytes, `sha256:…`.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Artifact").field(&self.digest).finish()
    }
}

/// Compiled code of either kind.
pub(crate) enum Code {
    Component(Artifact),
    Module(Module),
}

/// The digest of a component's bytes, `sha256:…`.
pub fn digest(component: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(component)))
}

/// The key that artifacts are authenticated with.
#[derive(Clone)]
pub struct MacKey(ring::hmac::Key);

impl MacKey {
    /// A key of 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// The key kept in `path`, made at first use and readable by the owner only.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let secret = bytes.as_slice().try_into().map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{} does not hold 32 bytes", path.display()),
                    )
                })?;
                return Ok(Self::new(secret));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut secret = [0; 32];
        ring::rand::SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let parent = path.parent().unwrap_or(Path::new("."));
        let temporary = parent.join(format!(".key.{}", std::process::id()));
        write_new(&temporary, &[&secret])?;
        // A hard link fails where another process was faster; its key is then the one.
        let linked = fs::hard_link(&temporary, path);
        fs::remove_file(&temporary)?;
        match linked {
            Ok(()) => Ok(Self::new(&secret)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load_or_create(path),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey")
    }
}

/// The cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file cannot be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// The engine refuses a component that was compiled for it: it asks for more than a slot of the pool has.
    #[error("the component does not fit: {0}")]
    Refused(String),
}

/// Artifacts by the digest of their component, all for one engine's code hash.
#[derive(Debug)]
pub struct ArtifactCache {
    directory: PathBuf,
    code_hash: String,
    key: MacKey,
    temporaries: AtomicU64,
}

impl ArtifactCache {
    /// Opens the cache in `root`, making it if absent.
    pub fn open(root: &Path, key: MacKey, code_hash: &str) -> Result<Self, CacheError> {
        let directory = root.join(code_hash);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| CacheError::File { action: "make", path: directory.clone(), source })?;
        Ok(Self { directory, code_hash: code_hash.to_owned(), key, temporaries: AtomicU64::new(0) })
    }

    /// Removes what other versions of the engine left beside this one's. Not where one of them may still run.
    pub fn sweep(&self) -> Result<(), CacheError> {
        let root = self.directory.parent().unwrap_or(&self.directory);
        let failed = |source| CacheError::File { action: "list", path: root.to_owned(), source };
        for entry in fs::read_dir(root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let stale = entry.file_name() != self.code_hash.as_str() && is_code_hash(&entry.file_name());
            if stale && let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove stale artifacts");
            }
        }
        Ok(())
    }

    /// Waits until no other process compiles the component with `digest`, and keeps others from it while the result lives.
    pub(crate) fn turn(&self, digest: &str) -> Result<fs::File, CacheError> {
        let path = self.path(digest).with_extension("turn");
        let failed = |source| CacheError::File { action: "lock", path: path.clone(), source };
        let mut options = fs::OpenOptions::new();
        let file =
            options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    /// Keeps `code`, made of the component with `digest`. The file appears whole or not at all.
    pub fn put(&self, digest: &str, code: &[u8]) -> Result<(), CacheError> {
        let path = self.path(digest);
        self.replace(&tag_path(&path), &[self.tag(digest, code).as_ref()])?;
        self.replace(&path, &[code])
    }

    /// Writes a file that appears whole or not at all.
    fn replace(&self, path: &Path, parts: &[&[u8]]) -> Result<(), CacheError> {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.directory.join(format!(".{}.{number}", std::process::id()));
        let written = write_new(&temporary, parts).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            // Best effort: the next opening by another version sweeps the directory anyway.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|source| CacheError::File { action: "write", path: path.to_owned(), source })
    }

    /// Notes the digest of what a file holds, by whatever stands for the file as it is now.
    pub(crate) fn note(&self, file: &str, digest: &str) -> Result<(), CacheError> {
        let tag = ring::hmac::sign(&self.key.0, &note(file, digest));
        self.replace(&self.note_path(file), &[tag.as_ref(), digest.as_bytes()])
    }

    /// The digest that was noted of a file, if it was and the note is true.
    pub(crate) fn noted(&self, file: &str) -> Option<String> {
        let path = self.note_path(file);
        // One that cannot be read is as good as none: the file is.
        let bytes = fs::read(&path).ok()?;
        let (tag, digest) = bytes.split_at_checked(32)?;
        let digest = std::str::from_utf8(digest).ok()?;
        ring::hmac::verify(&self.key.0, &note(file, digest), tag).ok()?;
        touch(&path);
        Some(digest.to_owned())
    }

    fn note_path(&self, file: &str) -> PathBuf {
        self.directory.join(format!("file-{}", hex(&Sha256::digest(file))))
    }

    /// The artifact of the component with `digest`, if there is one with a true tag. One with a false tag is as good as
    /// none, and is removed.
    pub fn get(&self, engine: &Engine, digest: &str) -> Result<Option<Artifact>, CacheError> {
        let Some(path) = self.verified(digest)? else { return Ok(None) };
        let component = load(engine, &path).map_err(refused)?;
        Ok(Some(Artifact { digest: digest.into(), component }))
    }

    /// The same for code of either kind.
    pub(crate) fn get_code(&self, engine: &Engine, digest: &str) -> Result<Option<Code>, CacheError> {
        let Some(path) = self.verified(digest)? else { return Ok(None) };
        let failed = |source| CacheError::File { action: "read", path: path.clone(), source };
        if Engine::detect_precompiled_file(&path).map_err(|error| failed(io::Error::other(error)))?
            == Some(Precompiled::Module)
        {
            return Ok(Some(Code::Module(load_module(engine, &path).map_err(refused)?)));
        }
        let component = load(engine, &path).map_err(refused)?;
        Ok(Some(Code::Component(Artifact { digest: digest.into(), component })))
    }

    /// Where the code with that digest is, if it has a true tag.
    fn verified(&self, digest: &str) -> Result<Option<PathBuf>, CacheError> {
        let path = self.path(digest);
        let failed = |source| CacheError::File { action: "read", path: path.clone(), source };
        let Some((code, tag)) = read_pair(&path).map_err(failed)? else { return Ok(None) };
        if ring::hmac::verify(&self.key.0, &self.message(digest, &code), &tag).is_err() {
            tracing::warn!(path = %path.display(), "artifact with a false tag removed");
            fs::remove_file(&path).map_err(failed)?;
            return Ok(None);
        }
        drop(code);
        [&path, &tag_path(&path)].into_iter().for_each(|used| touch(used));
        Ok(Some(path))
    }

    fn path(&self, digest: &str) -> PathBuf {
        // The digest is ours (`sha256:` and hexadecimal), the colon is no friend of file names.
        self.directory.join(digest.replace(':', "-"))
    }

    fn tag(&self, digest: &str, code: &[u8]) -> ring::hmac::Tag {
        ring::hmac::sign(&self.key.0, &self.message(digest, code))
    }

    /// What the tag is over: the content by its hash, so that no second copy of it is made.
    fn message(&self, digest: &str, code: &[u8]) -> Vec<u8> {
        let content = ring::digest::digest(&ring::digest::SHA256, code);
        [DOMAIN, self.code_hash.as_bytes(), b"\0", digest.as_bytes(), b"\0", content.as_ref()].concat()
    }
}

fn refused(error: wasmtime::Error) -> CacheError {
    CacheError::Refused(format!("{error:#}"))
}

/// Who forgets what is not used goes by this time. What was used is there, whether or not it can be set.
fn touch(path: &Path) {
    let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// What the tag of a note is over.
fn note(file: &str, digest: &str) -> Vec<u8> {
    [NOTES, file.as_bytes(), b"\0", digest.as_bytes()].concat()
}

/// Removes artifacts in the caches below `root` that nobody has loaded for so long.
pub(crate) fn forget_unused(root: &Path, longer_than: Duration) -> io::Result<()> {
    let now = SystemTime::now();
    let caches = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        caches => caches?,
    };
    for cache in caches {
        let cache = cache?;
        if !is_code_hash(&cache.file_name()) {
            continue;
        }
        for entry in fs::read_dir(cache.path())? {
            let entry = entry?;
            let used = entry.metadata()?.modified()?;
            if now.duration_since(used).is_ok_and(|idle| idle > longer_than) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Maps the artifact at `path`, whose tag has just been verified, into memory as code.
fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the content was made by `Engine::precompile_component` of an engine with the same code hash, by this host
    // or another holder of the key: the caller has verified its tag. It lies in a directory that only this user can
    // write, where files are put by rename and never written in place, so it is still what was verified and stays so
    // while it is mapped.
    unsafe { Component::deserialize_file(engine, path) }
}

/// The same for a core module.
fn load_module(engine: &Engine, path: &Path) -> wasmtime::Result<Module> {
    // SAFETY: as above; the code was made by `Engine::precompile_module`, which the file itself says and its tag vouches
    // for.
    unsafe { Module::deserialize_file(engine, path) }
}

fn read_pair(path: &Path) -> io::Result<Option<(Vec<u8>, [u8; 32])>> {
    let open = |path: &Path| match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let (Some(mut code_file), Some(mut tag_file)) = (open(path)?, open(&tag_path(path))?) else {
        return Ok(None);
    };
    let mut tag = [0; 32];
    if tag_file.read_exact(&mut tag).is_err() {
        return Ok(None);
    }
    let mut code = Vec::new();
    code_file.read_to_end(&mut code)?;
    Ok(Some((code, tag)))
}

fn tag_path(path: &Path) -> PathBuf {
    path.with_extension("tag")
}

fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn is_code_hash(name: &std::ffi::OsStr) -> bool {
    name.len() == 16 && name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{CodeSettings, code_hash};

    fn compiled() -> (Engine, Vec<u8>) {
        let engine = CodeSettings { reservation: 1 << 20 }.compiling().unwrap();
        let code = engine.precompile_component(b"\0asm\x0d\0\x01\0").unwrap();
        (engine, code)
    }

    #[test]
    fn what_was_put_is_got_and_what_was_touched_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, code) = compiled();
        let cache =
            ArtifactCache::open(directory.path(), MacKey::new(&[7; 32]), &code_hash(&engine)).unwrap();
        let digest = digest(b"x");
        assert!(cache.get(&engine, &digest).unwrap().is_none());
        cache.put(&digest, &code).unwrap();
        assert_eq!(cache.get(&engine, &digest).unwrap().unwrap().digest(), digest);

        let path = cache.path(&digest);
        let mut touched = fs::read(&path).unwrap();
        touched[100] ^= 1;
        fs::write(&path, touched).unwrap();
        assert!(cache.get(&engine, &digest).unwrap().is_none());
        assert!(!path.exists());
    }

    #[test]
    fn another_key_or_another_digest_is_not_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, code) = compiled();
        let open =
            |key| ArtifactCache::open(directory.path(), MacKey::new(&key), &code_hash(&engine)).unwrap();
        open([1; 32]).put(&digest(b"x"), &code).unwrap();
        let (x, y) = (open([1; 32]).path(&digest(b"x")), open([1; 32]).path(&digest(b"y")));
        fs::copy(&x, &y).unwrap();
        fs::copy(tag_path(&x), tag_path(&y)).unwrap();
        assert!(open([1; 32]).get(&engine, &digest(b"y")).unwrap().is_none());
        assert!(open([2; 32]).get(&engine, &digest(b"x")).unwrap().is_none());
    }

    #[test]
    fn a_note_is_of_one_file_and_by_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let open =
            |key| ArtifactCache::open(directory.path(), MacKey::new(&key), "0123456789abcdef").unwrap();
        let (cache, digest) = (open([1; 32]), digest(b"x"));
        assert_eq!(cache.noted("a"), None);
        cache.note("a", &digest).unwrap();
        assert_eq!((cache.noted("a"), cache.noted("b")), (Some(digest.clone()), None));
        assert_eq!(open([2; 32]).noted("a"), None);
        fs::copy(cache.note_path("a"), cache.note_path("b")).unwrap();
        assert_eq!(cache.noted("b"), None);
        fs::write(cache.note_path("a"), "short").unwrap();
        assert_eq!(cache.noted("a"), None);
    }

    #[test]
    fn both_kinds_of_code_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, component) = compiled();
        let module = engine.precompile_module(b"\0asm\x01\0\0\0").unwrap();
        let cache =
            ArtifactCache::open(directory.path(), MacKey::new(&[7; 32]), &code_hash(&engine)).unwrap();
        cache.put(&digest(b"c"), &component).unwrap();
        cache.put(&digest(b"m"), &module).unwrap();
        let get = |of: &[u8]| cache.get_code(&engine, &digest(of)).unwrap();
        assert!(matches!(get(b"c"), Some(Code::Component(_))));
        assert!(matches!(get(b"m"), Some(Code::Module(_))));
        assert!(get(b"none").is_none());
        assert!(matches!(cache.get(&engine, &digest(b"m")), Err(CacheError::Refused(_))));
    }

    #[test]
    fn other_engines_leftovers_are_swept_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("0123456789abcdef")).unwrap();
        fs::create_dir(directory.path().join("kept")).unwrap();
        let cache = ArtifactCache::open(directory.path(), MacKey::new(&[7; 32]), "fedcba9876543210").unwrap();
        assert!(directory.path().join("0123456789abcdef").exists());
        cache.sweep().unwrap();
        assert!(!directory.path().join("0123456789abcdef").exists());
        assert!(directory.path().join("kept").exists());
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let (first, second) =
            (MacKey::load_or_create(&path).unwrap(), MacKey::load_or_create(&path).unwrap());
        let tag = ring::hmac::sign(&first.0, b"m");
        assert!(ring::hmac::verify(&second.0, b"m", tag.as_ref()).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(MacKey::load_or_create(&path).is_err());
    }
}
