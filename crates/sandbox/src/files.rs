//! Where a sandbox keeps what on disk, and how files are written so that a crash leaves the old or the new.
//!
//! Records outlive the program that wrote them: a later release reads them, and after a step back an earlier one. So
//! every field has a default, none changes its meaning, and a record that an earlier release would misread says so by
//! its version ([`FORM`]). One of each release is kept in `tests/records`.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runtime::{ContainerConfig, SandboxConfig, UserNamespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::WorkloadConfig;
use crate::seccomp::Filter;
use crate::{place, process};

/// A sandbox's directory.
#[derive(Clone, Debug)]
pub(crate) struct SandboxFiles(pub(crate) PathBuf);

/// A container's directory, within its sandbox's.
#[derive(Clone, Debug)]
pub(crate) struct ContainerFiles(pub(crate) PathBuf);

/// What a node process knows of a sandbox; `sandbox.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) ips: Vec<std::net::IpAddr>,
    pub(crate) config: SandboxConfig,
}

/// What a shim is told at its start; `shim-config.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ShimConfig {
    pub(crate) config: SandboxConfig,
    /// The control group for the shim itself.
    pub(crate) own_group: String,
}

/// Which process a shim is; `shim.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ShimProcess {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    /// The machine's boot in which it began: ticks begin anew with each. Empty in records of the first release.
    pub(crate) boot_id: String,
    /// First process of the pod's shared process namespace; 0 where each container has its own.
    pub(crate) pause_pid: i32,
}

/// What a node process knows of a container; `container.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerFile {
    pub(crate) id: String,
    pub(crate) image_id: String,
    /// The image's name with its digest; empty in records of the first release.
    pub(crate) image_ref: String,
    /// The ids of the images that it mounts.
    pub(crate) mounted_images: Vec<String>,
    pub(crate) stop_signal: i32,
    pub(crate) writable: WritableLayer,
    pub(crate) config: ContainerConfig,
}

/// Where a container's writable layer is; empty: in the container's directory, as in records of earlier releases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct WritableLayer(pub(crate) PathBuf);

impl WritableLayer {
    pub(crate) fn directory(&self, container: &ContainerFiles) -> PathBuf {
        if self.0.as_os_str().is_empty() { container.0.clone() } else { self.0.clone() }
    }
    /// What the container has written to its root.
    pub(crate) fn upper(&self, container: &ContainerFiles) -> PathBuf {
        self.directory(container).join("upper")
    }
    /// What the kernel needs beside it. In the mount namespace of the container's making its root is mounted over it, since
    /// nobody else has business there.
    pub(crate) fn work(&self, container: &ContainerFiles) -> PathBuf {
        self.directory(container).join("work")
    }
}

/// What a shim needs to make a container beside the OCI configuration; `plan.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Plan {
    /// Layers, the base first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) writable: WritableLayer,
    pub(crate) log: PathBuf,
    /// Whether standard input stays open.
    pub(crate) stdin: bool,
    /// Whether it ends with the first caller that was attached to it.
    pub(crate) stdin_once: bool,
    /// Whether it runs on a terminal.
    pub(crate) tty: bool,
    pub(crate) user: UserPlan,
    /// Images whose files it mounts; made before `parts`.
    pub(crate) images: Vec<ImagePlan>,
    /// What is to be found and bound before the container's other mounts: parts of volumes, and all that is mounted where
    /// the pod has a user namespace.
    pub(crate) parts: Vec<Part>,
    /// Whether mounts that are made in it show on the machine somewhere.
    pub(crate) shares_mounts: bool,
    /// Whether it is kept from all devices but those that every container has.
    pub(crate) limit_devices: bool,
    /// Which system calls its processes may make; `None`: all.
    pub(crate) seccomp: Option<Filter>,
    /// The container whose process namespace it joins.
    pub(crate) pid_target: Option<String>,
    /// The pod's user namespace: layers and `parts` are mounted with its ids.
    pub(crate) user_namespace: Option<UserNamespace>,
    /// Who may run the container's program in place of the kernel.
    pub(crate) workload: Option<WorkloadPlan>,
}

