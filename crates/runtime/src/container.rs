//! Containers within a sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Resources;

/// Which container of the pod, and which run of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerMetadata {
    /// The container's name in the pod.
    pub name: String,
    /// 0 for its first run, one more for each restart.
    pub attempt: u32,
}

/// How a mount follows mounts made after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// Neither side sees the other's later mounts.
    #[default]
    Private,
    /// The container sees the host's later mounts.
    HostToContainer,
    /// Both see each other's.
    Bidirectional,
}

/// A mount into a container: of a path of the machine, or of an image's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Absolute path inside.
    pub container_path: String,
    /// Absolute path on the machine.
    pub host_path: PathBuf,
    /// Instead of it, an image: its name or id, present in the runtime's store. Its files are mounted read-only, and none of
    /// them is executed from there.
    pub image: String,
    /// The part of it that is mounted, relative; empty: all of it. Other containers may arrange what is below
    /// `host_path` as they like at any time, so a runtime looks this up itself when it mounts, and never follows it out
    /// of `host_path`.
    pub sub_path: PathBuf,
    /// Whether writing is refused.
    pub readonly: bool,
    /// Whether writing is refused in the mounts below it too.
    pub recursive_readonly: bool,
    /// Propagation.
    pub propagation: MountPropagation,
}

/// A profile of what a container's processes may do, enforced by the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// One of the machine's: for seccomp the absolute path of its file, for AppArmor the name of a loaded one.
    Localhost(String),
}

/// Which groups a container's processes have beside their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// Those that are asked for, and those that list the user in the image's `/etc/group`.
    #[default]
    Merge,
    /// Those that are asked for.
    Strict,
}

/// Who and what a container's processes are. The default is CRI's: the image's user and the default capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityContext {
    /// Numeric user; `None`: the image's.
    pub run_as_user: Option<i64>,
    /// Numeric group; `None`: the user's primary one, or 0.
    pub run_as_group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the user's groups in the image come along.
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    /// Whether the root file system refuses writing.
    pub readonly_rootfs: bool,
    /// Whether gaining privileges through set-uid files is refused.
    pub no_new_privs: bool,
    /// All capabilities, all devices, no masks.
    pub privileged: bool,
    /// Capabilities added to the default set, without `CAP_`; `ALL` for every one.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from it; `ALL` for every one.
    pub drop_capabilities: Vec<String>,
    /// Which system calls they may make. Not looked at for a privileged container.
    pub seccomp: SecurityProfile,
    /// The AppArmor profile that they run under. Not looked at for a privileged container.
    pub apparmor: SecurityProfile,
    /// Nothing of /proc and /sys is hidden or made read-only. For who has a user namespace of its own.
    pub unmasked_proc: bool,
}

/// A container to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Which container, which run.
    pub metadata: ContainerMetadata,
    /// Image name or id, present in the runtime's store.
    pub image: String,
    /// Replaces the image's entry point if not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments if not empty (or if `command` is given).
    pub args: Vec<String>,
    /// Working directory; empty: the image's.
    pub working_dir: String,
    /// Environment on top of the image's.
    pub envs: Vec<(String, String)>,
    /// Bind mounts.
    pub mounts: Vec<Mount>,
    /// For the caller's use: kept, returned and filtered by.
    pub labels: BTreeMap<String, String>,
    /// For the caller's use: kept and returned.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the sandbox's log directory, in the CRI log format.
    pub log_path: PathBuf,
    /// Whether a stdin is kept open.
    pub stdin: bool,
    /// Whether that stdin ends with the first caller that was attached to it.
    pub stdin_once: bool,
    /// Whether it runs on a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Who and what its processes are.
    pub security: SecurityContext,
    /// Signal that asks it to stop; `None`: the image's, or TERM.
    pub stop_signal: Option<String>,
    /// Ports that its program is said to listen on, for handlers that open them themselves.
    pub ports: Vec<u16>,
    /// A running container of the same sandbox whose process namespace this one joins. Without meaning where the sandbox
    /// has one namespace for all, or the machine's.
    pub pid_target: Option<String>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its first process runs.
    Running,
    /// Its first process has ended.
    Exited,
    /// The runtime lost track of it.
    Unknown,
}

/// A container as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: String,
    /// Its sandbox's id.
    pub sandbox_id: String,
    /// Which container, which run.
    pub metadata: ContainerMetadata,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Nanoseconds since the Unix epoch; 0: not yet.
    pub created_at: i64,
    /// Nanoseconds since the Unix epoch; 0: not yet.
    pub started_at: i64,
    /// Nanoseconds since the Unix epoch; 0: not yet.
    pub finished_at: i64,
    /// Exit code of the first process, 128 + signal when a signal ended it. Meaningful when exited.
    pub exit_code: i32,
    /// One word for why it ended: `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// More words, for people.
    pub message: String,
    /// The image as asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Limits as they were set last.
    pub resources: Resources,
    /// The image's name with its digest, if it has one: what anybody else would know it by.
    pub image_ref: String,
    /// The ids of the images that it has mounted beside its own.
    #[serde(default)]
    pub mounted_images: Vec<String>,
    /// Absolute path of its log file.
    pub log_path: PathBuf,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
}

/// What files use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Bytes.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// When it was read, nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// CPU time used since its start, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Memory in use that cannot be reclaimed, in bytes.
    pub memory_working_set: u64,
    /// Processes.
    pub pids: u64,
}
