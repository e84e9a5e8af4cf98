//! Where things lie in a data directory, and who may read them.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::flags::AtDataDir;

/// The data directory of one plane. Each role writes only below its own folder.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// What `<data-dir>/endpoints.json` says: where clients find the plane that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// The Kubernetes API, as `https://address:port`.
    pub api: String,
    /// The gateway, as `http://address:port`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway: Option<String>,
    /// The gateway over TLS, as `https://address:port`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gateway_tls: Option<String>,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

impl Layout {
    /// The directory that the flags name, or the usual one.
    pub fn new(at: &AtDataDir) -> Result<Self> {
        let root = match &at.data_dir {
            Some(directory) => directory.clone(),
            None => usual()?,
        };
        let root =
            std::path::absolute(&root).with_context(|| format!("data directory {}", root.display()))?;
        Ok(Self { root })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The server's own folder: store, CA, keys.
    pub fn server(&self) -> PathBuf {
        self.root.join("server")
    }

    /// Kubeconfigs that the server issued, waiting to be handed to the roles they name.
    pub fn credentials(&self) -> PathBuf {
        self.server().join("credentials")
    }

    /// The node's own folder: images, pods, shims.
    pub fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// What the node's runtime keeps of sandboxes and containers.
    pub fn containers(&self) -> PathBuf {
        self.node().join("containers")
    }

    /// What the node knows of registries, if nothing else is named.
    pub fn registries(&self) -> PathBuf {
        self.node().join("registries.yaml")
    }

    /// The names of what the node makes outside of its folder.
    pub fn marks(&self) -> PathBuf {
        self.node().join("marks.json")
    }

    /// The edge's own folder: journals, artifacts, embedded stores.
    pub fn edge(&self) -> PathBuf {
        self.root.join("edge")
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    /// Where the plane's addresses are written.
    pub fn endpoints(&self) -> PathBuf {
        self.root.join("endpoints.json")
    }

    /// Process ids of the roles that `up` runs.
    pub fn processes(&self) -> PathBuf {
        self.root.join("processes.json")
    }

    /// Reads the addresses of the plane that runs here.
    pub fn read_endpoints(&self) -> Result<Endpoints> {
        let path = self.endpoints();
        let bytes = std::fs::read(&path).with_context(|| {
            format!("no plane has been started in {} (start one with `monoplane up`)", self.root.display())
        })?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    }
}

fn usual() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/monoplane".into());
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME") {
        return Ok(Path::new(&data).join("monoplane"));
    }
    let home = std::env::var_os("HOME").context("neither --data-dir nor HOME is set")?;
    Ok(Path::new(&home).join(".local/share/monoplane"))
}

/// Makes a directory (and its parents) with exactly this mode.
pub fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.with_context(|| format!("making {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

/// Writes a file that does not hold these bytes yet.
pub fn keep_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    if std::fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    write_file(path, bytes, mode)
}

/// Writes a file so that a reader sees the old bytes or the new, never half, even after a power cut.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_file_of(path, bytes, mode, None)
}

/// The same for a file of another user.
pub fn write_file_of(path: &Path, bytes: &[u8], mode: u32, owner: Option<u32>) -> Result<()> {
    use rustix::fs::{Gid, Uid};
    let attempt = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        if let Some(owner) = owner {
            rustix::fs::fchown(file.as_file(), Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}
