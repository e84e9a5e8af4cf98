//! Pod sandboxes: the namespaces and cgroup that a pod's containers share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which namespace of a kind a sandbox lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// One for the pod.
    #[default]
    Pod,
    /// One for each container (pid only).
    Container,
    /// The machine's own.
    Node,
}

/// What a sandbox is for: the pod's identity and the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxMetadata {
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod UID.
    pub uid: String,
    /// 0 for the pod's first sandbox, one more for each that replaced it.
    pub attempt: u32,
}

/// Name resolution within the pod; written to its `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Name server addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// Limits of a cgroup. `None`: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative CPU weight, in the 2..=262144 scale of cgroup v1.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time a period.
    pub cpu_quota: Option<i64>,
    /// Length of the period in microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes of memory.
    pub memory_limit: Option<i64>,
    /// Number of processes.
    pub pids_limit: Option<i64>,
    /// -1000 (never) to 1000 (first): who is killed when memory ends.
    pub oom_score_adj: i64,
}

/// A user namespace: the ids from 0 inside are as many from `base` on the machine, users' and groups' alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// The machine's id that is 0 inside.
    pub base: u32,
    /// How many ids there are.
    pub size: u32,
}

impl UserNamespace {
    /// The machine's id of one inside, if there is such an id inside.
    pub fn on_machine(self, id: u32) -> Option<u32> {
        (id < self.size).then(|| self.base.checked_add(id)).flatten()
    }
}

/// A sandbox to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Whose it is.
    pub metadata: SandboxMetadata,
    /// Host name inside.
    pub hostname: String,
    /// Where the containers' log files go, one directory a pod.
    pub log_directory: PathBuf,
    /// Name resolution.
    pub dns: DnsConfig,
    /// For the caller's use: kept, returned and filtered by.
    pub labels: BTreeMap<String, String>,
    /// For the caller's use: kept and returned.
    pub annotations: BTreeMap<String, String>,
    /// Parent cgroup, relative to the hierarchy's root (`monoplane/pod<uid>`).
    pub cgroup_parent: String,
    /// Limits on the pod's own cgroup.
    pub resources: Resources,
    /// Network namespace.
    pub network: NamespaceMode,
    /// Process namespace.
    pub pid: NamespaceMode,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// The pod's own user namespace, which then owns its other namespaces; `None`: the machine's. The ids on the disk of
    /// what is mounted into its containers are those inside.
    pub user_namespace: Option<UserNamespace>,
    /// Whether this machine's administrator asks for it in a file, and not the API, which may be away and know nothing of it.
    pub static_pod: bool,
    /// Kernel settings inside the namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Which of the runtime's handlers runs its containers; empty: the one that runs the programs of their images.
    pub handler: String,
}

/// Whether a sandbox can hold running containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Its namespaces exist.
    Ready,
    /// It was stopped, or its shim died.
    NotReady,
}

/// A sandbox as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub metadata: SandboxMetadata,
    /// Whether it can hold running containers.
    pub state: SandboxState,
    /// When it was made, nanoseconds since the Unix epoch.
    pub created_at: i64,
    /// Its addresses, the primary one first. Empty on the machine's own network.
    pub ips: Vec<IpAddr>,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
}
