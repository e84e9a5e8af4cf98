//! The sandboxes of this machine: found again, watched, ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use runtime::{Error, NamespaceMode, Resources, RuntimeEvent, SandboxConfig};
use tokio::sync::Notify;

use crate::cgroup::Tree;
use crate::config::{Config, PodNetwork};
use crate::files::{self, ContainerFile, Dying, SandboxFiles, SandboxRecord, ShimConfig, ShimProcess};
use crate::place;
use crate::protocol::{Call, ContainerRecord, Reply};
use crate::sandbox::Sandbox;
use crate::spawner::Spawner;

/// Most processes and threads of all pods together: what one pod's fork bomb takes, the machine must do without.
const MAX_PIDS: i64 = 32_768;
/// A pod gets this fraction of them if it says nothing.
const POD_SHARE: i64 = 4;

/// Half of what the machine has, and no more than it needs.
fn default_pids() -> i64 {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    text.trim().parse().map_or(MAX_PIDS, |all: i64| (all / 2).clamp(POD_SHARE, MAX_PIDS))
}

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
    pub(crate) registries: Arc<images::Registries>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) tree: Tree,
    spawner: Spawner,
    /// Processes that a pod may have which says nothing of it.
    pod_pids: i64,
    sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
    events: Mutex<BTreeSet<(String, String, Option<String>)>>,
    event: Notify,
}

