//! A runtime whose containers only exist in memory, and end when the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runtime::{
    ContainerConfig, ContainerState, ContainerStats, ContainerStatus, Error, ExecOutput, GroupUsage, Groups,
    Image, RegistryAuth, Resources, Runtime, RuntimeEvent, SandboxConfig, SandboxState, SandboxStatus,
};
use tokio::sync::{mpsc, watch};

#[derive(Default)]
struct State {
    next: u64,
    sandboxes: BTreeMap<String, (SandboxConfig, SandboxStatus)>,
    containers: BTreeMap<String, (ContainerConfig, ContainerStatus)>,
    images: BTreeSet<String>,
    calls: Vec<String>,
    /// Containers whose command is not there, by name.
    broken: BTreeSet<String>,
    /// How many more stops fail.
    failing_stops: u32,
    /// Whether limits cannot be changed.
    failing_updates: bool,
}

/// Control groups that only exist in memory.
#[derive(Default)]
pub struct FakeGroups(pub Mutex<BTreeMap<String, Resources>>);

impl Groups for FakeGroups {
    fn set(&self, group: &str, resources: &Resources) -> Result<(), Error> {
        self.0.lock().unwrap().insert(group.to_owned(), resources.clone());
        Ok(())
    }

    fn usage(&self, _: &str) -> Result<GroupUsage, Error> {
        Ok(GroupUsage::default())
    }
}

pub struct FakeRuntime {
    state: Mutex<State>,
    /// Beginnings of calls that do not come back yet.
    held: watch::Sender<BTreeSet<String>>,
    events: mpsc::UnboundedSender<RuntimeEvent>,
    heard: tokio::sync::Mutex<mpsc::UnboundedReceiver<RuntimeEvent>>,
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

fn missing(kind: &'static str, id: &str) -> Error {
    Error::NotFound { kind, id: id.to_owned() }
}

impl FakeRuntime {
    pub fn new(images: &[&str]) -> Arc<Self> {
        let (events, heard) = mpsc::unbounded_channel();
        let images = images.iter().map(|image| image.to_string()).collect();
        let state = Mutex::new(State { images, ..State::default() });
        let held = watch::Sender::default();
        Arc::new(Self { state, held, events, heard: tokio::sync::Mutex::new(heard) })
    }

    pub fn add_image(&self, image: &str) {
        self.state.lock().unwrap().images.insert(image.to_owned());
    }

    /// Calls that begin so do not come back until [`FakeRuntime::release`].
    pub fn hold(&self, beginning: &str) {
        self.held.send_modify(|held| held.extend([beginning.to_owned()]));
    }

    pub fn release(&self) {
        self.held.send_modify(BTreeSet::clear);
    }

    /// From now on a container's command is not there.
    pub fn break_command(&self, name: &str) {
        self.state.lock().unwrap().broken.insert(name.to_owned());
    }

    /// The next stop of a container fails.
    pub fn fail_stop(&self) {
        self.state.lock().unwrap().failing_stops += 1;
    }

    /// Whether limits cannot be changed from now on.
    pub fn fail_updates(&self, fail: bool) {
        self.state.lock().unwrap().failing_updates = fail;
    }

    /// Notes a call, and waits while such are held.
    async fn noted(&self, call: String) {
        drop(self.note(call.clone()));
        let mut held = self.held.subscribe();
        let free = |held: &BTreeSet<String>| !held.iter().any(|beginning| call.starts_with(beginning));
        held.wait_for(free).await.unwrap();
    }

    /// Waits until something has been called so often.
    pub async fn until_called(&self, beginning: &str, times: usize) {
        while self.calls(beginning) < times {
            tokio::task::yield_now().await;
        }
    }

    /// How often something was called, by the beginning of its words.
    pub fn calls(&self, beginning: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|call| call.starts_with(beginning)).count()
    }

    /// The newest run of a container, with what it was made of.
    pub fn container(&self, name: &str) -> Option<(ContainerConfig, ContainerStatus)> {
        let state = self.state.lock().unwrap();
        let runs = state.containers.values().filter(|(config, _)| config.metadata.name == name);
        runs.max_by_key(|(config, _)| config.metadata.attempt).cloned()
    }

    /// Ends the newest run of a container, as if by itself.
    pub fn end(&self, name: &str, exit_code: i32) {
        let id = self.container(name).unwrap().1.id;
        self.exit(&id, exit_code);
    }

    fn exit(&self, id: &str, exit_code: i32) {
        let mut state = self.state.lock().unwrap();
        let (_, status) = state.containers.get_mut(id).unwrap();
        if status.state == ContainerState::Exited {
            return;
        }
        status.state = ContainerState::Exited;
        status.exit_code = exit_code;
        status.finished_at = now();
        let (sandbox_id, container_id) = (status.sandbox_id.clone(), Some(id.to_owned()));
        let pod_uid = state.sandboxes[&sandbox_id].1.metadata.uid.clone();
        self.events.send(RuntimeEvent { pod_uid, sandbox_id, container_id }).unwrap();
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().unwrap().sandboxes.is_empty()
    }

    /// What a sandbox was made of.
    pub fn sandbox(&self) -> SandboxConfig {
        self.state.lock().unwrap().sandboxes.values().next().unwrap().0.clone()
    }

