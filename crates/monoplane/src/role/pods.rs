//! The runtime and the network of this machine's pods, opened the same way by the node and by `monoplane clean`.
//! `sandbox` and `network` do not know each other: they meet here.

use std::fs::Metadata;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use client::Ambient;
use images::{Registries, RegistryConfig};
use network::Network;
use proxy::placements::{Placement, Placements};
use runtime::{Runtime, SandboxConfig, SandboxState};
use sandbox::{Containers, PodNetwork, ShimCommand};

use super::marks::Marks;
use super::programs;
use crate::image;
use crate::layout::Layout;

/// The runtime's name, and the handler of pods that name no RuntimeClass.
pub const CONTAINERS: &str = "runc";

/// Opens network and runtime, adopting what runs.
///
/// # Errors
/// When the machine lacks something; `monoplane check` says what.
pub async fn open(
    layout: &Layout,
    marks: &Marks,
    network: network::Config,
    registries: Registries,
    placements: &Arc<Placements>,
    ambient: &Ambient,
) -> Result<Containers> {
    let network = Network::open(network).await.context("opening the pod network")?;
    let bridged = Bridged { network, placements: placements.clone(), ambient: ambient.clone() };
    let containers = containers(layout, marks, registries, Arc::new(bridged)).await?;
    // The API may not have heard yet of the addresses of the last ones.
    let adopted = containers.list_sandboxes().await.context("listing what runs")?;
    for sandbox in adopted.into_iter().filter(|sandbox| sandbox.state == SandboxState::Ready) {
        placements.add(&sandbox.id, Placement { uid: sandbox.metadata.uid, addresses: sandbox.ips });
    }
    Ok(containers)
}

/// Opens the runtime to end what runs: the network is taken down whole afterwards, and may be half gone by now.
///
/// # Errors
/// When the machine lacks something.
pub async fn open_to_end(layout: &Layout, marks: &Marks) -> Result<Containers> {
    // Nothing is pulled any more.
    let registries = Registries::new(RegistryConfig::default(), egress::Policy::default())?;
    containers(layout, marks, registries, Arc::new(Unplugged)).await
}

async fn containers(
    layout: &Layout,
    marks: &Marks,
    registries: Registries,
    network: Arc<dyn PodNetwork>,
) -> Result<Containers> {
    let config = sandbox::Config {
        name: CONTAINERS.to_owned(),
        handlers: [
            (CONTAINERS.to_owned(), None),
            (programs::HANDLER.to_owned(), Some(programs::config(layout)?)),
        ]
        .into(),
        state_dir: layout.containers(),
        shim: ShimCommand { executable: executable(layout)?, args: vec!["shim".to_owned()] },
        shim_cgroup: format!("{}/shims", marks.cgroup_root),
        pods_cgroup: marks.pods_cgroup(),
        pids_limit: None,
    };
    let images = Arc::new(image::open(layout)?);
    Containers::open(config, images, Arc::new(registries), network)
        .await
        .context("opening the container runtime")
}

/// The program that shims run: this one, as it is now, under a name of its own. A shim outlives upgrades and rebuilds, and
/// must not lose its file to them. A link where that can be, so that all processes share one copy in memory.
fn executable(layout: &Layout) -> Result<PathBuf> {
    let kept = layout.node().join("shim");
    let own = std::env::current_exe().context("finding this program")?;
    if std::fs::metadata(&own).ok().zip(std::fs::metadata(&kept).ok()).is_some_and(|(a, b)| is_same(&a, &b)) {
        return Ok(kept);
    }
    let fresh = layout.node().join("shim.new");
    let _ = std::fs::remove_file(&fresh);
    if std::fs::hard_link(&own, &fresh).is_err() {
        std::fs::copy("/proc/self/exe", &fresh).with_context(|| format!("copying to {}", fresh.display()))?;
    }
    std::fs::rename(&fresh, &kept).with_context(|| format!("placing {}", kept.display()))?;
    Ok(kept)
}

fn is_same(own: &Metadata, kept: &Metadata) -> bool {
    let one_file = own.dev() == kept.dev() && own.ino() == kept.ino();
    let copied = own.len() == kept.len() && own.modified().ok() <= kept.modified().ok();
    one_file || copied
}

struct Bridged {
    network: Network,
    placements: Arc<Placements>,
    ambient: Ambient,
}

#[async_trait]
impl PodNetwork for Bridged {
    /// The pod's first process runs after this, and so under its policies.
    async fn attach(
        &self,
        sandbox_id: &str,
        pod: &SandboxConfig,
        namespace: &Path,
    ) -> Result<Vec<IpAddr>, String> {
        let attached = self.network.attach(sandbox_id, namespace).await;
        let addresses = attached.map_err(|error| error.to_string())?;
        let placement = Placement { uid: pod.metadata.uid.clone(), addresses: addresses.clone() };
        self.placements.add(sandbox_id, placement);
        match self.placements.in_force(sandbox_id, &self.ambient).await {
            // Who may write files on this machine may have any pod, and some of them bring the API up.
            Err(error) if pod.static_pod => tracing::warn!(sandbox_id, %error, "a static pod starts without"),
            in_force => in_force.map_err(|error| error.to_string())?,
        }
        Ok(addresses)
    }

    async fn detach(&self, sandbox_id: &str) -> Result<(), String> {
        self.network.detach(sandbox_id).await.map_err(|error| error.to_string())?;
        self.placements.remove(sandbox_id);
        Ok(())
    }

    async fn retain(&self, sandbox_ids: &[String]) -> Result<(), String> {
        self.network.retain(sandbox_ids).await.map_err(|error| error.to_string())?;
        self.placements.retain(sandbox_ids);
        Ok(())
    }
}

/// Gives and takes nothing.
struct Unplugged;

#[async_trait]
impl PodNetwork for Unplugged {
    async fn attach(&self, _: &str, _: &SandboxConfig, _: &Path) -> Result<Vec<IpAddr>, String> {
        Err("this node is being cleaned away".to_owned())
    }

    async fn detach(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn retain(&self, _: &[String]) -> Result<(), String> {
        Ok(())
    }
}
