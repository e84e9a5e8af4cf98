//! Doing what was planned.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::authentication::v1::{TokenRequest as Request, TokenRequestSpec};
use api::k8s::api::core::v1::{ConfigMap, Container, Pod, Secret, ServiceAccount};
use client::{Api, EventType, PostParams, Resource};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use runtime::{Image, Runtime};

use super::backoff::Backoff;
use super::config::{self, SubPath};
use super::hook::Target;
use super::image::{self, ImageFailure};
use super::memory::{Failure, Memory, Waiting};
use super::observed::Observed;
use super::plan::Action;
use super::volume::{self, TokenRequest};
use crate::context::Context;
use crate::environment::{self, Place, Sources};

/// How long to wait before what does not depend on the container itself is tried again, as upstream.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// How long a hook after the start may take before the container counts as failed.
const HOOK_LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Actor<'a> {
    pub(crate) cx: &'a Arc<Context>,
    pub(crate) pod: &'a Arc<Pod>,
    pub(crate) runtime: &'a Arc<dyn Runtime>,
    pub(crate) observed: &'a Observed,
    pub(crate) memory: &'a mut Memory,
}

/// Why a container did not start.
struct Refused {
    what: Waiting,
    then: Option<Waiting>,
    /// Whether it is the image that has to be waited for.
    image: bool,
}

impl Refused {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { what: Waiting::new(reason, message), then: None, image: false }
    }
}