    fn note(&self, call: String) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call);
        state
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    fn name(&self) -> &str {
        "fake"
    }

    fn handlers(&self) -> Vec<String> {
        vec!["runc".to_owned()]
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<String, Error> {
        self.noted(format!("run sandbox {}", config.metadata.name)).await;
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let id = format!("sandbox{}", state.next);
        let status = SandboxStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: SandboxState::Ready,
            created_at: now(),
            ips: vec!["127.0.0.1".parse().unwrap()],
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        state.sandboxes.insert(id.clone(), (config, status));
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.note(format!("stop sandbox {id}"));
        if let Some((_, status)) = state.sandboxes.get_mut(id) {
            status.state = SandboxState::NotReady;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.note(format!("remove sandbox {id}"));
        state.sandboxes.remove(id);
        state.containers.retain(|_, (_, status)| status.sandbox_id != id);
        Ok(())
    }

    async fn sandbox_status(&self, id: &str) -> Result<SandboxStatus, Error> {
        let state = self.state.lock().unwrap();
        state.sandboxes.get(id).map(|(_, status)| status.clone()).ok_or_else(|| missing("sandbox", id))
    }

    async fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.state.lock().unwrap().sandboxes.values().map(|(_, status)| status.clone()).collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, Error> {
        let mut state = self.note(format!("create {}", config.metadata.name));
        if state.broken.contains(&config.metadata.name) {
            return Err(Error::Start("exec: no such command".into()));
        }
        state.next += 1;
        let id = format!("container{}", state.next);
        let logs = state
            .sandboxes
            .get(sandbox_id)
            .ok_or_else(|| missing("sandbox", sandbox_id))?
            .0
            .log_directory
            .clone();
        let status = ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            metadata: config.metadata.clone(),
            state: ContainerState::Created,
            created_at: now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image: config.image.clone(),
            image_id: "sha256:1".into(),
            resources: config.resources.clone(),
            image_ref: String::new(),
            mounted_images: Vec::new(),
            log_path: logs.join(&config.log_path),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        state.containers.insert(id.clone(), (config, status));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let mut state = self.note(format!("start {id}"));
        let (_, status) = state.containers.get_mut(id).ok_or_else(|| missing("container", id))?;
        status.state = ContainerState::Running;
        status.started_at = now();
        let path: PathBuf = status.log_path.clone();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let line = format!("2026-01-01T00:00:00Z stdout F run {}\n", status.metadata.attempt);
        std::fs::write(path, line).unwrap();
        Ok(())
    }

    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<(), Error> {
        self.noted(format!("stop {id} {}", timeout.as_secs())).await;
        {
            let mut state = self.state.lock().unwrap();
            if state.failing_stops > 0 {
                state.failing_stops -= 1;
                return Err(Error::Failed("not now".into()));
            }
        }
        self.exit(id, 143);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.note(format!("remove {id}")).containers.remove(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        let state = self.state.lock().unwrap();
        state.containers.get(id).map(|(_, status)| status.clone()).ok_or_else(|| missing("container", id))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        Ok(self.state.lock().unwrap().containers.values().map(|(_, status)| status.clone()).collect())
    }

    async fn update_sandbox(&self, _: &str, resources: Resources) -> Result<(), Error> {
        drop(self.note(format!("update sandbox {}", resources.memory_limit.unwrap_or(0))));
        Ok(())
    }

    async fn update_container(&self, id: &str, resources: Resources) -> Result<(), Error> {
        let mut state = self.note(format!("update {id} {}", resources.memory_limit.unwrap_or(0)));
        if state.failing_updates {
            return Err(Error::Failed("the memory limit is below what is in use".into()));
        }
        let (_, status) = state.containers.get_mut(id).ok_or_else(|| missing("container", id))?;
        status.resources = resources;
        Ok(())
    }

    async fn exec_sync(&self, _: &str, command: Vec<String>, _: Duration) -> Result<ExecOutput, Error> {
        self.noted(format!("exec {}", command.join(" "))).await;
        let exit_code = i32::from(command.first().is_some_and(|word| word == "false"));
        Ok(ExecOutput { stdout: Default::default(), stderr: Default::default(), exit_code })
    }

    async fn container_stats(&self, _: &str) -> Result<ContainerStats, Error> {
        Ok(ContainerStats::default())
    }

    async fn reopen_log(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn next_event(&self) -> Result<RuntimeEvent, Error> {
        let event = self.heard.lock().await.recv().await;
        event.ok_or_else(|| Error::Failed("closed".into()))
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        let known = self.state.lock().unwrap().images.contains(image);
        let image = Image {
            id: image.to_owned(),
            tags: vec![],
            digests: vec![],
            size: 1,
            uid: None,
            username: String::new(),
            pinned: false,
        };
        Ok(known.then_some(image))
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(vec![])
    }

    async fn pull_image(&self, image: &str, _: Option<&RegistryAuth>) -> Result<String, Error> {
        let state = self.note(format!("pull {image}"));
        match state.images.contains(image) {
            true => Ok(image.to_owned()),
            false => Err(Error::Failed("no registry".into())),
        }
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        self.note(format!("remove image {image}")).images.remove(image);
        Ok(())
    }
}
