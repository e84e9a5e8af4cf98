//! The chapter of containers: a Deployment of two.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::k8s::api::core::v1::{Node, Pod};
use client::kube::api::{Api, ListParams};

use super::components::apply;
use super::http::{self, Ask};
use super::plane::{NODE, Plane, eventually};

/// The image's name.
const IMAGE: &str = "monoplane.dev/demo/hello:1";

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
      - name: hello
        image: monoplane.dev/demo/hello:1
        imagePullPolicy: Never
        ports: [{containerPort: 8080}]
        resources: {limits: {memory: 32Mi, cpu: 500m}}
";

/// What identifies a running container: its id, and how often it was restarted.
pub type Running = BTreeMap<String, (String, i32)>;

/// Waits until the node is Ready; `up` is how long the plane itself took.
///
/// # Errors
/// When it is not in time.
pub async fn node_ready(plane: &Plane, up: Duration) -> Result<(Duration, String)> {
    let started = Instant::now();
    let nodes: Api<Node> = Api::all(plane.client().await?);
    eventually("the node is Ready", || async {
        let Some(node) = nodes.get_opt(NODE).await? else { return Ok(None) };
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        Ok(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True").then_some(()))
    })
    .await?;
    Ok((up + started.elapsed(), format!("node/{NODE} is Ready")))
}

/// Makes the image, imports it, deploys two containers of it.
///
/// # Errors
/// When they do not become ready.
pub async fn deploy(plane: &Plane) -> Result<((), String)> {
    let size = crate::hello::import(&plane.layout, IMAGE)?;
    apply(plane, DEPLOYMENT).await?;
    eventually("two Ready pods", || async { Ok((ready(plane).await?.len() == 2).then_some(())) }).await?;
    Ok(((), format!("image {IMAGE} of {} KB imported; deployment/hello has 2 of 2 ready", size / 1000)))
}

async fn pods(plane: &Plane) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(plane.client().await?, "default");
    Ok(pods.list(&ListParams::default().labels("app=hello")).await?.items)
}

/// The pods that are Ready.
///
/// # Errors
/// When the API does not answer.
pub async fn ready(plane: &Plane) -> Result<Vec<Pod>> {
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    Ok(pods(plane).await?.into_iter().filter(is_ready).collect())
}

/// Asks every container for its name at its pod's own address.
///
/// # Errors
/// When one does not answer with its pod's name.
pub async fn greet(plane: &Plane) -> Result<((), String)> {
    let mut found = Vec::new();
    for pod in ready(plane).await? {
        let name = pod.metadata.name.unwrap_or_default();
        let ip = pod.status.and_then(|s| s.pod_ip).context("a Ready pod without an address")?;
        let address: SocketAddr = format!("{ip}:8080").parse()?;
        let answer = http::send(address, &Ask::get(&ip, "/")).await?;
        ensure!(answer.text().contains(&name), "{address} answered {:?}, not its name", answer.text());
        found.push(format!("http://{address}/ -> {}", answer.text().trim()));
    }
    ensure!(found.len() == 2, "{} containers answered", found.len());
    Ok(((), found.join("\n")))
}

/// Every pod with its container's id and restarts.
///
/// # Errors
/// When a pod has no running container.
pub async fn running(plane: &Plane) -> Result<Running> {
    let mut running = Running::new();
    for pod in pods(plane).await? {
        let name = pod.metadata.name.unwrap_or_default();
        let statuses = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
        let Some(status) = statuses.into_iter().next() else { bail!("pod {name} has no container status") };
        let id = status.container_id.with_context(|| format!("pod {name} has no running container"))?;
        running.insert(name, (id, status.restart_count));
    }
    Ok(running)
}

/// Checks that the same containers run as before.
///
/// # Errors
/// When one is another, or was restarted.
pub async fn untouched(plane: &Plane, before: &Running) -> Result<((), String)> {
    let (ready, _) = node_ready(plane, Duration::ZERO).await?;
    eventually("two Ready pods", || async { Ok((self::ready(plane).await?.len() == 2).then_some(())) })
        .await?;
    let after = running(plane).await?;
    ensure!(after == *before, "before {before:?}, after {after:?}");
    let (_, greeting) = greet(plane).await?;
    let _ = ready;
    Ok(((), format!("same containers, same restart counts\n{greeting}")))
}