impl Actor<'_> {
    /// Does all of it, or stops at the first thing that fails. Whether looking again at once makes sense: something was
    /// done, or what failed is remembered with its time to try again.
    pub(crate) async fn act(&mut self, actions: Vec<Action>) -> bool {
        let (stops, others): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Stop { .. }));
        let stopped = join_all(stops.into_iter().map(|stop| self.stop(stop))).await;
        if !stopped.into_iter().all(|stopped| stopped) {
            return false;
        }
        for action in others {
            let done = match action {
                Action::RunSandbox { attempt } => self.run_sandbox(attempt).await,
                Action::Start { container, attempt } => self.start(&container, attempt).await,
                Action::StopSandbox { id } => self.tried("stop", &id, self.runtime.stop_sandbox(&id).await),
                Action::RemoveSandbox { id } => {
                    self.tried("remove", &id, self.runtime.remove_sandbox(&id).await)
                }
                Action::Remove { id } => self.tried("remove", &id, self.runtime.remove_container(&id).await),
                Action::Stop { .. } => true,
            };
            if !done {
                return false;
            }
        }
        true
    }

    fn tried(&self, what: &str, id: &str, outcome: Result<(), runtime::Error>) -> bool {
        if let Err(error) = &outcome {
            tracing::warn!(pod = config::full_name(self.pod), id, %error, "could not {what}");
        }
        outcome.is_ok()
    }

    fn now(&self) -> Timestamp {
        self.cx.ambient.clock.now()
    }

    fn warn(&self, reason: &str, message: impl Into<String>) {
        self.cx.recorder.record(&**self.pod, EventType::Warning, reason, message);
    }

    /// An event about one container, with its `fieldPath`.
    fn about(&self, container: &str, kind: EventType, reason: &str, message: impl Into<String>) {
        let mut regarding = self.pod.object_ref(&());
        let inits = self.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        let list = if inits.into_iter().any(|init| init.name == container) {
            "initContainers"
        } else {
            "containers"
        };
        regarding.field_path = Some(format!("spec.{list}{{{container}}}"));
        self.cx.recorder.record_on(regarding, kind, reason, message);
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    async fn stop(&self, action: Action) -> bool {
        let Action::Stop { id, container, grace, message } = action else { return true };
        self.about(&container, EventType::Normal, "Killing", message);
        let started = self.cx.ambient.clock.monotonic();
        let spec = self.container(&container);
        let hook = spec.and_then(|spec| spec.lifecycle.as_ref()?.pre_stop.as_ref());
        if let (Some(hook), Some(spec)) = (hook, spec)
            && grace > Duration::ZERO
            && let Err(error) = self.target(spec, &id).run(hook, grace).await
        {
            self.about(
                &container,
                EventType::Warning,
                "FailedPreStopHook",
                format!("PreStopHook failed: {error}"),
            );
        }
        // A container whose hook took all the time has two more seconds, as upstream.
        let spent = self.cx.ambient.clock.monotonic() - started;
        let least = grace.min(Duration::from_secs(2));
        let outcome = self.runtime.stop_container(&id, grace.saturating_sub(spent).max(least)).await;
        self.tried("stop", &id, outcome)
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|known| known.name == name)
    }

    fn target(&self, container: &Container, container_id: &str) -> Target {
        Target {
            runtime: self.runtime.clone(),
            clock: self.cx.ambient.clock.clone(),
            container: container.clone(),
            container_id: container_id.to_owned(),
            pod_ip: self.ips().first().copied(),
            host_network: config::on_host_network(self.pod),
        }
    }

    fn ips(&self) -> Vec<IpAddr> {
        match self.observed.ready_sandbox() {
            Some(_) if config::on_host_network(self.pod) => self.cx.host_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        }
    }

    fn place(&self) -> Place {
        Place {
            host_ips: self.cx.host_ips.clone(),
            pod_ips: self.ips(),
            allocatable: self.cx.allocatable.clone(),
        }
    }

    /// Remembers why the pod as a whole has to wait.
    fn put_off(&mut self, reason: &str, message: String) -> bool {
        self.warn(reason, message.clone());
        let (at, what) = (self.now(), Waiting::new(reason, message));
        let retry_at = at.checked_add(RETRY).unwrap_or(at);
        self.memory.sandbox = Some(Failure { what, then: None, at, retry_at });
        true
    }

    async fn run_sandbox(&mut self, attempt: u32) -> bool {
        if let Some(refusal) = config::refusals(self.pod).into_iter().next() {
            return self
                .put_off("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {refusal}"));
        }
        if let Err(message) = self.make_volumes().await {
            return self.put_off("FailedMount", message);
        }
        let cx = self.cx;
        let config = config::sandbox(self.pod, attempt, &cx.paths, &cx.dns, &cx.node_name, &cx.cgroup);
        let logs = config.log_directory.clone();
        let outcome = match blocking(move || std::fs::create_dir_all(logs)).await {
            Ok(()) => self.runtime.run_sandbox(config).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(_) => {
                self.memory.sandbox = None;
                true
            }
            Err(error) => {
                self.put_off("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"))
            }
        }
    }

    async fn start(&mut self, name: &str, attempt: u32) -> bool {
        let Some(container) = self.container(name).cloned() else { return true };
        let outcome = self.try_start(&container, attempt).await;
        let now = self.now();
        let remembered = self.memory.container(name);
        match outcome {
            Ok(()) => {
                remembered.failure = None;
                remembered.pull = None;
            }
            Err(Refused { what, then, image }) => {
                let retry_at = if image && then.is_some() {
                    let next = Backoff::next(remembered.pull, now, now);
                    remembered.pull = Some(next);
                    now.checked_add(next.delay)
                } else {
                    now.checked_add(RETRY)
                };
                let retry_at = retry_at.unwrap_or(now);
                remembered.failure = Some(Failure { what: what.clone(), then, at: now, retry_at });
                let message = if image { what.message.clone() } else { format!("Error: {}", what.message) };
                self.about(name, EventType::Warning, "Failed", message);
                if image {
                    self.about(name, EventType::Warning, "Failed", format!("Error: {}", what.reason));
                }
            }
        }
        true
    }

    async fn try_start(&self, container: &Container, attempt: u32) -> Result<(), Refused> {
        let name = &container.name;
        let Some(sandbox) = self.observed.ready_sandbox() else {
            return Err(Refused::new("CreateContainerError", "the pod's sandbox is gone"));
        };
        let pulling = |image: &str| {
            self.about(name, EventType::Normal, "Pulling", format!("Pulling image \"{image}\""));
        };
        let found = image::ensure(self.runtime, container, pulling)
            .await
            .map_err(|ImageFailure { what, then }| Refused { what, then, image: true })?;
        self.about(name, EventType::Normal, "Pulled", found.message);
        let config_error = |message: String| Refused::new("CreateContainerConfigError", message);
        self.check_root(container, &found.image).map_err(config_error)?;
        let sources = self.environment_sources(container).await.map_err(config_error)?;
        let environment = environment::of(self.pod, container, &sources, &self.place())
            .map_err(|error| config_error(error.0))?;
        self.make_volumes().await.map_err(config_error)?;
        self.make_files(container, attempt).await.map_err(|error| config_error(error.to_string()))?;
        let cx = self.cx;
        let (mut config, sub_paths) =
            config::container(self.pod, container, attempt, &cx.paths, environment, cx.memory)
                .map_err(|error| config_error(error.0))?;
        for (mount, path) in settled(sub_paths).await.map_err(config_error)? {
            config.mounts[mount].sub_path = path;
        }
        let created = self.runtime.create_container(&sandbox.id, config).await;
        let id = created.map_err(|error| Refused::new("CreateContainerError", error.to_string()))?;
        self.about(name, EventType::Normal, "Created", format!("Created container: {name}"));
        let started = self.runtime.start_container(&id).await;
        started.map_err(|error| Refused::new("RunContainerError", error.to_string()))?;
        self.about(name, EventType::Normal, "Started", format!("Started container {name}"));
        self.after_start(container, &id).await;
        Ok(())
    }

    async fn after_start(&self, container: &Container, id: &str) {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return };
        if let Err(error) = self.target(container, id).run(hook, HOOK_LIMIT).await {
            let name = &container.name;
            self.about(
                name,
                EventType::Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {error}"),
            );
            self.about(name, EventType::Normal, "Killing", "FailedPostStartHook");
            let grace = Duration::from_secs(config::grace_seconds(self.pod));
            self.tried("stop", id, self.runtime.stop_container(id, grace).await);
        }
    }

    fn check_root(&self, container: &Container, image: &Image) -> Result<(), String> {
        if !config::must_not_be_root(self.pod, container) {
            return Ok(());
        }
        let own = container.security_context.as_ref().and_then(|security| security.run_as_user);
        let of_pod = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.run_as_user);
        let name = &container.name;
        match own.or(of_pod).or(image.uid) {
            Some(0) => Err(format!("container's runAsUser breaks non-root policy (container: {name})")),
            Some(_) => Ok(()),
            None if !image.username.is_empty() => Err(format!(
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
                image.username
            )),
            None => Err("container has runAsNonRoot and image will run as root".to_owned()),
        }
    }

    async fn environment_sources(&self, container: &Container) -> Result<Sources, String> {
        let (config_maps, secrets) = environment::references(std::iter::once(container));
        self.sources(config_maps.into_iter(), secrets.into_iter()).await
    }

    /// Fetches what is named. What is not there is left out; whoever needs it says so.
    async fn sources(
        &self,
        config_maps: impl Iterator<Item = String>,
        secrets: impl Iterator<Item = String>,
    ) -> Result<Sources, String> {
        let text = |error: client::Error| error.to_string();
        let mut sources = Sources::default();
        let maps: Api<ConfigMap> = Api::namespaced(self.cx.client.clone(), self.namespace());
        for name in config_maps {
            if let Some(found) = maps.get_opt(&name).await.map_err(text)? {
                sources.config_maps.insert(name, found);
            }
        }
        let all: Api<Secret> = Api::namespaced(self.cx.client.clone(), self.namespace());
        for name in secrets {
            if let Some(found) = all.get_opt(&name).await.map_err(text)? {
                sources.secrets.insert(name, found);
            }
        }
        Ok(sources)
    }

    async fn tokens(
        &self,
        wanted: impl Iterator<Item = TokenRequest>,
    ) -> Result<BTreeMap<TokenRequest, String>, String> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cx.client.clone(), self.namespace());
        let mut tokens = BTreeMap::new();
        for want in wanted {
            let audiences = (!want.audience.is_empty()).then(|| vec![want.audience.clone()]);
            let bound = api::k8s::api::authentication::v1::BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: self.pod.metadata.name.clone(),
                uid: self.pod.metadata.uid.clone(),
            };
            let spec = TokenRequestSpec {
                audiences,
                bound_object_ref: Some(bound),
                expiration_seconds: Some(want.expiration_seconds),
            };
            let request = Request { spec: Some(spec), ..Request::default() };
            let granted: Request = accounts
                .create_subresource("token", &account, &PostParams::default(), &request)
                .await
                .map_err(|error| format!("failed to fetch token: {error}"))?;
            let token = granted.status.and_then(|status| status.token).unwrap_or_default();
            tokens.insert(want, token);
        }
        Ok(tokens)
    }

    async fn make_volumes(&self) -> Result<(), String> {
        let needs = volume::needs(self.pod);
        let sources = self.sources(needs.config_maps.into_iter(), needs.secrets.into_iter()).await?;
        let tokens = self.tokens(needs.tokens.into_iter()).await?;
        let group = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
        let group = group.and_then(|group| u32::try_from(group).ok());
        let place = self.place();
        let mut work = Vec::new();
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let failed =
                |error: String| format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name);
            let content = volume::content(self.pod, volume, &sources, &tokens, &place).map_err(failed)?;
            work.push((volume.name.clone(), content, self.cx.paths.volume(self.uid(), &volume.name)));
        }
        let made = tokio::task::spawn_blocking(move || {
            work.into_iter().try_for_each(|(name, content, directory)| {
                let made = volume::make(&content, &directory, group);
                made.map_err(|error| format!("MountVolume.SetUp failed for volume \"{name}\" : {error}"))
            })
        });
        made.await.map_err(|error| error.to_string())?
    }

    /// What every container finds mounted: `/etc/hosts`, and a file for its last words.
    async fn make_files(&self, container: &Container, attempt: u32) -> std::io::Result<()> {
        let hosts = (self.cx.paths.hosts(self.uid()), config::hosts(self.pod, &self.cx.hosts, &self.ips()));
        let message = self.cx.paths.message(self.uid(), &container.name, attempt);
        blocking(move || {
            write(&hosts.0, hosts.1.as_bytes(), 0o644)?;
            // Whoever the container runs as may write its last words.
            write(&message, b"", 0o666)
        })
        .await
    }
}

/// Makes parts of volumes that are not there, and gives each by the index of its mount. The runtime finds them again
/// itself: by then a path that was found here may lead elsewhere.
async fn settled(sub_paths: Vec<SubPath>) -> Result<Vec<(usize, PathBuf)>, String> {
    let settle = |SubPath { mount, root, path }: SubPath| match volume::settle(&root, &path) {
        Ok(_) => Ok((mount, path)),
        Err(error) => Err(format!("failed to prepare subPath {path:?} for volumeMount: {error}")),
    };
    let work = tokio::task::spawn_blocking(move || sub_paths.into_iter().map(settle).collect());
    work.await.map_err(|error| error.to_string())?
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Written in place: a running container has this very file mounted.
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