/// What a workload needs to know of a container, beside the OCI configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WorkloadPlan {
    pub(crate) config: WorkloadConfig,
    /// The volumes' paths in the container, and whether they refuse writing.
    pub(crate) volumes: Vec<(String, bool)>,
    pub(crate) ports: Vec<u16>,
    /// Bytes.
    pub(crate) memory_limit: Option<u64>,
}

impl WorkloadPlan {
    pub(crate) fn new(config: WorkloadConfig, container: &ContainerConfig) -> Self {
        let volumes = container.mounts.iter().map(|mount| (mount.container_path.clone(), mount.readonly));
        let limit = container.resources.memory_limit.and_then(|limit| u64::try_from(limit).ok());
        Self {
            config,
            volumes: volumes.collect(),
            ports: container.ports.clone(),
            memory_limit: limit.filter(|limit| *limit > 0),
        }
    }
}

/// A part of a volume that is mounted instead of the whole, or the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Part {
    /// The volume.
    pub(crate) volume: PathBuf,
    /// The part, relative to it; empty: the whole.
    pub(crate) path: PathBuf,
    /// Where the OCI configuration expects it.
    pub(crate) at: PathBuf,
    /// Whether it shows the user namespace's ids already.
    pub(crate) mapped: bool,
}

/// An image whose files are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImagePlan {
    /// Its layers, the base first.
    pub(crate) layers: Vec<PathBuf>,
    /// A directory for it: its files are mounted at `files` in there.
    pub(crate) at: PathBuf,
}

impl ImagePlan {
    pub(crate) fn files(&self) -> PathBuf {
        self.at.join("files")
    }
}

/// Who the container's processes are, before the image's own `/etc/passwd` is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserPlan {
    /// The image's `user[:group]`.
    pub(crate) image: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Vec<u32>,
    /// No groups beside those, whatever the image says.
    pub(crate) strict: bool,
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
    /// What shims say when they break, all of them: one file, since there is hardly ever anything.
    pub(crate) fn shims_log(&self) -> PathBuf {
        self.state_dir().join(SHIMS_LOG)
    }
    /// By name: the sandboxes' directory may be a link.
    fn state_dir(&self) -> &Path {
        self.0.ancestors().nth(2).unwrap_or(&self.0)
    }
    /// Its presence: the sandbox was stopped, or lost its shim.
    pub(crate) fn stopped(&self) -> PathBuf {
        self.0.join("stopped")
    }
    pub(crate) fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }
    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    pub(crate) fn container(&self, id: &str) -> ContainerFiles {
        ContainerFiles(self.containers().join(id))
    }
    /// Whether it is in memory, where containers' writable layers are not to be.
    pub(crate) fn is_apart(&self) -> bool {
        place::is_apart(self.state_dir())
    }
    /// Where a container's writable layer is then.
    pub(crate) fn writable(&self, id: &str) -> PathBuf {
        place::writable(self.state_dir()).join(id)
    }
    /// Removes a container's files.
    pub(crate) fn remove_container(&self, id: &str) -> io::Result<()> {
        // Its directory last: while that is there, the rest is not forgotten.
        images::remove_tree(&self.writable(id))?;
        images::remove_tree(&self.container(id).0)
    }
    /// Removes the sandbox's files and its containers'.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for container in fs::read_dir(self.containers()).into_iter().flatten().flatten() {
            images::remove_tree(&self.writable(&container.file_name().to_string_lossy()))?;
        }
        images::remove_tree(&self.0)
    }
}

/// In the state directory, in which are the sandboxes.
const SHIMS_LOG: &str = "shims.log";
/// Bytes of it that are kept when a node process begins.
const MAX_SHIMS_LOG: u64 = 1 << 20;

