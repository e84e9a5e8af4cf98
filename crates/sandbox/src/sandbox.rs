//! One sandbox as the node's process knows it: a mirror of what its shim says.
//!
//! While a shim cannot be asked, what it said last stands: nobody acts on a guess.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::{ContainerState, ContainerStatus, Error, Resources, SandboxState, SandboxStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::files::{self, ContainerFile, SandboxFiles, SandboxRecord, ShimProcess};
use crate::link::{self, Link};
use crate::protocol::{Call, ContainerRecord, Reply, VERSIONS};

/// A sandbox.
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) files: SandboxFiles,
    pub(crate) record: SandboxRecord,
    /// Held by whoever stops or removes it.
    pub(crate) ending: tokio::sync::Mutex<()>,
    /// Ends the task that listens to its shim.
    pub(crate) watcher: CancellationToken,
    /// The version that its shim and we speak.
    version: AtomicU32,
    /// Whether that has been asked.
    agreed: AtomicBool,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    ready: bool,
    ips: Vec<IpAddr>,
    containers: BTreeMap<String, Known>,
}

#[derive(Clone)]
struct Known {
    file: ContainerFile,
    record: ContainerRecord,
}

impl Sandbox {
    pub(crate) fn new(files: SandboxFiles, record: SandboxRecord, ready: bool) -> Self {
        let state = State { ready, ips: record.ips.clone(), containers: BTreeMap::new() };
        Self {
            id: record.id.clone(),
            files,
            record,
            ending: tokio::sync::Mutex::new(()),
            watcher: CancellationToken::new(),
            version: AtomicU32::new(*VERSIONS.end()),
            agreed: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        }
    }

