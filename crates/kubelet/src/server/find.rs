//! What a request for streams is about: a container that runs, or a pod's sandbox.

use std::sync::Arc;

use api::k8s::api::core::v1::Pod;
use client::ObjectKey;
use http::StatusCode;
use runtime::{ContainerState, Runtime};

use super::route::Refusal;
use crate::context::Context;
use crate::pod::observed::Observed;

/// A pod as a runtime knows it.
struct Known {
    runtime: Arc<dyn Runtime>,
    observed: Observed,
}

/// A container that runs. Errors are in upstream's words.
pub(super) async fn running(
    cx: &Context,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(Arc<dyn Runtime>, String), Refusal> {
    let known = known(cx, &*held(cx, namespace, pod)?).await?;
    let running = known.and_then(|known| {
        let run = known.observed.latest(container).filter(|run| run.state == ContainerState::Running)?;
        Some((known.runtime.clone(), run.id.clone()))
    });
    running.ok_or_else(|| {
        let message = format!("container not found ({container:?})");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
}

/// A pod's sandbox, and the pod's UID.
pub(super) async fn sandbox(
    cx: &Context,
    namespace: &str,
    pod: &str,
) -> Result<(Arc<dyn Runtime>, String, String), Refusal> {
    let held = held(cx, namespace, pod)?;
    let ready = known(cx, &held).await?.and_then(|known| {
        let sandbox = known.observed.ready_sandbox()?;
        Some((known.runtime.clone(), sandbox.id.clone()))
    });
    let (runtime, sandbox) = ready.ok_or_else(|| {
        let message = format!("pod not found ({:?})", format!("{pod}_{namespace}"));
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    Ok((runtime, sandbox, held.metadata.uid.clone().unwrap_or_default()))
}

fn held(cx: &Context, namespace: &str, pod: &str) -> Result<Arc<Pod>, Refusal> {
    let held = cx.pods.get(&ObjectKey::new(namespace, pod));
    held.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "pod does not exist"))
}

async fn known(cx: &Context, pod: &Pod) -> Result<Option<Known>, Refusal> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let failed = |error: runtime::Error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    for runtime in cx.runtimes.all() {
        let sandboxes = runtime.list_sandboxes().await.map_err(failed)?;
        if sandboxes.iter().any(|sandbox| sandbox.metadata.uid == uid) {
            let containers = runtime.list_containers().await.map_err(failed)?;
            let observed = Observed::of(uid, sandboxes, containers);
            return Ok(Some(Known { runtime: runtime.clone(), observed }));
        }
    }
    Ok(None)
}
