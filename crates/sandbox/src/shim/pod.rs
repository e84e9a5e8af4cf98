//! Turning a process into a pod: namespaces of its own, host name, kernel settings, shared memory.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runtime::{NamespaceMode, SandboxConfig, UserNamespace};

use super::pause::Pause;
use super::user_namespace;
use crate::cgroup::Tree;
use crate::files::{self, SandboxFiles, ShimConfig, ShimProcess};
use crate::process;

/// The shim itself is the last that the kernel should kill for memory.
const OOM_SCORE: &str = "-999";

/// The namespaces of a pod that containers do not simply inherit from the shim. The pod lasts as long as this value.
pub(crate) struct Namespaces {
    /// The shared process namespace, where there is one.
    pub(crate) pause: Option<Pause>,
    /// The user namespace, where it is not the machine's.
    pub(crate) user: Option<OwnedFd>,
    /// The mount namespace of the machine.
    pub(crate) machine: OwnedFd,
}

/// Makes the calling process a pod.
pub(crate) fn become_pod(files: &SandboxFiles, shim: &ShimConfig, tree: &Tree) -> Result<Namespaces, String> {
    let config = &shim.config;
    tree.enter_leaf(&shim.own_group).map_err(|error| format!("control group {}: {error}", shim.own_group))?;
    // Refused where root lacks SYS_RESOURCE; the pod is none the worse for it until memory ends.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| format!("subreaper: {error}"))?;
    // A shim's name in ps, beside the program's.
    let _ = nix::sys::prctl::set_name(c"monoplane-shim");
    let mut flags = CloneFlags::empty();
    for (mode, flag) in [
        (config.network, CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS),
        (config.ipc, CloneFlags::CLONE_NEWIPC),
    ] {
        if mode != NamespaceMode::Node {
            flags |= flag;
        }
    }
    let user = match config.user_namespace {
        Some(ids) => Some(user_namespace::make(ids, flags)?),
        None => unshare(flags).map(|()| None).map_err(|error| format!("namespaces: {error}"))?,
    };
    let machine = fs::File::open("/proc/self/ns/mnt").map_err(|error| format!("mount namespace: {error}"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("mount namespace: {error}"))?;
    // Mounts of the machine still come and go here; none of ours shows there.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|error| format!("mount propagation: {error}"))?;
    if config.ipc != NamespaceMode::Node {
        mount_shm(&files.shm(), config.user_namespace)?;
    }
    if config.network != NamespaceMode::Node && !config.hostname.is_empty() {
        nix::unistd::sethostname(&config.hostname).map_err(|error| format!("host name: {error}"))?;
    }
    match &user {
        // Some of them are for the namespace's root alone.
        Some(namespace) if !config.sysctls.is_empty() => {
            user_namespace::as_root(namespace, || set_kernel_settings(config))?;
        }
        _ => set_kernel_settings(config)?,
    }
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let start_ticks = process::start_ticks(pid).ok().flatten().ok_or("/proc is not mounted")?;
    let boot_id = process::boot_id().map_err(|error| format!("boot id: {error}"))?;
    let pause = match config.pid {
        NamespaceMode::Pod => Some(Pause::start(user.as_ref())?),
        NamespaceMode::Container | NamespaceMode::Node => None,
    };
    let pause_pid = pause.as_ref().map_or(0, |pause| pause.pid.as_raw());
    let process = ShimProcess { pid, start_ticks, boot_id, pause_pid };
    files::write_record(&files.shim_process(), &process).map_err(|error| error.to_string())?;
    Ok(Namespaces { pause, user, machine: machine.into() })
}

fn mount_shm(path: &Path, ids: Option<UserNamespace>) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("shared memory: {error}"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let root = ids.map_or(0, |ids| ids.base);
    let options = format!("mode=1777,size=65536k,uid={root},gid={root}");
    mount(Some("shm"), path, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|error| format!("shared memory: {error}"))
}

/// Kernel settings that belong to the pod's namespaces; others would be the machine's.
fn set_kernel_settings(config: &SandboxConfig) -> Result<(), String> {
    for (name, value) in &config.sysctls {
        check_setting(name, config)?;
        let path = Path::new("/proc/sys").join(setting_path(name));
        fs::write(&path, value).map_err(|error| format!("sysctl {name}: {error}"))?;
    }
    Ok(())
}

/// A slash in a part of the name stands for a dot of it, which an interface's may have.
fn setting_path(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect()
}

fn check_setting(name: &str, config: &SandboxConfig) -> Result<(), String> {
    let clean = name.split('.').all(|part| {
        part.bytes().any(|b| b.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/'))
    });
    let ipc = name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|all| name.starts_with(all));
    let own = (name.starts_with("net.") && config.network != NamespaceMode::Node)
        || (ipc && config.ipc != NamespaceMode::Node);
    match clean && own {
        true => Ok(()),
        false => Err(format!("sysctl {name}: not a setting of the pod's own namespaces")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_own_namespaces_pass() {
        let pod = SandboxConfig::default();
        let host = SandboxConfig { network: NamespaceMode::Node, ..SandboxConfig::default() };
        assert!(check_setting("net.ipv4.ip_unprivileged_port_start", &pod).is_ok());
        assert!(check_setting("kernel.shmmax", &pod).is_ok());
        assert!(check_setting("net.core.somaxconn", &host).is_err());
        assert!(check_setting("net.ipv4.conf.eth0/1.forwarding", &pod).is_ok());
        assert_eq!(setting_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        for name in ["kernel.core_pattern", "vm.swappiness", "net..x", "net./../../etc", "net.//.x", ""] {
            assert!(check_setting(name, &pod).is_err(), "{name}");
        }
    }
}
