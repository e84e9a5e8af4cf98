//! The next run of a container: its image, its environment, its files, and then the run itself; and its first hook.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::k8s::api::core::v1::Container;
use client::EventType;
use runtime::{ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, Image};
use tokio_util::sync::CancellationToken;

use super::scope::blocking;
use super::{Began, Outcome, Scope};
use crate::env_file;
use crate::environment;
use crate::images::pull::{self, ImageFailure};
use crate::pod::config::{self, SubPath};
use crate::pod::containers;
use crate::pod::memory::Waiting;
use crate::pod::security;
use crate::pod::volume;
use crate::service_links;

/// How long a hook after the start may take before the container counts as failed.
const HOOK_LIMIT: Duration = Duration::from_secs(120);
/// How long Services are waited for that have never been read.
const SERVICES_WITHIN: Duration = Duration::from_secs(5);
/// What a run that could not begin exits with, as upstream's runtimes say.
const UNSTARTED: i32 = 128;
/// Why it ended, in their words.
pub(crate) const START_ERROR: &str = "StartError";

/// Why a container did not start.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) what: Waiting,
    pub(crate) then: Option<Waiting>,
    /// Reason and message of the event that tells of an image that cannot be had.
    event: Option<Box<(&'static str, String)>>,
}

impl Refused {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { what: Waiting::new(reason, message), then: None, event: None }
    }

    fn image(ImageFailure { what, then, event }: ImageFailure) -> Self {
        Self { what, then, event: Some(event) }
    }

    fn config(message: impl Into<String>) -> Self {
        Self::new("CreateContainerConfigError", message)
    }
}

/// Starts a run. Until the runtime is asked for it, it may be given up.
pub(super) async fn run(
    scope: Scope,
    container: &str,
    attempt: u32,
    token: CancellationToken,
) -> Result<Began, Refused> {
    let result = try_start(&scope, container, attempt, &token).await;
    if let Err(Refused { what, event, .. }) = &result {
        let mut error = &what.message;
        if let Some((reason, message)) = event.as_deref() {
            scope.about(container, EventType::Warning, reason, message.clone());
            error = &what.reason;
        }
        scope.about(container, EventType::Warning, "Failed", format!("Error: {error}"));
    }
    result
}

async fn try_start(
    scope: &Scope,
    name: &str,
    attempt: u32,
    token: &CancellationToken,
) -> Result<Began, Refused> {
    let Some(found) = containers::find(&scope.pod, name) else { return Ok(Began::Abandoned) };
    let Some(sandbox) = &scope.sandbox else {
        return Err(Refused::new("CreateContainerError", "the pod's sandbox is gone"));
    };
    let prepared = token.run_until_cancelled(prepare(scope, &found.spec, attempt)).await;
    let Some(prepared) = prepared else { return Ok(Began::Abandoned) };
    let (mut config, sub_paths, image) = prepared?;
    make_files(scope, &found.spec, attempt).await.map_err(|error| Refused::config(error.to_string()))?;
    for (mount, path) in settled(sub_paths).await.map_err(Refused::config)? {
        config.mounts[mount].sub_path = path;
    }
    config.pid_target = target(scope, sandbox, name).await?;
    let unstarted = |why: String| {
        scope.about(name, EventType::Warning, "Failed", format!("Error: {why}"));
        Ok(Began::Unstarted(Box::new(never_began(scope, sandbox, name, attempt, &image, why))))
    };
    let id = match scope.runtime.create_container(sandbox, config).await {
        Ok(id) => id,
        Err(runtime::Error::Start(why)) => return unstarted(why),
        Err(error) => return Err(Refused::new("CreateContainerError", error.to_string())),
    };
    scope.about(name, EventType::Normal, "Created", format!("Created container: {name}"));
    if let Err(error) = scope.runtime.start_container(&id).await {
        scope.tried("remove", &id, scope.runtime.remove_container(&id).await);
        return match error {
            runtime::Error::Start(why) => unstarted(why),
            error => Err(Refused::new("RunContainerError", error.to_string())),
        };
    }
    scope.about(name, EventType::Normal, "Started", format!("Started container {name}"));
    let hook = found.spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
    Ok(Began::Run { id, hook })
}

/// The run that an ephemeral container looks at.
async fn target(scope: &Scope, sandbox: &str, name: &str) -> Result<Option<String>, Refused> {
    let Some(target) = containers::target(&scope.pod, name) else { return Ok(None) };
    let listed = scope.runtime.list_containers().await;
    let listed = listed.map_err(|error| Refused::new("CreateContainerError", error.to_string()))?;
    let run = listed.into_iter().find(|run| {
        run.sandbox_id == *sandbox && run.metadata.name == target && run.state == ContainerState::Running
    });
    match run {
        Some(run) => Ok(Some(run.id)),
        None => Err(Refused::config(format!("unable to find target container {target}"))),
    }
}