/// Empties the shims' log where it has become too long.
pub(crate) fn trim_shims_log(state_dir: &Path) {
    let log = state_dir.join(SHIMS_LOG);
    if log.metadata().is_ok_and(|log| log.len() > MAX_SHIMS_LOG) {
        let _ = fs::File::create(log);
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
    /// For the image with this number that the container mounts, in the mount namespace of the container's making.
    pub(crate) fn image(&self, number: usize) -> PathBuf {
        self.0.join("i").join(number.to_string())
    }
    /// The name by which the OCI configuration asks for the part of a volume with this number.
    pub(crate) fn part(&self, number: usize) -> PathBuf {
        self.0.join("m").join(number.to_string())
    }
}

impl ShimProcess {
    /// Whether this process has certainly ended. An error is not knowing.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        if !self.boot_id.is_empty() && self.boot_id != process::boot_id()? {
            return Ok(true);
        }
        Ok(process::start_ticks(self.pid)? != Some(self.start_ticks))
    }

    /// Kills it, if the process of that number is still the one that was meant.
    pub(crate) fn kill(&self) -> Dying {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let process = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Asked once the descriptor is held: from here on it can be no other process.
        let process = process.filter(|_| matches!(self.has_ended(), Ok(false)));
        let _ = process.as_ref().map(|process| pidfd_send_signal(process, Signal::KILL));
        Dying(process)
    }
}

/// A process that was killed, and may take its time; or none.
#[derive(Default)]
#[must_use]
pub(crate) struct Dying(Option<OwnedFd>);

impl Dying {
    /// Waits until it has ended.
    pub(crate) fn wait(self) {
        let Some(process) = self.0 else { return };
        let patience = Timespec { tv_sec: 5, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience));
    }
}

/// The latest form of records that this release knows. Counted up by the release whose records an earlier one would
/// misread; a new field that may be left out needs no new number.
const FORM: u32 = 2;
/// Of ordinary records.
const FIRST_FORM: u32 = 1;
/// Of those that tell of a user namespace: a release that knows none would run what comes later outside of it.
const USER_NAMESPACE_FORM: u32 = 2;

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    #[serde(flatten)]
    record: &'a T,
}

#[derive(Deserialize)]
struct Version {
    /// The first release wrote none.
    #[serde(default)]
    version: u32,
}

/// The longest record that is written in place: the kernel copies what lies in one page at once.
const IN_PLACE: usize = 4096;

/// Replaces a record.
pub(crate) fn write_record(path: &Path, record: &impl Serialize) -> io::Result<()> {
    write(path, &Written { version: FIRST_FORM, record })
}

/// Replaces a record about a sandbox of this configuration.
pub(crate) fn write_sandbox_record(
    path: &Path,
    config: &SandboxConfig,
    record: &impl Serialize,
) -> io::Result<()> {
    let version = if config.user_namespace.is_some() { USER_NAMESPACE_FORM } else { FIRST_FORM };
    write(path, &Written { version, record })
}

/// Reads a record of this or an earlier release. An error of kind `NotFound`, and no other, says that there is none.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = fs::read(path)?;
    let Version { version } = parse(path, &bytes)?;
    if version > FORM {
        let why = format!("{}: form {version} is of a later release than this ({FORM})", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    parse(path, &bytes)
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// Replaces a file. Not synced: what it tells does not outlive the machine's boot.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    drop(file);
    fs::rename(new, path)
}

/// Replaces a record that only one process writes, in place where that is possible: no new file, and one write of less than
/// a page, which no end of the process cuts in two. Who reads beside the writer may see half of it.
pub(crate) fn overwrite_record(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&Written { version: FIRST_FORM, record })?;
    let Ok(file) = fs::File::options().write(true).open(path) else { return write_record(path, record) };
    let there = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if bytes.len().max(there) > IN_PLACE {
        return write_record(path, record);
    }
    // What is left of a longer one must go in the same write.
    bytes.resize(bytes.len().max(there), b' ');
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0)
}

