//! Where a sandbox keeps what on disk, and how files are written so that a crash leaves the old or the new.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use runtime::{ContainerConfig, SandboxConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A sandbox's directory.
#[derive(Clone, Debug)]
pub(crate) struct SandboxFiles(pub(crate) PathBuf);

/// A container's directory, within its sandbox's.
#[derive(Clone, Debug)]
pub(crate) struct ContainerFiles(pub(crate) PathBuf);

/// What a node process knows of a sandbox; `sandbox.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) ips: Vec<std::net::IpAddr>,
    pub(crate) config: SandboxConfig,
}

/// What a shim is told at its start; `shim-config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShimConfig {
    pub(crate) config: SandboxConfig,
    /// The control group for the shim itself.
    pub(crate) own_group: String,
}

/// Which process a shim is; `shim.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimProcess {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    /// First process of the pod's shared process namespace; 0 where each container has its own.
    pub(crate) pause_pid: i32,
}

/// What a node process knows of a container; `container.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerFile {
    pub(crate) id: String,
    pub(crate) image_id: String,
    pub(crate) stop_signal: i32,
    pub(crate) config: ContainerConfig,
}

/// What a shim needs to make a container beside the OCI configuration; `plan.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Layers, the base first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) log: PathBuf,
    /// Whether standard input stays open.
    pub(crate) stdin: bool,
    pub(crate) user: UserPlan,
}

/// Who the container's processes are, before the image's own `/etc/passwd` is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserPlan {
    /// The image's `user[:group]`.
    pub(crate) image: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Vec<u32>,
}

impl SandboxFiles {
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }
    pub(crate) fn shim_config(&self) -> PathBuf {
        self.0.join("shim-config.json")
    }
    pub(crate) fn shim_process(&self) -> PathBuf {
        self.0.join("shim.json")
    }
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }
    /// Its presence: the sandbox was stopped, or lost its shim.
    pub(crate) fn stopped(&self) -> PathBuf {
        self.0.join("stopped")
    }
    pub(crate) fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }
    /// libcontainer's own state.
    pub(crate) fn oci(&self) -> PathBuf {
        self.0.join("oci")
    }
    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    pub(crate) fn container(&self, id: &str) -> ContainerFiles {
        ContainerFiles(self.containers().join(id))
    }
}

/// The socket's name in the sandbox's directory. Its whole path may be longer than a socket's address can be.
pub(crate) const SOCKET: &str = "shim.sock";

impl ContainerFiles {
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("container.json")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }
    pub(crate) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }
    /// The OCI configuration; the directory is the bundle.
    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("config.json")
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }
}

/// Replaces a file. Not synced: what it tells does not outlive the machine's boot.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    drop(file);
    fs::rename(new, path)
}

/// Reads a file written by [`write`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = fs::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}
