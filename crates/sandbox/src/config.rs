//! What the node's process gives this crate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runtime::SandboxConfig;
use serde::{Deserialize, Serialize};

/// How the program that plays the shims is started: `executable args…` and further words. It must call
/// [`crate::shim::main`] with the words after `args`, before it starts any thread.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    /// The program, usually this one.
    pub executable: PathBuf,
    /// The hidden subcommand.
    pub args: Vec<String>,
}

/// Which [`crate::shim::Workload`] is asked to run containers, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadConfig {
    /// The name under which the shim's program has it.
    pub name: String,
    /// What it is told each time; kept with the container.
    pub settings: serde_json::Value,
}

/// Where and how sandboxes are kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The runtime's name.
    pub name: String,
    /// The handlers that it serves, as RuntimeClasses name them. The containers of one with a workload are given to that
    /// workload first.
    pub handlers: BTreeMap<String, Option<WorkloadConfig>>,
    /// Directory for all that sandboxes and containers keep, their writable layers too. Emptied by
    /// [`crate::Containers::cleanup`].
    pub state_dir: PathBuf,
    /// The shim's program.
    pub shim: ShimCommand,
    /// Control group for the shims themselves, relative to the hierarchies' root (`monoplane/shims`).
    pub shim_cgroup: String,
    /// Control group above all pods' (`monoplane/pods`), which limits what they take together.
    pub pods_cgroup: String,
    /// Processes and threads that all pods may have together; `None`: half of the machine's, at most 32,768. A pod that
    /// says nothing itself may have a quarter of them.
    pub pids_limit: Option<i64>,
}

/// Gives pods their network. Implemented over the `network` crate by whoever composes the node.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    /// Connects the network namespace at this path (its loopback is down, it has nothing else) and returns the pod's
    /// addresses, the primary one first, once what it sends and is sent may pass. Repeating it returns the same.
    async fn attach(
        &self,
        sandbox_id: &str,
        pod: &SandboxConfig,
        namespace: &Path,
    ) -> Result<Vec<IpAddr>, String>;
    /// Takes the addresses back; the namespace may be gone. Repeating it succeeds.
    async fn detach(&self, sandbox_id: &str) -> Result<(), String>;
    /// Takes back what belongs to none of these sandboxes: what a crash left over.
    async fn retain(&self, sandbox_ids: &[String]) -> Result<(), String>;
}
