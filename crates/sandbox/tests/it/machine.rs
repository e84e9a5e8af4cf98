//! A runtime in a directory of its own, removed with all it made when the test ends.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use images::{ImageBuilder, Store};
use runtime::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, NamespaceMode, Runtime,
    SandboxConfig, SandboxMetadata,
};
use sandbox::{Config, Containers, PodNetwork, ShimCommand, WorkloadConfig};

pub(crate) const BUSYBOX: &str = "test.local/busybox:1";
const NAME: &str = "/bin/busybox";

/// Whether containers can run here; says why not.
fn able() -> bool {
    let lacks = match (rustix::process::geteuid().is_root(), Path::new(NAME).exists()) {
        (false, _) => "root",
        (true, false) => "a static /bin/busybox (Debian: busybox-static)",
        (true, true) => return true,
    };
    eprintln!("SKIPPED: containers need {lacks}");
    false
}

/// Pods without a network: only what is asked and given back is recorded.
#[derive(Default)]
pub(crate) struct NoNetwork {
    attached: std::sync::Mutex<std::collections::BTreeSet<String>>,
}

impl NoNetwork {
    pub(crate) fn attached(&self) -> std::collections::BTreeSet<String> {
        self.attached.lock().unwrap().clone()
    }
}

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn attach(&self, id: &str, _: &SandboxConfig, namespace: &Path) -> Result<Vec<IpAddr>, String> {
        if !namespace.exists() {
            return Err(format!("{namespace:?} is not there"));
        }
        self.attached.lock().unwrap().insert(id.to_owned());
        Ok(vec![IpAddr::from([10, 9, 8, 7])])
    }
    async fn detach(&self, id: &str) -> Result<(), String> {
        self.attached.lock().unwrap().remove(id);
        Ok(())
    }
    async fn retain(&self, ids: &[String]) -> Result<(), String> {
        self.attached.lock().unwrap().retain(|id| ids.contains(id));
        Ok(())
    }
}

pub(crate) struct Machine {
    pub(crate) runtime: Containers,
    pub(crate) directory: Directory,
    pub(crate) group: String,
    pub(crate) network: Arc<NoNetwork>,
}

