//! Which log is asked for, and how much of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::Pod;
use bytes::Bytes;
use client::ObjectKey;
use futures::stream::BoxStream;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerState, ContainerStatus, Runtime};
use tokio::sync::watch;

use super::notices::Notice;
use super::query;
use super::route::Refusal;
use super::tail::Tail;
use crate::context::Context;
use crate::pod::containers;
use crate::pod::observed::Observed;
use crate::pod::recall;
use crate::static_pods::mirrored;

/// Looks for new lines so often while somebody follows and the kernel tells nothing.
const POLL: Duration = Duration::from_millis(500);

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) tail_lines: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    /// One of the two outputs; `None`: both.
    pub(super) stream: Option<&'static str>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
}

impl LogOptions {
    /// From a query, in upstream's words. What is not known is ignored.
    pub(super) fn parse(query: &str) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for (name, value) in query::pairs(query) {
            let bad =
                || Refusal::new(StatusCode::BAD_REQUEST, format!("invalid value for {name}: {value:?}"));
            match name.as_str() {
                "follow" => options.follow = query::truth(&value),
                "previous" => options.previous = query::truth(&value),
                "timestamps" => options.timestamps = query::truth(&value),
                "tailLines" => options.tail_lines = Some(value.parse().map_err(|_| bad())?),
                "limitBytes" => {
                    let limit = value.parse().ok().filter(|limit| *limit > 0);
                    options.limit_bytes = Some(limit.ok_or_else(bad)?);
                }
                "sinceSeconds" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                    options.since_seconds = Some(seconds.ok_or_else(bad)?);
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "All" | "" => None,
                        "Stdout" => Some("stdout"),
                        "Stderr" => Some("stderr"),
                        _ => return Err(bad()),
                    }
                }
                "sinceTime" => options.since_time = Some(value.parse().map_err(|_| bad())?),
                _ => {}
            }
        }
        if options.since_seconds.is_some() && options.since_time.is_some() {
            let message = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        if options.tail_lines.is_some() && options.stream.is_some() {
            let message = "`tailLines` and specific `stream` are mutually exclusive for now";
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        Ok(options)
    }

    /// Lines older than this are left out.
    pub(super) fn since(&self, now: Timestamp) -> Option<Timestamp> {
        let ago = self.since_seconds.map(SignedDuration::from_secs);
        self.since_time.or_else(|| ago.and_then(|ago| now.checked_sub(ago).ok()))
    }
}

/// Finds the log and begins to read it.
pub(super) async fn open(
    cx: &Arc<Context>,
    namespace: &str,
    pod: &str,
    container: &str,
    options: LogOptions,
) -> Result<BoxStream<'static, std::io::Result<Bytes>>, Refusal> {
    let missing = |message: String| Refusal::new(StatusCode::NOT_FOUND, message);
    let known = cx.pods.get(&ObjectKey::new(namespace, pod));
    // Of an image it is the pod itself that has logs.
    let known = known.map(|pod| mirrored(&pod).and_then(|uid| cx.statics.get(uid)).unwrap_or(pod));
    let known = known.ok_or_else(|| missing(format!("pod \"{pod}\" does not exist")))?;
    if containers::find(&known, container).is_none() {
        return Err(missing(format!("container \"{container}\" not found in pod \"{pod}\"")));
    }
    let (runtime, run) = find(cx, &known, container, options.previous).await?;
    let path = run.log_path.clone();
    // Before anything is looked at: nothing is to come in between.
    let follow = options.follow.then(|| Follow {
        cx: cx.clone(),
        runtime,
        id: run.id.clone(),
        events: cx.events.subscribe(),
        written: path.parent().and_then(|directory| cx.notices.watch(directory).ok()),
        looked: false,
    });
    let tail = opened(path, &options, cx.ambient.clock.now()).await.map_err(|error| {
        missing(format!("failed to open log file {:?}: {error}", run.log_path.display().to_string()))
    })?;
    let state = Some((tail, follow));
    Ok(Box::pin(futures::stream::unfold(state, |state| async move {
        let (tail, follow) = state?;
        next(tail, follow).await
    })))
}

