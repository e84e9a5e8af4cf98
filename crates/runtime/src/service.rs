//! The calls.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Connection, ContainerConfig, ContainerStats, ContainerStatus, DiskUsage, Error, Image, RegistryAuth,
    Resources, SandboxConfig, SandboxStatus, Session, StreamOptions,
};

/// What a command run inside a container gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// At most 16 MiB of its standard output.
    pub stdout: Bytes,
    /// At most 16 MiB of its standard error.
    pub stderr: Bytes,
    /// Its exit code.
    pub exit_code: i32,
}

/// Something happened to a container without the caller's doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEvent {
    /// UID of the pod concerned.
    pub pod_uid: String,
    /// The sandbox's id.
    pub sandbox_id: String,
    /// The container's id; `None` when the sandbox itself changed.
    pub container_id: Option<String>,
}

/// A container runtime. Every call may be repeated: stopping what is stopped and removing what is gone succeed.
///
/// Sandboxes and containers outlive the process that made them; a new one of these finds them again, still running.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// The runtime's name: the scheme of its containers' ids.
    fn name(&self) -> &str;
    /// The handlers that it serves, as RuntimeClasses name them (`runc`, `wasm`).
    fn handlers(&self) -> Vec<String>;

    /// Makes and starts a sandbox; its namespaces and address are there when this returns its id.
    async fn run_sandbox(&self, config: SandboxConfig) -> Result<String, Error>;
    /// Kills what runs in it and gives back its address. It stays listed, not ready.
    async fn stop_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Stops and forgets it and its containers.
    async fn remove_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Sets those limits of the sandbox's own control group that are given. Memory that is in use is not taken away.
    async fn update_sandbox(&self, id: &str, _resources: Resources) -> Result<(), Error> {
        Err(Error::Unsupported(format!("sandbox {id} cannot be resized by its runtime")))
    }
    /// One sandbox.
    async fn sandbox_status(&self, id: &str) -> Result<SandboxStatus, Error>;
    /// All sandboxes.
    async fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>, Error>;

    /// Makes a container, not yet running, and returns its id.
    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, Error>;
    /// Starts it.
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// Sends its stop signal, and KILL after `timeout`; returns when its first process has ended.
    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<(), Error>;
    /// Kills and forgets it. Its log file stays.
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    /// One container.
    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error>;
    /// All containers.
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error>;
    /// Sets those of its limits that are given, while it runs. Memory that is in use is not taken away.
    async fn update_container(&self, id: &str, _resources: Resources) -> Result<(), Error> {
        Err(Error::Unsupported(format!("container {id} cannot be resized by its runtime")))
    }
    /// Runs a command in it and waits, at most `timeout`.
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration)
    -> Result<ExecOutput, Error>;
    /// Runs a command in it whose streams the caller keeps. The command goes on when they are dropped.
    async fn exec(&self, id: &str, command: Vec<String>, options: StreamOptions) -> Result<Session, Error> {
        let _ = (command, options);
        Err(Error::Unsupported(format!("{} cannot run commands in container {id}", self.name())))
    }
    /// Joins its streams, from what it writes next on. Others may be attached too. A caller that takes nothing is cut off
    /// rather than waited for.
    async fn attach(&self, id: &str, options: StreamOptions) -> Result<Session, Error> {
        let _ = options;
        Err(Error::Unsupported(format!("{} cannot attach to container {id}", self.name())))
    }
    /// Connects to a port of the sandbox' own loopback address.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Connection>, Error> {
        let _ = port;
        Err(Error::Unsupported(format!("{} cannot reach ports of sandbox {sandbox_id}", self.name())))
    }
    /// What it uses now.
    async fn container_stats(&self, id: &str) -> Result<ContainerStats, Error>;
    /// What it has written to its own root. Walks through all of it.
    async fn container_disk(&self, _id: &str) -> Result<DiskUsage, Error> {
        Ok(DiskUsage::default())
    }
    /// Closes and opens its log file again, after it was rotated.
    async fn reopen_log(&self, id: &str) -> Result<(), Error>;

    /// Waits for the next event. At most one caller waits at a time; events that nobody waited for are kept, and
    /// coalesced a container.
    async fn next_event(&self) -> Result<RuntimeEvent, Error>;

    /// The image of that name or id, if the store holds it.
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error>;
    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>, Error>;
    /// Fetches an image, as far as it is not here, and returns its id. Its registry is asked in any case: for what the
    /// name stands for now, and whether who asks may have it.
    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String, Error>;
    /// Forgets an image, given by name or id, and all its names; gives back the room that no container and no other image
    /// needs.
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    /// A directory of the file system that holds images and what containers write; `None`: that of the caller's data.
    fn image_directory(&self) -> Option<PathBuf> {
        None
    }
}
