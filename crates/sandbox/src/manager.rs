//! The sandboxes of this machine: found again, watched, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::{Error, NamespaceMode, RuntimeEvent, SandboxConfig};
use tokio::sync::Notify;

use crate::cgroup::Tree;
use crate::config::{Config, PodNetwork};
use crate::files::{self, ContainerFile, SandboxFiles, SandboxRecord, ShimProcess};
use crate::link::{self, Link};
use crate::process;
use crate::protocol::{Call, ContainerRecord, Reply};
use crate::sandbox::Sandbox;

/// How long a shim may take to answer at its adoption before it counts as gone.
const ADOPTION: Duration = Duration::from_secs(5);

/// Containers on this machine. Cheap to clone.
///
/// What runs does not depend on this value: dropping it, or the end of its process, leaves all containers running, and
/// [`Containers::open`] on the same directory finds them.
#[derive(Clone)]
pub struct Containers {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) images: Arc<images::Store>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) tree: Tree,
    sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    events: Mutex<BTreeSet<(String, String, Option<String>)>>,
    event: Notify,
}

impl Containers {
    /// Opens the state directory and adopts the sandboxes in it.
    pub async fn open(
        config: Config,
        images: Arc<images::Store>,
        network: Arc<dyn PodNetwork>,
    ) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Unsupported("containers need root".to_owned()));
        }
        let tree = Tree::detect().map_err(|error| Error::Unsupported(format!("control groups: {error}")))?;
        let inner = Arc::new(Inner {
            config,
            images,
            network,
            tree,
            sandboxes: Mutex::default(),
            events: Mutex::default(),
            event: Notify::new(),
        });
        inner.adopt_all().await?;
        Ok(Self { inner })
    }

    /// Ends all sandboxes and removes everything that this crate made: processes, mounts, control groups, files.
    pub async fn cleanup(&self) -> Result<(), Error> {
        let inner = &self.inner;
        for sandbox in inner.all() {
            inner.remove(&sandbox).await?;
        }
        inner.network.retain(&[]).await.map_err(Error::Failed)?;
        let tree = inner.tree.clone();
        let mut group = inner.config.shim_cgroup.trim_matches('/').to_owned();
        let state = inner.config.state_dir.clone();
        blocking(move || {
            tree.kill(&group);
            let _ = tree.remove(&group);
            // Groups above it that are empty by now were ours, or nobody's.
            while let Some((parent, _)) = group.rsplit_once('/') {
                group = parent.to_owned();
                tree.remove_if_empty(&group);
            }
            match fs::remove_dir_all(&state) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&state.display())(error)),
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Inner {
    fn sandboxes(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Sandbox>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Sandbox>> {
        self.sandboxes().values().cloned().collect()
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        let found = self.sandboxes().get(id).cloned();
        found.ok_or_else(|| Error::NotFound { kind: "sandbox", id: id.to_owned() })
    }

    pub(crate) fn sandbox_of(&self, container: &str) -> Result<(Arc<Sandbox>, ContainerFile), Error> {
        let found = self.all().into_iter().find_map(|sandbox| {
            let file = sandbox.container_file(container)?;
            Some((sandbox, file))
        });
        found.ok_or_else(|| Error::NotFound { kind: "container", id: container.to_owned() })
    }

    fn directory(&self) -> PathBuf {
        self.config.state_dir.join("sandboxes")
    }

    async fn adopt_all(self: &Arc<Self>) -> Result<(), Error> {
        let directory = self.directory();
        fs::create_dir_all(&directory).map_err(failed(&directory.display()))?;
        let entries = fs::read_dir(&directory).map_err(failed(&directory.display()))?;
        for entry in entries.flatten() {
            let files = SandboxFiles(entry.path());
            match files::read::<SandboxRecord>(&files.record()) {
                Ok(record) => self.adopt(files, record).await,
                Err(error) => {
                    // Its making was cut short: nobody was told of it.
                    tracing::warn!(sandbox = %files.0.display(), %error, "an unfinished sandbox is removed");
                    end_shim(&files);
                    let path = files.0.clone();
                    blocking(move || fs::remove_dir_all(&path).map_err(failed(&path.display()))).await?;
                }
            }
        }
        let ids: Vec<String> = self.sandboxes().keys().cloned().collect();
        self.network.retain(&ids).await.map_err(Error::Failed)
    }

    async fn adopt(self: &Arc<Self>, files: SandboxFiles, record: SandboxRecord) {
        let stopped = files.stopped().exists();
        let sandbox = Arc::new(Sandbox::new(files, record, !stopped));
        for entry in fs::read_dir(sandbox.files.containers()).into_iter().flatten().flatten() {
            let container = entry.file_name().to_string_lossy().into_owned();
            let of = sandbox.files.container(&container);
            match files::read::<ContainerFile>(&of.record()) {
                Ok(file) if of.state().exists() => sandbox.add(file),
                // Cut short: the shim, if it knows of it, forgets it with the sandbox.
                _ => drop(fs::remove_dir_all(&of.0)),
            }
        }
        self.sandboxes().insert(sandbox.id.clone(), Arc::clone(&sandbox));
        if stopped {
            return sandbox.conclude(now());
        }
        match tokio::time::timeout(ADOPTION, link::call(&sandbox.files, Call::State)).await {
            Ok(Ok(Reply::State(records))) => {
                for record in records {
                    sandbox.update(record);
                }
                self.watch(&sandbox);
            }
            _ => self.lost(&sandbox).await,
        }
    }

    /// Makes a sandbox, and unmakes it again if that fails half-way.
    pub(crate) async fn run(self: &Arc<Self>, config: SandboxConfig) -> Result<String, Error> {
        let id = new_id()?;
        let files = SandboxFiles(self.directory().join(&id));
        match self.start(&id, &files, config).await {
            Ok(sandbox) => {
                self.sandboxes().insert(id.clone(), Arc::clone(&sandbox));
                self.watch(&sandbox);
                Ok(id)
            }
            Err(error) => {
                end_shim(&files);
                let _ = self.network.detach(&id).await;
                let _ = blocking(move || fs::remove_dir_all(&files.0).map_err(failed(&"sandbox"))).await;
                Err(error)
            }
        }
    }

    async fn start(
        &self,
        id: &str,
        files: &SandboxFiles,
        config: SandboxConfig,
    ) -> Result<Arc<Sandbox>, Error> {
        fs::create_dir_all(files.containers()).map_err(failed(&"sandbox directory"))?;
        fs::create_dir_all(files.oci()).map_err(failed(&"sandbox directory"))?;
        self.tree.create(&config.cgroup_parent, &config.resources).map_err(failed(&"pod's control group"))?;
        let own_group = self.config.shim_cgroup.clone();
        let shim = files::ShimConfig { config: config.clone(), own_group };
        files::write(&files.shim_config(), &shim).map_err(failed(&"sandbox directory"))?;
        crate::service::start_shim(&self.config.shim, files).await?;
        let process: ShimProcess = files::read(&files.shim_process()).map_err(failed(&"shim"))?;
        let ips = match config.network {
            NamespaceMode::Node => Vec::new(),
            _ => {
                let namespace = PathBuf::from(format!("/proc/{}/ns/net", process.pid));
                self.network.attach(id, &namespace).await.map_err(Error::Failed)?
            }
        };
        crate::service::write_etc(files, &config).map_err(failed(&"sandbox directory"))?;
        let record = SandboxRecord { id: id.to_owned(), created_at: now(), ips, config };
        files::write(&files.record(), &record).map_err(failed(&"sandbox directory"))?;
        Ok(Arc::new(Sandbox::new(files.clone(), record, true)))
    }

    /// Listens to a sandbox's shim until it ends.
    fn watch(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let (inner, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        tokio::spawn(async move {
            let listening = async {
                let mut link = Link::open(&sandbox.files, Call::Watch, &[]).await?;
                loop {
                    match link.next().await? {
                        Reply::State(records) => {
                            records.into_iter().for_each(|record| inner.changed(&sandbox, record));
                        }
                        Reply::Container(record) => inner.changed(&sandbox, record),
                        other => return Err::<(), _>(io::Error::other(format!("{other:?}"))),
                    }
                }
            };
            let ended = tokio::select! {
                () = sandbox.watcher.cancelled() => return,
                ended = listening => ended,
            };
            tracing::warn!(sandbox = sandbox.id, ?ended, "a sandbox lost its shim");
            let _guard = sandbox.ending.lock().await;
            inner.lost(&sandbox).await;
        });
    }

    fn changed(&self, sandbox: &Sandbox, record: ContainerRecord) {
        let id = record.id.clone();
        let ended = record.finished_at > 0;
        if sandbox.update(record) && ended {
            self.event(sandbox, Some(id));
        }
    }

    fn event(&self, sandbox: &Sandbox, container: Option<String>) {
        let pod = sandbox.record.config.metadata.uid.clone();
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.insert((pod, sandbox.id.clone(), container));
        self.event.notify_one();
    }

    pub(crate) async fn next_event(&self) -> RuntimeEvent {
        loop {
            let notified = self.event.notified();
            let first = self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            if let Some((pod_uid, sandbox_id, container_id)) = first {
                return RuntimeEvent { pod_uid, sandbox_id, container_id };
            }
            notified.await;
        }
    }

    /// The shim is gone: nothing of the sandbox may go on unseen.
    async fn lost(&self, sandbox: &Arc<Sandbox>) {
        if !sandbox.is_ready() {
            return;
        }
        self.kill_rest(sandbox).await;
        sandbox.conclude(now());
        if let Err(error) = self.network.detach(&sandbox.id).await {
            tracing::warn!(sandbox = sandbox.id, error, "its network stays for now");
        }
        sandbox.set_not_ready();
        sandbox.container_ids().into_iter().for_each(|id| self.event(sandbox, Some(id)));
        self.event(sandbox, None);
    }

    /// Kills by control group what a shim did not, and the shim.
    async fn kill_rest(&self, sandbox: &Arc<Sandbox>) {
        let (tree, of) = (self.tree.clone(), Arc::clone(sandbox));
        let killed = blocking(move || {
            end_shim(&of.files);
            for id in of.container_ids() {
                let group = of.group(&id);
                if !tree.kill(&group) {
                    tracing::error!(container = id, "processes of the container could not be killed");
                }
                if let Err(error) = tree.remove(&group) {
                    tracing::warn!(container = id, %error, "a control group stays");
                }
            }
            Ok(())
        });
        if let Err(error) = killed.await {
            tracing::error!(sandbox = sandbox.id, %error, "cannot end the sandbox");
        }
    }

    /// Ends all that runs in a sandbox and takes its address back.
    pub(crate) async fn stop(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let _guard = sandbox.ending.lock().await;
        if sandbox.is_ready() {
            sandbox.watcher.cancel();
            if let Err(error) = link::call(&sandbox.files, Call::Shutdown).await {
                tracing::warn!(sandbox = sandbox.id, %error, "the shim did not end as asked");
            }
            self.kill_rest(sandbox).await;
            sandbox.conclude(now());
            sandbox.set_not_ready();
        }
        self.network.detach(&sandbox.id).await.map_err(Error::Failed)
    }

    /// Stops and forgets a sandbox.
    pub(crate) async fn remove(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        self.stop(sandbox).await?;
        let _guard = sandbox.ending.lock().await;
        let (tree, of) = (self.tree.clone(), Arc::clone(sandbox));
        blocking(move || {
            tree.remove_if_empty(&of.record.config.cgroup_parent);
            match fs::remove_dir_all(&of.files.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed(&"sandbox directory")(error))
                }
                _ => Ok(()),
            }
        })
        .await?;
        self.sandboxes().remove(&sandbox.id);
        Ok(())
    }
}

/// Ends a shim, if the process of that number is still the one that was meant.
fn end_shim(files: &SandboxFiles) {
    let Ok(shim) = files::read::<ShimProcess>(&files.shim_process()) else { return };
    for _ in 0..100 {
        if process::start_ticks(shim.pid) != Some(shim.start_ticks) {
            return;
        }
        let _ = kill(Pid::from_raw(shim.pid), Signal::SIGKILL);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ties an error of the machine to what was being done.
pub(crate) fn failed<'a>(what: &'a dyn std::fmt::Display) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| Error::Failed(format!("{what}: {error}"))
}

pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// 128 random bits, in hexadecimal.
pub(crate) fn new_id() -> Result<String, Error> {
    use std::io::Read;
    let mut bytes = [0; 16];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(failed(&"/dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs what may wait for the disk or the kernel on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Error::Failed(format!("a task ended badly: {error}"))))
}