    /// One whose shim is this program's own, and speaks as it does.
    pub(crate) fn fresh(files: SandboxFiles, record: SandboxRecord) -> Self {
        Self { agreed: AtomicBool::new(true), ..Self::new(files, record, true) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the version to speak with its shim, which stays as it is.
    pub(crate) async fn agree(&self) -> io::Result<()> {
        if !self.agreed.load(Ordering::Relaxed) {
            self.version.store(link::agree(&self.files).await?, Ordering::Relaxed);
            self.agreed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Refuses what a shim of an earlier release would leave out in silence.
    pub(crate) fn needs_version(&self, version: u32) -> Result<(), Error> {
        match self.speaks(version) {
            true => Ok(()),
            false => Err(Error::Unsupported(
                "this pod's shim is of an earlier release and cannot make such a container; start the pod anew"
                    .to_owned(),
            )),
        }
    }

    /// Whether its shim does what came with a version.
    pub(crate) fn speaks(&self, version: u32) -> bool {
        self.version.load(Ordering::Relaxed) >= version
    }

    /// Makes a call to its shim and waits for the answer.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, Error> {
        link::call(&self.files, self.version.load(Ordering::Relaxed), call).await
    }

    /// Makes a call that takes files, or has more than one answer.
    pub(crate) async fn open_link(&self, call: Call, fds: &[BorrowedFd<'_>]) -> io::Result<Link> {
        Link::open(&self.files, self.version.load(Ordering::Relaxed), call, fds).await
    }

    /// Whether its shim has certainly ended. An error is not knowing.
    pub(crate) fn shim_has_ended(&self) -> io::Result<bool> {
        match files::read_record::<ShimProcess>(&self.files.shim_process()) {
            // Another process of the node has acted on its end: that is what this rename says.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.files.stopped().exists() => {
                Ok(true)
            }
            shim => shim?.has_ended(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state().ready
    }

    /// Marks it ended. True when it was ready until now.
    pub(crate) fn set_not_ready(&self) -> bool {
        let was = std::mem::replace(&mut self.state().ready, false);
        // The process that it tells of is gone: that it has another name now says so.
        let renamed = std::fs::rename(self.files.shim_process(), self.files.stopped());
        let _ = renamed.or_else(|_| std::fs::write(self.files.stopped(), b""));
        self.changed.send_replace(());
        was
    }

    pub(crate) fn status(&self) -> SandboxStatus {
        let state = self.state();
        SandboxStatus {
            id: self.id.clone(),
            metadata: self.record.config.metadata.clone(),
            state: if state.ready { SandboxState::Ready } else { SandboxState::NotReady },
            created_at: self.record.created_at,
            ips: state.ips.clone(),
            labels: self.record.config.labels.clone(),
            annotations: self.record.config.annotations.clone(),
        }
    }

    /// The containers' own control groups.
    pub(crate) fn group(&self, container: &str) -> String {
        format!("/{}/{container}", self.record.config.cgroup_parent.trim_matches('/'))
    }

    /// Adds a container, as its shim wrote it down last.
    pub(crate) fn add(&self, file: ContainerFile) {
        let mut record: ContainerRecord =
            files::read_record(&self.files.container(&file.id).state()).unwrap_or_default();
        record.id.clone_from(&file.id);
        self.state().containers.insert(file.id.clone(), Known { file, record });
    }

    /// Writes down a container's limits as they have been set, for those that are given.
    pub(crate) fn resized(&self, container: &str, resources: &Resources) -> io::Result<()> {
        let mut state = self.state();
        let Some(known) = state.containers.get_mut(container) else { return Ok(()) };
        let mut file = known.file.clone();
        let limits = &mut file.config.resources;
        limits.cpu_shares = resources.cpu_shares.or(limits.cpu_shares);
        limits.cpu_quota = resources.cpu_quota.or(limits.cpu_quota);
        limits.cpu_period = resources.cpu_period.or(limits.cpu_period);
        limits.memory_limit = resources.memory_limit.or(limits.memory_limit);
        limits.pids_limit = resources.pids_limit.or(limits.pids_limit);
        files::write_record(&self.files.container(container).record(), &file)?;
        known.file = file;
        Ok(())
    }

    pub(crate) fn forget(&self, container: &str) {
        self.state().containers.remove(container);
    }

    pub(crate) fn container_file(&self, container: &str) -> Option<ContainerFile> {
        self.state().containers.get(container).map(|known| known.file.clone())
    }

    /// The number of a running container's first process.
    pub(crate) fn running_pid(&self, container: &str) -> Option<i32> {
        let state = self.state();
        let record = &state.containers.get(container)?.record;
        (record.pid > 0 && record.started_at > 0 && record.finished_at == 0).then_some(record.pid)
    }

    pub(crate) fn container_ids(&self) -> Vec<String> {
        self.state().containers.keys().cloned().collect()
    }

    /// The containers that have a directory, whether its record can be read or not.
    pub(crate) fn container_directories(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.files.containers()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// What a shim reported. True when it is news.
    pub(crate) fn update(&self, record: ContainerRecord) -> bool {
        let mut state = self.state();
        let Some(known) = state.containers.get_mut(&record.id) else { return false };
        // Reports travel over several connections; the end of a container is never taken back.
        let older = known.record.finished_at > 0
            || (known.record.started_at > 0 && record.started_at == 0 && record.finished_at == 0);
        if older || known.record == record {
            return false;
        }
        known.record = record;
        drop(state);
        self.changed.send_replace(());
        true
    }

    /// For the containers that the shim can no longer tell of: what it wrote last, or that they are lost.
    pub(crate) fn conclude(&self, now: i64) {
        for id in self.container_ids() {
            let state_file = self.files.container(&id).state();
            let Ok(mut record) = files::read_record::<ContainerRecord>(&state_file) else { continue };
            if record.finished_at == 0 {
                record.finished_at = now;
                record.exit_code = 137;
                record.message = "killed, since the sandbox's shim had ended".to_owned();
                let _ = files::write_record(&state_file, &record);
            }
            self.update(record);
        }
    }

    pub(crate) fn container_status(&self, container: &str) -> Option<ContainerStatus> {
        let state = self.state();
        state.containers.get(container).map(|known| self.status_of(known))
    }

    /// All containers whose making has come to an end.
    pub(crate) fn container_statuses(&self) -> Vec<ContainerStatus> {
        let state = self.state();
        let made = state.containers.values().filter(|known| known.record.pid > 0);
        made.map(|known| self.status_of(known)).collect()
    }

    fn status_of(&self, known: &Known) -> ContainerStatus {
        let (file, record) = (&known.file, &known.record);
        let state = match record {
            record if record.finished_at > 0 => ContainerState::Exited,
            record if record.started_at > 0 => ContainerState::Running,
            record if record.pid > 0 => ContainerState::Created,
            _ => ContainerState::Unknown,
        };
        let reason = match (state, record.oom_killed, record.exit_code) {
            (ContainerState::Exited, true, _) => "OOMKilled",
            (ContainerState::Exited, false, 0) => "Completed",
            (ContainerState::Exited, false, _) => "Error",
            _ => "",
        };
        ContainerStatus {
            id: file.id.clone(),
            sandbox_id: self.id.clone(),
            metadata: file.config.metadata.clone(),
            state,
            created_at: record.created_at,
            started_at: record.started_at,
            finished_at: record.finished_at,
            exit_code: record.exit_code,
            reason: reason.to_owned(),
            message: record.message.clone(),
            image: file.config.image.clone(),
            image_id: file.image_id.clone(),
            resources: file.config.resources.clone(),
            image_ref: file.image_ref.clone(),
            mounted_images: file.mounted_images.clone(),
            log_path: self.record.config.log_directory.join(&file.config.log_path),
            labels: file.config.labels.clone(),
            annotations: file.config.annotations.clone(),
        }
    }

    /// Waits until a container has ended, or is no longer known.
    pub(crate) async fn ended(&self, container: &str) {
        let mut changed = self.changed.subscribe();
        loop {
            match self.container_status(container) {
                Some(status) if status.state != ContainerState::Exited => {}
                _ => return,
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
