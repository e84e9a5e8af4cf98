//! The throw-away plane of the demo: the same binary, started as a person would, and broken as a machine would.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::flags::AtDataDir;
use crate::layout::Layout;

/// Nothing in the demo takes so long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Names that keep this plane apart from any other on the machine.
#[derive(Clone, Debug)]
pub struct Names {
    /// Bridge of its pods.
    pub bridge: String,
    /// Addresses of its pods.
    pub pod_cidr: String,
    /// Addresses of its Services.
    pub service_cidr: String,
    /// Parent of its cgroups.
    pub cgroup_root: String,
}

impl Names {
    /// Made from this process's id.
    pub fn new() -> Self {
        let id = std::process::id();
        Self {
            bridge: format!("md{id}"),
            pod_cidr: format!("10.{}.{}.0/24", 64 + id % 128, id / 128 % 256),
            service_cidr: format!("172.{}.{}.0/24", 16 + id % 16, id / 16 % 256),
            cgroup_root: format!("monoplane-demo-{id}"),
        }
    }
}

/// A plane in a directory of its own.
pub struct Plane {
    /// Where it lives.
    pub layout: Layout,
    /// Its names.
    pub names: Names,
    up: Option<Child>,
}

/// The node object's name.
pub const NODE: &str = "demo-node";

impl Plane {
    /// A plane in this directory, not yet started.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn new(directory: &Path, names: Names) -> Result<Self> {
        let layout = Layout::new(&AtDataDir { data_dir: Some(directory.to_owned()) })?;
        Ok(Self { layout, names, up: None })
    }

    /// Starts it and waits until every role serves; says how long that took.
    ///
    /// # Errors
    /// When it ends, or is not up in time.
    pub async fn up(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let _ = std::fs::remove_file(self.layout.processes());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = Command::new("/proc/self/exe");
        command
            .args([
                "up",
                "--api-port",
                "0",
                "--http-port",
                "0",
                "--https-port",
                "0",
                "--kubelet-port",
                "0",
                "--node-name",
                NODE,
            ])
            .arg("--data-dir")
            .arg(self.layout.root())
            .args(["--bridge", &self.names.bridge, "--pod-cidr", &self.names.pod_cidr])
            .args(["--service-cidr", &self.names.service_cidr])
            .args(["--cgroup-root", &self.names.cgroup_root])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        let mut up = command.spawn().context("starting monoplane up")?;
        loop {
            if let Some(status) = up.try_wait()? {
                bail!("monoplane up ended ({status}); its log is in {}", self.log().display());
            }
            if self.is_up() {
                break;
            }
            if started.elapsed() > PATIENCE {
                bail!("the plane is not up; its log is in {}", self.log().display());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.up = Some(up);
        Ok(started.elapsed())
    }

    fn is_up(&self) -> bool {
        let processes = self.processes();
        let roles = processes.as_object();
        roles.is_some_and(|r| r.iter().all(|(role, p)| role == "up" || p["ready"] == true))
    }

    /// `processes.json`, or null.
    fn processes(&self) -> Value {
        let text = std::fs::read_to_string(self.layout.processes()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Where the plane writes its log.
    pub fn log(&self) -> std::path::PathBuf {
        self.layout.root().join("up.log")
    }

    /// Process id of a role that runs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, role: &str) -> Result<Pid> {
        let id = self.processes()[role]["pid"].as_i64().and_then(|id| i32::try_from(id).ok());
        id.and_then(Pid::from_raw).with_context(|| format!("the {role} does not run"))
    }

    /// Every process of the plane that runs: the supervisor and the roles, not the containers and their shims.
    pub fn pids(&self) -> Vec<Pid> {
        ["up", "server", "node", "edge"].iter().filter_map(|role| self.pid(role).ok()).collect()
    }

    /// SIGKILL to a role.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, role: &str) -> Result<()> {
        Ok(kill_process(self.pid(role)?, Signal::KILL)?)
    }

    /// SIGKILL to everything at once, as a power cut would.
    ///
    /// # Errors
    /// When the plane does not run.
    pub async fn kill_everything(&mut self) -> Result<()> {
        for pid in self.pids() {
            let _ = kill_process(pid, Signal::KILL);
        }
        self.up.take().context("the plane does not run")?.wait().await?;
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut up) = self.up.take() else { return Ok(()) };
        if let Some(pid) = up.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, Signal::TERM)?;
        }
        up.wait().await?;
        Ok(())
    }

    /// Leaves it running on its own.
    pub fn leave(mut self) {
        self.up = None;
    }

    /// Address of the gateway.
    ///
    /// # Errors
    /// When the plane has not been started.
    pub fn gateway(&self) -> Result<SocketAddr> {
        let gateway = self.layout.read_endpoints()?.gateway.context("this plane has no gateway")?;
        let address = gateway.trim_start_matches("http://");
        address.parse().with_context(|| format!("{address} is no address"))
    }

    /// The API, as the administrator.
    ///
    /// # Errors
    /// When its kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let client =
            client::transport::from_kubeconfig_file(&self.layout.admin_kubeconfig(), "monoplane").await;
        client.context("reading the admin kubeconfig")
    }
}

/// Asks until there is an answer, or fails with what was waited for.
///
/// # Errors
/// When there is none in time.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let until = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < until {
        match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    match last {
        Some(error) => Err(error.context(format!("not within {PATIENCE:?}: {what}"))),
        None => bail!("not within {PATIENCE:?}: {what}"),
    }
}