async fn opened(path: PathBuf, options: &LogOptions, now: Timestamp) -> std::io::Result<Tail> {
    let (options, since) = (options.clone(), options.since(now));
    tokio::task::spawn_blocking(move || {
        let tail = Tail::open(&path, options.tail_lines, since, options.timestamps, options.limit_bytes)?;
        Ok(tail.only(options.stream))
    })
    .await
    .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

struct Follow {
    cx: Arc<Context>,
    runtime: Option<Arc<dyn Runtime>>,
    id: String,
    /// What happens to containers.
    events: watch::Receiver<()>,
    /// What is written to the log; `None`: it is not told.
    written: Option<Notice>,
    /// Whether the container ran when all of this began.
    looked: bool,
}

impl Follow {
    /// Waits for more; `false`: there will be none.
    async fn wait(&mut self) -> bool {
        let looked = std::mem::replace(&mut self.looked, true);
        if !looked {
            return self.is_running().await;
        }
        match &mut self.written {
            None => {
                self.cx.ambient.clock.sleep(POLL).await;
                self.is_running().await
            }
            Some(written) => tokio::select! {
                () = written.changed() => true,
                _ = self.events.changed() => self.is_running().await,
            },
        }
    }

    async fn is_running(&self) -> bool {
        let Some(runtime) = &self.runtime else { return false };
        let status = runtime.container_status(&self.id).await;
        status.is_ok_and(|status| status.state == ContainerState::Running)
    }
}

type State = Option<(Tail, Option<Follow>)>;

async fn next(mut tail: Tail, mut follow: Option<Follow>) -> Option<(std::io::Result<Bytes>, State)> {
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let chunk = tail.read();
            (tail, chunk)
        });
        let chunk;
        (tail, chunk) = match read.await {
            Ok(read) => read,
            Err(error) => return Some((Err(std::io::Error::other(error)), None)),
        };
        match chunk {
            Err(error) => return Some((Err(error), None)),
            Ok(chunk) if !chunk.is_empty() => return Some((Ok(chunk), Some((tail, follow)))),
            Ok(_) if tail.is_done() => return None,
            Ok(_) => match &mut follow {
                None => return None,
                Some(running) => {
                    if !running.wait().await {
                        // It has ended: what it wrote last is still to be read.
                        follow = None;
                    }
                }
            },
        }
    }
}

/// The run whose log is asked for, and the runtime that the pod is in, unless that knows nothing of the pod.
async fn find(
    cx: &Context,
    pod: &Pod,
    container: &str,
    previous: bool,
) -> Result<(Option<Arc<dyn Runtime>>, ContainerStatus), Refusal> {
    let (uid, name) =
        (pod.metadata.uid.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let internal = |error: runtime::Error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let bad = |message: String| Refusal::new(StatusCode::BAD_REQUEST, message);
    let (mut of, mut runs) = (None, Vec::new());
    for runtime in cx.runtimes.all() {
        let sandboxes = runtime.list_sandboxes().await.map_err(internal)?;
        if !sandboxes.iter().any(|sandbox| sandbox.metadata.uid == uid) {
            continue;
        }
        let containers = runtime.list_containers().await.map_err(internal)?;
        let observed = Observed::of(uid, sandboxes, containers);
        let begun = observed.runs(container).filter(|run| run.state != ContainerState::Created);
        (of, runs) = (Some(runtime.clone()), begun.cloned().collect());
        break;
    }
    // Logs outlive the runtime's records.
    let oldest = runs.last().map(|run| run.metadata.attempt);
    let earlier = recall::recalled(pod, &cx.paths, "").filter(|run| {
        run.metadata.name == container && oldest.is_none_or(|oldest| run.metadata.attempt < oldest)
    });
    runs.extend(earlier.filter(|run| run.log_path.exists()));
    // The newest run that has ended and is not the one that its status is about.
    if let Some(run) = runs.into_iter().nth(usize::from(previous)) {
        return Ok((of, run));
    }
    if previous {
        return Err(bad(format!(
            "previous terminated container \"{container}\" in pod \"{name}\" not found"
        )));
    }
    let told = pod.status.iter().flat_map(containers::statuses).find(|told| told.name == container);
    let state = told.and_then(|told| told.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        // It was cleared away, or never was.
        return Err(bad(match ended.container_id.as_deref().unwrap_or_default() {
            "" => format!("container \"{container}\" in pod \"{name}\" is terminated"),
            id => format!("unable to retrieve container logs for {id}"),
        }));
    }
    let reason = state.and_then(|state| state.waiting.as_ref()?.reason.clone());
    let reason = match reason.as_deref() {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    Err(bad(format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let parsed =
            LogOptions::parse("follow=true&tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z&x=y").ok().unwrap();
        assert!(parsed.follow && !parsed.previous && parsed.tail_lines == Some(5));
        assert_eq!(parsed.since(Timestamp::UNIX_EPOCH).unwrap().to_string(), "2026-01-01T00:00:00Z");
        for bad in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=x",
            "stream=stdout",
            "stream=Stdout&tailLines=1",
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        ] {
            assert!(LogOptions::parse(bad).is_err(), "{bad}");
        }
    }
}