/// All that has to be known and fetched for a run.
async fn prepare(
    scope: &Scope,
    container: &Container,
    attempt: u32,
) -> Result<(ContainerConfig, Vec<SubPath>, Image), Refused> {
    let image = pull::ensure(scope, container).await.map_err(Refused::image)?;
    let mounted = pull::ensure_mounted(scope, container).await.map_err(Refused::image)?;
    security::check_root(&scope.pod, container, &image).map_err(Refused::config)?;
    let (config_maps, secrets) = environment::references(std::iter::once(container));
    let mut sources = scope.given.sources(scope, config_maps, secrets).await.map_err(Refused::config)?;
    sources.files = files(scope, container).await.map_err(Refused::config)?;
    let services = service_variables(scope).await.map_err(Refused::config)?;
    let environment = environment::of(&scope.pod, container, &sources, &scope.place(), services)
        .map_err(|error| Refused::config(error.0))?;
    let cx = &scope.cx;
    let (mut config, sub_paths) =
        config::container(&scope.pod, container, attempt, &cx.paths, &cx.security, environment, cx.memory)
            .map_err(|error| Refused::config(error.0))?;
    for mount in &mut config.mounts {
        if let Some(found) = mounted.get(&mount.image) {
            // Whatever the name stands for by then.
            mount.image.clone_from(&found.id);
        }
    }
    Ok((config, sub_paths, image))
}

/// What files of volumes say of the container's environment.
async fn files(
    scope: &Scope,
    container: &Container,
) -> Result<BTreeMap<(String, String), Result<Option<String>, String>>, String> {
    let wanted = environment::files(container);
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (pod, paths) = (scope.pod.clone(), scope.cx.paths.clone());
    let read = move || {
        let each = wanted.into_iter().filter_map(|(volume, path)| {
            let directory = volume::directory(&pod, &paths, &volume)?;
            let read = env_file::read(&directory, &path).map_err(|error| error.to_string());
            Some(((volume, path), read))
        });
        each.collect()
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())
}

/// The variables that Services make for the pod.
async fn service_variables(scope: &Scope) -> Result<Vec<(String, String)>, String> {
    let (cx, pod) = (&scope.cx, &scope.pod);
    tokio::select! {
        () = cx.services.ready() => {}
        // As upstream: a pod of the node's own files may be what brings the API up.
        () = std::future::ready(()), if cx.statics.get(scope.uid()).is_some() => {}
        () = cx.ambient.clock.sleep(SERVICES_WITHIN) => {
            return Err("services have not yet been read at least once, cannot construct envvars".to_owned());
        }
    }
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    Ok(service_links::variables(&cx.services.store().list(), scope.namespace(), links))
}

/// A run that ended before it began: there is no trace of it in the runtime, and it counts as a run all the same.
fn never_began(
    scope: &Scope,
    sandbox: &str,
    name: &str,
    attempt: u32,
    image: &Image,
    message: String,
) -> ContainerStatus {
    let now = scope.cx.ambient.clock.now();
    let now = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    let spec = containers::find(&scope.pod, name);
    ContainerStatus {
        id: format!("{}-{name}-{attempt}", scope.uid()),
        sandbox_id: sandbox.to_owned(),
        metadata: ContainerMetadata { name: name.to_owned(), attempt },
        state: ContainerState::Exited,
        created_at: now,
        started_at: 0,
        finished_at: now,
        exit_code: UNSTARTED,
        reason: START_ERROR.to_owned(),
        message,
        image: spec.and_then(|found| found.spec.image.clone()).unwrap_or_default(),
        image_id: image.id.clone(),
        resources: Default::default(),
        image_ref: image.digests.first().cloned().unwrap_or_default(),
        mounted_images: Vec::new(),
        log_path: PathBuf::new(),
        labels: Default::default(),
        annotations: Default::default(),
    }
}

/// Runs the hook after the start of a run.
pub(super) async fn hook(scope: Scope, container: String, run: String, token: CancellationToken) -> Outcome {
    let found = containers::find(&scope.pod, &container);
    let spec = found.as_ref().map(|found| &found.spec);
    let hook = spec.and_then(|spec| spec.lifecycle.as_ref()?.post_start.clone());
    let failure = match (spec, hook) {
        (Some(spec), Some(hook)) => {
            let target = scope.target(spec, &run);
            let done = token.run_until_cancelled(target.run(&hook, HOOK_LIMIT)).await;
            done.and_then(Result::err)
        }
        _ => None,
    };
    if let Some(error) = &failure {
        let message = format!("PostStartHook failed: {error}");
        scope.about(&container, EventType::Warning, "FailedPostStartHook", message);
    }
    Outcome::PostStart { container, run, failure: failure.map(|_| "FailedPostStartHook".to_owned()) }
}

/// What every container finds mounted: `/etc/hosts`, and a file for its last words.
async fn make_files(scope: &Scope, container: &Container, attempt: u32) -> std::io::Result<()> {
    let paths = &scope.cx.paths;
    let hosts = config::hosts(&scope.pod, &scope.cx.hosts, &scope.cx.dns, &scope.ips);
    let hosts = (paths.hosts(scope.uid()), hosts);
    let message = paths.message(scope.uid(), &container.name, attempt);
    blocking(move || {
        write(&hosts.0, hosts.1.as_bytes(), 0o644)?;
        // Whoever the container runs as may write its last words.
        write(&message, b"", 0o666)
    })
    .await
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
