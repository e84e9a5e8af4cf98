//! What is read of an OCI runtime configuration (version 1.0.2). Whatever else one may say is no part of what Monoplane
//! writes, and is left out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container's configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Configuration {
    /// Its root directory.
    pub root: Root,
    /// Its first process.
    pub process: Process,
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// The rest.
    pub linux: Linux,
}

/// A container's root directory; where it is found is the caller's to know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Root {
    /// Whether it refuses writing.
    pub readonly: bool,
}

/// A process, without its user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Whether its standard files are a terminal.
    pub terminal: bool,
    /// Its words, the first of which names the program.
    pub args: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Where it begins.
    pub cwd: PathBuf,
    /// What it may do beyond an ordinary user.
    pub capabilities: Capabilities,
    /// Whether no program that it executes gives it more.
    pub no_new_privileges: bool,
    /// Its AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// From -1000 (never) to 1000 (first), how soon it is killed where memory ends.
    pub oom_score_adj: Option<i32>,
}

/// Capabilities by their names, with `CAP_`. All sets are the same, but the inheritable and the ambient one, which are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// The permitted ones, and so all.
    pub permitted: Vec<String>,
}

/// Something mounted in the container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Its absolute path in the container.
    pub destination: PathBuf,
    /// `bind`, or the kernel's name of a file system.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is bound, on the machine.
    pub source: PathBuf,
    /// Words of mount(8), and with `=` those of the file system.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether an option is among its own.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|known| known == option)
    }

    /// Whether something of the machine's is bound.
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.kind == "bind"
    }
}

/// What only Linux has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// Its control group, absolute in the hierarchy.
    pub cgroups_path: String,
    /// The namespaces that are not simply inherited.
    pub namespaces: Vec<Namespace>,
    /// What it has in `/dev` besides what every container has.
    pub devices: Vec<Device>,
    /// What its control group is limited to.
    pub resources: Resources,
    /// What is covered by nothing.
    pub masked_paths: Vec<PathBuf>,
    /// What refuses writing.
    pub readonly_paths: Vec<PathBuf>,
}

impl Linux {
    /// Whether it has, or joins, a namespace of a kind: `pid`, `cgroup`, …
    #[must_use]
    pub fn has_namespace(&self, kind: &str) -> bool {
        self.namespaces.iter().any(|namespace| namespace.kind == kind)
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Namespace {
    /// `mount`, `pid`, `cgroup`, `user`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A device node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// Where it is, in the container.
    pub path: PathBuf,
    /// `b` or `c`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// Who may do what, as in a file's mode.
    pub file_mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
}

/// A control group's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// Which devices may be used, for v1; a later rule wins.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Processor time.
    pub cpu: Cpu,
    /// Files of a v2 group, and what is written to them.
    pub unified: BTreeMap<String, String>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Of memory alone.
    pub limit: Option<i64>,
    /// Of memory and swap together.
    pub swap: Option<i64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pids {
    /// At most so many.
    pub limit: Option<i64>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// v1's weight, from 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds a period.
    pub quota: Option<i64>,
    /// Microseconds.
    pub period: Option<u64>,
}

/// A rule on devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    /// Whether they may be used.
    pub allow: bool,
    /// `a`, `b` or `c`; nothing is `a`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Nothing is all.
    pub major: Option<i64>,
    /// Nothing is all.
    pub minor: Option<i64>,
    /// Of `rwm`.
    pub access: Option<String>,
}

impl DeviceRule {
    /// As the v1 controller's files take it.
    #[must_use]
    pub fn line(&self) -> String {
        let number = |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = self.kind.as_deref().unwrap_or("a");
        let access = self.access.as_deref().unwrap_or("rwm");
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}
