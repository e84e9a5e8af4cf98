//! The verbs about the keys that Secrets are encrypted with at rest.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use pki::MasterKeys;

use crate::say;

/// `monoplane encryption …`.
#[derive(Clone, Debug, Subcommand)]
pub enum Encryption {
    /// List the keys, the one that encrypts first
    Keys(KeysFile),
    /// Add a key; running servers take it within seconds, and encrypt every Secret anew
    Rotate(KeysFile),
}

/// Where the keys are.
#[derive(Clone, Debug, Default, Args)]
pub struct KeysFile {
    /// File of the keys that Secrets are encrypted with at rest, made if it is not there. Keep a copy of it, and not with the
    /// backups: without it no Secret can be read, in a backup neither [default: /etc/monoplane/encryption-keys.json, or
    /// ~/.config/monoplane/encryption-keys.json when not root]
    #[arg(long, env = "MONOPLANE_ENCRYPTION_KEYS", value_name = "FILE")]
    pub encryption_keys: Option<PathBuf>,
}

impl KeysFile {
    /// The file's path.
    pub fn path(&self) -> Result<PathBuf> {
        let path = match &self.encryption_keys {
            Some(path) => path.clone(),
            None => usual()?,
        };
        std::path::absolute(&path).with_context(|| format!("--encryption-keys {}", path.display()))
    }

    /// Makes the file if it is not there, and gives it to the user that the server runs as.
    pub fn prepare(&self, user: Option<u32>) -> Result<PathBuf> {
        let path = self.path()?;
        if let Some(folder) = path.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).create(folder);
            made.with_context(|| format!("making {}", folder.display()))?;
        }
        MasterKeys::open(&path)?;
        give(&path, user)?;
        Ok(path)
    }
}

fn usual() -> Result<PathBuf> {
    const NAME: &str = "monoplane/encryption-keys.json";
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/etc").join(NAME));
    }
    if let Some(config) = std::env::var_os("XDG_CONFIG_HOME") {
        return Ok(Path::new(&config).join(NAME));
    }
    let home = std::env::var_os("HOME").context("neither --encryption-keys nor HOME is set")?;
    Ok(Path::new(&home).join(".config").join(NAME))
}

fn give(path: &Path, user: Option<u32>) -> Result<()> {
    let owner = std::fs::metadata(path)?.uid();
    match user.filter(|user| *user != owner) {
        Some(user) => std::os::unix::fs::chown(path, Some(user), Some(user))
            .with_context(|| format!("giving {} to user {user}", path.display())),
        None => Ok(()),
    }
}

/// Runs a verb.
pub fn run(verb: &Encryption) -> Result<()> {
    let (Encryption::Keys(file) | Encryption::Rotate(file)) = verb;
    let path = file.path()?;
    let owner = std::fs::metadata(&path).with_context(|| {
        format!("{}: no plane of this machine encrypts with it (see --encryption-keys)", path.display())
    })?;
    let mut keys = MasterKeys::open(&path)?;
    if matches!(verb, Encryption::Rotate(_)) {
        keys.rotate()?;
        // The server that reads it may not be us.
        give(&path, Some(owner.uid()))?;
        say::line(
            "Secrets are encrypted with a new key. The older ones stay, for backups that were made with them:",
        );
    }
    for (index, id) in keys.ids().enumerate() {
        say::line(format!("{id}{}", if index == 0 { "  encrypts" } else { "" }));
    }
    Ok(())
}
