//! `monoplane clean`: ends what runs here and removes what a node made, whatever state it was left in.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use network::Network;
use rustix::process::{Pid, Signal, kill_process};

use crate::flags::Clean;
use crate::layout::Layout;
use crate::role::marks::Marks;
use crate::role::pods;
use crate::{say, verbs};

/// How long the roles may take to stop before they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Runs the verb.
///
/// # Errors
/// When a plane still runs here, or something cannot be removed.
pub fn run(flags: &Clean) -> Result<()> {
    let layout = Layout::new(&flags.at)?;
    if flags.after_stdin {
        if !wait_for_the_end()? {
            return Ok(());
        }
        end_processes(layout.root());
    }
    if layout.root().exists() {
        let _lock = crate::up::lock(layout.root(), "up").context("stop it first")?;
        let _node = match layout.node().exists() {
            true => Some(crate::up::lock(&layout.node(), "node").context("stop it first")?),
            false => None,
        };
        verbs::block_on(everything(&layout, flags))?;
    }
    kubelet::unmount_volumes(&layout.node()).context("unmounting volumes")?;
    if flags.all && layout.root().exists() {
        // Whoever is guarded made the directory, and may have ended before the plane wrote there.
        if !flags.after_stdin && !layout.endpoints().exists() && !layout.node().exists() {
            bail!("{} does not look like a data directory; nothing was removed", layout.root().display());
        }
        images::remove_tree(layout.root())
            .with_context(|| format!("removing {}", layout.root().display()))?;
    }
    if !flags.after_stdin {
        say::line("Nothing of the plane runs on this machine any more.");
    }
    Ok(())
}

/// What a holder of a throw-away plane writes to its guard when the plane is to stay.
pub const KEEP: &[u8] = b"keep";

/// Until whoever holds the other end of standard input has ended. False when it said that the plane stays.
fn wait_for_the_end() -> Result<bool> {
    let mut said = Vec::new();
    std::io::stdin().take(64).read_to_end(&mut said).context("reading standard input")?;
    Ok(said != KEEP)
}

/// Ends the processes that were started for a data directory: `up` in order, and by force what is left of it.
fn end_processes(root: &Path) {
    for pid in processes(root, Some("up")) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let until = Instant::now() + STOP_WITHIN;
    while !processes(root, None).is_empty() {
        if Instant::now() > until {
            for pid in processes(root, None) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if Instant::now() > until + STOP_WITHIN {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Other processes of this program whose command line names the data directory: `verb`, or any role.
fn processes(root: &Path, verb: Option<&str>) -> Vec<Pid> {
    let own = std::process::id();
    let verbs = ["up", "server", "node", "edge"];
    let names = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).map(OsStr::from_bytes).skip(1);
        let first = words.next().and_then(OsStr::to_str).unwrap_or_default();
        verbs.contains(&first) && verb.is_none_or(|verb| verb == first) && words.any(|word| word == root)
    };
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own && names(*pid))
        .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
        .collect()
}

/// Ends every sandbox of this data directory and removes what its node made outside of it. What fails keeps nothing else
/// from being removed, and is told at the end.
///
/// # Errors
/// When something cannot be removed.
async fn everything(layout: &Layout, flags: &Clean) -> Result<()> {
    // Without root there never was anything outside.
    if !crate::up::can_run_node() {
        return Ok(());
    }
    let Some(marks) = marks(layout, flags)? else { return Ok(()) };
    let containers = async {
        if layout.node().join("containers").exists() {
            pods::open_to_end(layout, &marks).await?.cleanup().await.context("ending the containers")?;
        }
        Ok(())
    };
    let network = async {
        if layout.node().join("network").exists() {
            Network::remove(&marks.network(layout)?).await.context("removing the pod network")?;
        }
        Ok(())
    };
    // In this order: a container's address is its own until it has ended.
    let results = [containers.await, network.await, remove_cgroups(&marks.cgroup_root)];
    let failed: Vec<String> =
        results.into_iter().filter_map(|result| result.err().map(|error| format!("{error:#}"))).collect();
    if !failed.is_empty() {
        bail!("not everything could be removed: {}", failed.join("; "));
    }
    match std::fs::remove_file(layout.marks()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", layout.marks().display()))
        }
        _ => Ok(()),
    }
}

/// What the node wrote down; else what the flags say, and the usual names where a node of a release that wrote nothing
/// was. `None`: nobody made anything here.
fn marks(layout: &Layout, flags: &Clean) -> Result<Option<Marks>> {
    if let Some(marks) = Marks::read(layout)? {
        return Ok(Some(marks));
    }
    let node = layout.node().join("network").exists() || layout.node().join("containers").exists();
    if !node && flags.bridge.is_none() && flags.cgroup_root.is_none() {
        return Ok(None);
    }
    let pod_cidr = std::fs::read_to_string(layout.node().join("pod-cidr"));
    Ok(Some(Marks {
        plane: String::new(),
        bridge: flags.bridge.clone().unwrap_or_else(|| "mono0".to_owned()),
        cgroup_root: flags.cgroup_root.clone().unwrap_or_else(|| "monoplane".to_owned()),
        // It decides nothing here: addresses are only given back.
        pod_cidr: pod_cidr.unwrap_or_else(|_| "10.42.0.0/24".to_owned()),
    }))
}

/// Removes the tree of cgroups below `root`, and it, in every hierarchy; what somebody else's processes are in stays.
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
    match std::fs::remove_dir(group) {
        Err(error)
            if !matches!(error.kind(), std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::NotFound) =>
        {
            Err(error).with_context(|| format!("removing {}", group.display()))
        }
        _ => Ok(()),
    }
}
