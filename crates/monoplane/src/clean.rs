//! `monoplane clean`: ends what runs here and removes what a node made, whatever state it was left in.

use anyhow::{Context, Result, bail};
use network::Network;

use crate::flags::Clean;
use crate::layout::Layout;
use crate::role::pods::{self, Marks};
use crate::{say, verbs};

/// Runs the verb.
///
/// # Errors
/// When a plane still runs here, or something cannot be removed.
pub fn run(flags: &Clean) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    if layout.root().exists() {
        let _lock = crate::up::lock(&layout).context("stop it first")?;
        verbs::block_on(everything(&layout, &flags.bridge, &flags.cgroup_root))?;
    }
    if flags.all && layout.root().exists() {
        if !layout.endpoints().exists() && !layout.node().exists() {
            bail!("{} does not look like a data directory; nothing was removed", layout.root().display());
        }
        std::fs::remove_dir_all(layout.root())
            .with_context(|| format!("removing {}", layout.root().display()))?;
    }
    say::line("Nothing of the plane runs on this machine any more.");
    Ok(())
}

/// Ends every sandbox of this data directory and removes what its node made outside of it.
///
/// # Errors
/// When something cannot be removed.
pub async fn everything(layout: &Layout, bridge: &str, cgroup_root: &str) -> Result<()> {
    // Without root there never was a node.
    if !crate::up::can_run_node() || !layout.node().join("network").exists() {
        return Ok(());
    }
    // The subnet decides nothing here: addresses are only given back.
    let marks = Marks { bridge, cgroup_root, pod_cidr: &pod_cidr(layout) };
    pods::open(layout, &marks).await?.cleanup().await.context("ending the containers")?;
    Network::remove(&marks.network(layout)?).await.context("removing the pod network")?;
    remove_cgroups(cgroup_root)
}

fn pod_cidr(layout: &Layout) -> String {
    std::fs::read_to_string(layout.node().join("pod-cidr")).unwrap_or_else(|_| "10.42.0.0/24".to_owned())
}

/// Removes the (empty) tree of cgroups below `root`, and it, in every hierarchy.
fn remove_cgroups(root: &str) -> Result<()> {
    let mut hierarchies = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    hierarchies.extend(std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path()));
    for hierarchy in hierarchies {
        let group = hierarchy.join(root);
        if group.join("cgroup.procs").exists() {
            remove_group(&group)?;
        }
    }
    Ok(())
}

fn remove_group(group: &std::path::Path) -> Result<()> {
    for entry in std::fs::read_dir(group).with_context(|| format!("reading {}", group.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    std::fs::remove_dir(group).with_context(|| format!("removing {}", group.display()))
}