/// Runs a test on a machine of its own, and checks that nothing is left of it.
pub(crate) fn with_machine<F: Future<Output = ()>>(test: impl FnOnce(Arc<Machine>) -> F) {
    if !able() {
        return;
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let machine = Arc::new(tokio.block_on(Machine::new()));
    // A test that fails leaves nothing behind either.
    let test = std::panic::AssertUnwindSafe(|| tokio.block_on(test(Arc::clone(&machine))));
    let result = std::panic::catch_unwind(test);
    tokio.block_on(async {
        machine.runtime.cleanup().await.unwrap();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(machine.network.attached.lock().unwrap().is_empty(), "addresses were not given back");
        let left = machine.processes();
        assert!(left.is_empty(), "processes left: {left:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(machine.directory.path().to_str().unwrap()), "mounts left:\n{mounts}");
        let left = machine.groups();
        assert!(left.is_empty(), "control groups left: {left:?}");
    });
}

pub(crate) enum Directory {
    Ours(tempfile::TempDir),
    Given(PathBuf),
}

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Ours(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}

impl Machine {
    async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let group = format!("mono-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self::with_directory(Directory::Ours(tempfile::tempdir().unwrap()), group).await
    }

    /// In a directory that another process removes.
    pub(crate) async fn in_directory(directory: &Path, group: String) -> Self {
        Self::with_directory(Directory::Given(directory.to_owned()), group).await
    }

    async fn with_directory(directory: Directory, group: String) -> Self {
        let network = Arc::new(NoNetwork::default());
        let runtime = open(directory.path(), &group, &network).await;
        let busybox = std::fs::read(NAME).unwrap();
        let mut image = ImageBuilder::new()
            .file("/bin/busybox", 0o755, busybox)
            .directory("/tmp", 0o1777)
            .file("/etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nweb:x:100:101::/:\n")
            .file("/etc/group", 0o644, "root:x:0:\nwww:x:101:\nlogs:x:4:web\n")
            .env("FROM_IMAGE", "yes")
            .cmd(["sh"]);
        for tool in [
            "sh", "sleep", "cat", "echo", "id", "mount", "hostname", "dd", "true", "yes", "head", "ls", "ps",
            "touch", "mknod", "grep", "tail", "wc", "readlink", "uniq", "stty", "tty",
        ] {
            image = image.symlink(&format!("/bin/{tool}"), "busybox");
        }
        let machine = Self { runtime, directory, group, network };
        machine.import(BUSYBOX, image);
        machine
    }

    /// Puts an image into the store.
    pub(crate) fn import(&self, name: &str, image: ImageBuilder) {
        let layout = tempfile::tempdir_in(self.directory.path()).unwrap();
        image.build(&name.parse().unwrap()).unwrap().write_layout(layout.path()).unwrap();
        store(self.directory.path()).import(layout.path(), None).unwrap();
    }

    /// Another process' view: a second runtime on the same directory.
    pub(crate) async fn reopen(&self) -> Containers {
        open(self.directory.path(), &self.group, &self.network).await
    }

    pub(crate) fn sandbox(&self) -> SandboxConfig {
        SandboxConfig {
            metadata: SandboxMetadata {
                name: "p".into(),
                namespace: "n".into(),
                uid: "u1".into(),
                attempt: 0,
            },
            hostname: "the-pod".into(),
            log_directory: self.directory.path().join("logs"),
            cgroup_parent: format!("{}/pods/pod-u1", self.group),
            pid: NamespaceMode::Container,
            ..SandboxConfig::default()
        }
    }

    pub(crate) async fn run_sandbox(&self) -> String {
        self.runtime.run_sandbox(self.sandbox()).await.unwrap()
    }

    pub(crate) async fn start(&self, sandbox: &str, script: &str) -> String {
        self.start_with(sandbox, shell(script)).await
    }

    pub(crate) async fn start_with(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.runtime.create_container(sandbox, config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    /// Waits for a container's end by the runtime's events.
    pub(crate) async fn ended(&self, id: &str) -> ContainerStatus {
        ended(&self.runtime, id).await
    }

    /// Runs a script to its end and returns what it logged.
    pub(crate) async fn output(&self, sandbox: &str, config: ContainerConfig) -> (i32, String) {
        let id = self.start_with(sandbox, config).await;
        let status = self.ended(&id).await;
        let text = self.log(&id).await;
        self.runtime.remove_container(&id).await.unwrap();
        std::fs::remove_file(&status.log_path).unwrap();
        (status.exit_code, text)
    }

    /// A container's log without times and tags.
    pub(crate) async fn log(&self, id: &str) -> String {
        let path = self.runtime.container_status(id).await.unwrap().log_path;
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    /// Where what a container writes to its root is kept.
    pub(crate) fn upper(&self, sandbox: &str, container: &str) -> PathBuf {
        let state = self.directory.path().join("state");
        let of_its_own = state.join("sandboxes").join(sandbox).join("containers").join(container);
        let places = [state.join("writable").join(container), of_its_own];
        places.into_iter().map(|place| place.join("upper")).find(|upper| upper.exists()).unwrap()
    }

    /// Processes in this machine's control groups.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for directory in self.groups() {
            found.extend(
                std::fs::read_to_string(directory.join("cgroup.procs"))
                    .unwrap_or_default()
                    .lines()
                    .map(String::from),
            );
        }
        found.sort();
        found.dedup();
        found
    }

    /// All directories of this machine's control groups.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let mut todo: Vec<PathBuf> = vec![Path::new("/sys/fs/cgroup").join(&self.group)];
        for entry in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            todo.push(entry.path().join(&self.group));
        }
        let mut found = Vec::new();
        while let Some(directory) = todo.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            todo.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()));
            found.push(directory);
        }
        found
    }
}

pub(crate) async fn ended(runtime: &Containers, id: &str) -> ContainerStatus {
    let wait = async {
        loop {
            let status = runtime.container_status(id).await.unwrap();
            if status.state == ContainerState::Exited {
                return status;
            }
            runtime.next_event().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the container goes on")
}

fn store(directory: &Path) -> Store {
    Store::open(directory.join("images")).unwrap()
}

/// The program that has nothing else in it, or the one that users run.
fn shim() -> ShimCommand {
    match std::env::var_os("MONOPLANE_BINARY") {
        Some(binary) => ShimCommand { executable: binary.into(), args: vec!["shim".into()] },
        None => ShimCommand { executable: env!("CARGO_BIN_EXE_sandbox-shim").into(), args: vec![] },
    }
}

/// The one that the tests' shim brings along.
fn workload() -> WorkloadConfig {
    WorkloadConfig { name: "echo".into(), settings: serde_json::json!({ "greeting": "settings reach it" }) }
}

pub(crate) fn config(directory: &Path, group: &str) -> Config {
    Config {
        name: "runc".into(),
        handlers: [("runc".to_owned(), None), ("echo".to_owned(), Some(workload()))].into(),
        state_dir: directory.join("state"),
        shim: shim(),
        shim_cgroup: format!("{group}/shims"),
        pods_cgroup: format!("{group}/pods"),
        pids_limit: Some(4000),
    }
}

async fn open(directory: &Path, group: &str, network: &Arc<NoNetwork>) -> Containers {
    let network = Arc::clone(network) as Arc<dyn PodNetwork>;
    let registries = images::Registries::new(Default::default(), Default::default()).unwrap();
    let (images, registries) = (Arc::new(store(directory)), Arc::new(registries));
    Containers::open(config(directory, group), images, registries, network).await.unwrap()
}

/// A container that runs a shell script.
pub(crate) fn shell(script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata { name: "c".into(), attempt: 0 },
        image: BUSYBOX.into(),
        command: vec!["sh".into(), "-c".into(), script.into()],
        log_path: "c/0.log".into(),
        ..ContainerConfig::default()
    }
}