impl Containers {
    /// Opens the state directory and adopts the sandboxes in it.
    pub async fn open(
        config: Config,
        images: Arc<images::Store>,
        registries: Arc<images::Registries>,
        network: Arc<dyn PodNetwork>,
    ) -> Result<Self, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Unsupported("containers need root".to_owned()));
        }
        let tree = Tree::detect().map_err(|error| Error::Unsupported(format!("control groups: {error}")))?;
        let program = &config.shim.executable;
        let program = crate::program::hold(program).map_err(failed(&program.display()))?;
        let pids = config.pids_limit.unwrap_or_else(default_pids);
        let limit = Resources { pids_limit: Some(pids), ..Resources::default() };
        tree.create(&config.pods_cgroup, &limit).map_err(failed(&"the pods' control group"))?;
        tree.share_cpuset(&config.pods_cgroup);
        place::make(&config.state_dir).map_err(failed(&config.state_dir.display()))?;
        crate::skeleton::make(&config.state_dir).map_err(failed(&"the lowest layer"))?;
        files::trim_shims_log(&config.state_dir);
        let inner = Arc::new(Inner {
            pod_pids: pids / POD_SHARE,
            spawner: Spawner::new(program, config.shim.clone()),
            config,
            images,
            registries,
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
        let mut result = Ok(());
        for sandbox in inner.all() {
            result = result.and(inner.remove(&sandbox).await);
        }
        // Those that could not be read. Shims are ended by their records alone: others' may be in the same group.
        for id in inner.sandbox_directories() {
            if inner.sandbox(&id).is_err() {
                let (tree, files) = (inner.tree.clone(), SandboxFiles(inner.directory().join(&id)));
                result = result.and(blocking(move || discard(&tree, &files)).await);
            }
        }
        result = result.and(inner.network.retain(&inner.sandbox_directories()).await.map_err(Error::Failed));
        let tree = inner.tree.clone();
        let groups = [inner.config.shim_cgroup.clone(), inner.config.pods_cgroup.clone()];
        let state = inner.config.state_dir.clone();
        let rest = blocking(move || {
            for group in &groups {
                // Groups above it that are empty by now were ours, or nobody's.
                let mut group = group.trim_matches('/');
                tree.remove_if_empty(group);
                while let Some((parent, _)) = group.rsplit_once('/') {
                    group = parent;
                    tree.remove_if_empty(group);
                }
            }
            Ok(())
        });
        result = result.and(rest.await);
        // What could not be ended is found by its records the next time.
        result?;
        blocking(move || {
            place::remove(&state).and_then(|()| images::remove_tree(&state)).map_err(failed(&state.display()))
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

    pub(crate) fn insert(&self, sandbox: Arc<Sandbox>) {
        self.sandboxes().insert(sandbox.id.clone(), sandbox);
    }

    pub(crate) fn directory(&self) -> PathBuf {
        place::sandboxes(&self.config.state_dir)
    }

    /// The ids of all sandboxes that have a directory, whether it can be read or not.
    pub(crate) fn sandbox_directories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Tells of a sandbox that could not be read at first.
    pub(crate) fn adopted_late(&self, files: &SandboxFiles) {
        let adopted = self.all().into_iter().find(|sandbox| sandbox.files.0 == files.0);
        if let Some(sandbox) = adopted {
            self.event(&sandbox, None);
        }
    }

    /// Makes a sandbox, and unmakes it again if that fails half-way.
    pub(crate) async fn run(self: &Arc<Self>, config: SandboxConfig) -> Result<String, Error> {
        let id = new_id()?;
        let files = SandboxFiles(self.directory().join(&id));
        match self.start(&id, &files, config).await {
            Ok(sandbox) => {
                self.insert(Arc::clone(&sandbox));
                drop(self.watch(&sandbox, Vec::new()));
                Ok(id)
            }
            Err(error) => {
                let tree = self.tree.clone();
                if let Err(error) = blocking(move || discard(&tree, &files)).await {
                    tracing::warn!(sandbox = id, %error, "what is left of a sandbox that could not be made stays");
                }
                let _ = self.network.detach(&id).await;
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
        let own_group = self.config.shim_cgroup.clone();
        let shim = ShimConfig { config: config.clone(), own_group };
        // Before the group, which is found again by it.
        files::write_sandbox_record(&files.shim_config(), &config, &shim)
            .map_err(failed(&"sandbox directory"))?;
        let mut limits = config.resources.clone();
        limits.pids_limit = limits.pids_limit.or(Some(self.pod_pids));
        // What the shim does not need to begin is made beside it.
        let (tree, of, pod) = (self.tree.clone(), files.clone(), config.clone());
        let beside = blocking(move || {
            tree.create(&pod.cgroup_parent, &limits).map_err(failed(&"pod's control group"))?;
            crate::service::write_etc(&of, &pod).map_err(failed(&"sandbox directory"))
        });
        let (begun, made) = tokio::join!(self.spawner.start_shim(files), beside);
        made.and(begun)?;
        let process: ShimProcess = files::read_record(&files.shim_process()).map_err(failed(&"shim"))?;
        let ips = match config.network {
            NamespaceMode::Node => Vec::new(),
            _ => {
                let namespace = PathBuf::from(format!("/proc/{}/ns/net", process.pid));
                self.network.attach(id, &config, &namespace).await.map_err(Error::Failed)?
            }
        };
        let record = SandboxRecord { id: id.to_owned(), created_at: now(), ips, config };
        files::write_sandbox_record(&files.record(), &record.config, &record)
            .map_err(failed(&"sandbox directory"))?;
        Ok(Arc::new(Sandbox::fresh(files.clone(), record)))
    }

    pub(crate) fn changed(&self, sandbox: &Sandbox, record: ContainerRecord) {
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
    pub(crate) async fn lost(&self, sandbox: &Arc<Sandbox>) {
        if !sandbox.is_ready() {
            return;
        }
        self.kill_rest(sandbox, false).await.wait();
        sandbox.conclude(now());
        if let Err(error) = self.network.detach(&sandbox.id).await {
            tracing::warn!(sandbox = sandbox.id, error, "its network stays for now");
        }
        sandbox.set_not_ready();
        sandbox.container_ids().into_iter().for_each(|id| self.event(sandbox, Some(id)));
        self.event(sandbox, None);
    }

    /// Kills by control group what a shim did not, and the shim. One that said that it is done makes nothing any more, and
    /// is not waited for.
    async fn kill_rest(&self, sandbox: &Arc<Sandbox>, is_done: bool) -> Dying {
        let (tree, of) = (self.tree.clone(), Arc::clone(sandbox));
        let killed = blocking(move || {
            let mut shim = kill_shim(&of.files);
            if !is_done {
                std::mem::take(&mut shim).wait();
            }
            // By directory: one whose record cannot be read must end too.
            for id in of.container_directories() {
                let group = of.group(&id);
                if !tree.kill(&group) {
                    tracing::error!(container = id, "processes of the container could not be killed");
                }
                if let Err(error) = tree.remove(&group) {
                    tracing::warn!(container = id, %error, "a control group stays");
                }
            }
            Ok(shim)
        });
        killed.await.unwrap_or_else(|error| {
            tracing::error!(sandbox = sandbox.id, %error, "cannot end the sandbox");
            Dying::default()
        })
    }

    /// Ends all that runs in a sandbox and takes its address back.
    pub(crate) async fn stop(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let _guard = sandbox.ending.lock().await;
        let shim = self.end(sandbox).await?;
        blocking(move || {
            shim.wait();
            Ok(())
        })
        .await
    }

    /// The same, but that its shim may take its time.
    async fn end(&self, sandbox: &Arc<Sandbox>) -> Result<Dying, Error> {
        let mut shim = Dying::default();
        if sandbox.is_ready() {
            sandbox.watcher.cancel();
            let said = sandbox.call(Call::Shutdown).await;
            if let Err(error) = &said {
                tracing::warn!(sandbox = sandbox.id, %error, "the shim did not end as asked");
            }
            shim = self.kill_rest(sandbox, matches!(said, Ok(Reply::Done))).await;
            sandbox.conclude(now());
            sandbox.set_not_ready();
        }
        self.network.detach(&sandbox.id).await.map_err(Error::Failed)?;
        Ok(shim)
    }

    /// Stops and forgets a sandbox.
    pub(crate) async fn remove(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let _guard = sandbox.ending.lock().await;
        let shim = self.end(sandbox).await?;
        let (tree, of) = (self.tree.clone(), Arc::clone(sandbox));
        blocking(move || {
            tree.remove_if_empty(&of.record.config.cgroup_parent);
            let removed = of.files.remove().map_err(failed(&"sandbox directory"));
            // It had as long as that took.
            shim.wait();
            removed
        })
        .await?;
        self.sandboxes().remove(&sandbox.id);
        Ok(())
    }
}

/// Removes all there is of a sandbox that nobody knows: its processes as far as its files tell, and the files.
pub(crate) fn discard(tree: &Tree, files: &SandboxFiles) -> Result<(), Error> {
    kill_shim(files).wait();
    if let Ok(shim) = files::read_record::<ShimConfig>(&files.shim_config()) {
        let parent = shim.config.cgroup_parent.trim_matches('/').to_owned();
        for entry in fs::read_dir(files.containers()).into_iter().flatten().flatten() {
            let group = format!("/{parent}/{}", entry.file_name().to_string_lossy());
            tree.kill(&group);
            let _ = tree.remove(&group);
        }
        // Another sandbox of the same pod may be in it.
        tree.remove_if_empty(&parent);
    }
    files.remove().map_err(failed(&files.0.display()))
}

/// Kills a shim, known by its record alone.
fn kill_shim(files: &SandboxFiles) -> Dying {
    let shim = files::read_record::<ShimProcess>(&files.shim_process());
    shim.map_or_else(|_| Dying::default(), |shim| shim.kill())
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