/// Reads a file written by [`write`].
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    parse(path, &fs::read(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ContainerRecord;

    fn records() -> Vec<PathBuf> {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
        fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The first release's have neither a version nor what came later: adding a field must not lose what runs.
    #[test]
    fn records_of_every_release_are_read() {
        assert!(!records().is_empty());
        for release in records() {
            let at = |name: &str| release.join(name);
            let sandbox: SandboxRecord = read_record(&at("sandbox.json")).unwrap();
            assert_eq!((sandbox.config.metadata.uid.as_str(), sandbox.ips.len()), ("u1", 1));
            assert_eq!(sandbox.config.resources.memory_limit, Some(256 << 20));
            let shim: ShimConfig = read_record(&at("shim-config.json")).unwrap();
            assert_eq!(shim.own_group, "monoplane/shims");
            let process: ShimProcess = read_record(&at("shim.json")).unwrap();
            assert!(process.pid > 1 && process.start_ticks > 0);
            let container: ContainerFile = read_record(&at("container.json")).unwrap();
            assert_eq!((container.stop_signal, container.config.metadata.name.as_str()), (15, "c"));
            assert_eq!(container.config.resources.pids_limit, Some(50));
            let plan: Plan = read_record(&at("plan.json")).unwrap();
            assert_eq!(plan.layers.len(), 1);
            let state: ContainerRecord = read_record(&at("state.json")).unwrap();
            assert_eq!((state.exit_code, state.id), (137, container.id));
        }
    }

    #[test]
    fn a_record_of_a_later_release_is_not_misread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        assert_eq!(read_record::<Plan>(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, r#"{"version":1,"a_field_of_tomorrow":[1]}"#).unwrap();
        read_record::<Plan>(&path).unwrap();
        fs::write(&path, r#"{"version":3,"stdin":true}"#).unwrap();
        let error = read_record::<Plan>(&path).unwrap_err();
        assert!(error.to_string().contains("later release"), "{error}");
        write_record(&path, &Plan { stdin: true, ..Plan::default() }).unwrap();
        assert!(read_record::<Plan>(&path).unwrap().stdin);
        // Shorter in place, and longer again.
        for number in [7_000_000, 1, 70] {
            overwrite_record(&path, &ContainerRecord { pid: number, ..ContainerRecord::default() }).unwrap();
            assert_eq!(read_record::<ContainerRecord>(&path).unwrap().pid, number);
        }
        let long = ContainerRecord { message: "x".repeat(IN_PLACE), ..ContainerRecord::default() };
        overwrite_record(&path, &long).unwrap();
        assert_eq!(read_record::<ContainerRecord>(&path).unwrap(), long);
        // One that knows no user namespaces leaves a sandbox that has one alone, and reads the others.
        for (user_namespace, form) in [(None, 1), (Some(UserNamespace { base: 65536, size: 65536 }), 2)] {
            let config = SandboxConfig { user_namespace, ..SandboxConfig::default() };
            write_sandbox_record(&path, &config, &config).unwrap();
            assert_eq!(read::<Version>(&path).unwrap().version, form);
            assert_eq!(read_record::<SandboxConfig>(&path).unwrap(), config);
        }
    }

    #[test]
    fn a_process_of_another_boot_has_ended_and_one_that_cannot_be_asked_about_has_not() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let start_ticks = process::start_ticks(pid).unwrap().unwrap();
        let own = ShimProcess { pid, start_ticks, boot_id: process::boot_id().unwrap(), pause_pid: 0 };
        assert!(!own.has_ended().unwrap());
        assert!(!ShimProcess { boot_id: String::new(), ..own.clone() }.has_ended().unwrap());
        assert!(ShimProcess { boot_id: "another".into(), ..own.clone() }.has_ended().unwrap());
        assert!(ShimProcess { start_ticks: start_ticks + 1, ..own }.has_ended().unwrap());
    }
}
