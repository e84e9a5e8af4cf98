//! `monoplane check`: what this machine can and cannot do, and what is lost by it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::say;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As wanted.
    Good,
    /// It works, with less.
    Less,
    /// Something does not work.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What is lost by it, and the way out. Empty when nothing is.
    pub lost: &'static str,
}

/// Looks at everything, and prints it.
///
/// # Errors
/// When nothing at all could run here.
pub fn run(json: bool) -> Result<()> {
    let findings = look();
    if json {
        say::line(serde_json::to_string_pretty(&findings)?);
    } else {
        print(&findings);
    }
    if findings.iter().any(|f| f.what == "architecture" && f.verdict == Verdict::Missing) {
        bail!("this processor is not supported");
    }
    Ok(())
}

fn print(findings: &[Finding]) {
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => "ok     ",
            Verdict::Less => "less   ",
            Verdict::Missing => "missing",
        };
        say::line(format!("{mark}  {:<16} {}", finding.what, finding.found));
        if !finding.lost.is_empty() {
            say::line(format!("{:<9}{:<16} -> {}", "", "", finding.lost));
        }
    }
    let containers = findings.iter().filter(|f| NEEDED_BY_CONTAINERS.contains(&f.what));
    let verdict = if containers.into_iter().all(|f| f.verdict != Verdict::Missing) {
        "Containers, components and durable functions run here."
    } else {
        "Components and durable functions run here; containers do not."
    };
    say::line(format!("\n{}", say::bold(verdict)));
}

const NEEDED_BY_CONTAINERS: [&str; 5] = ["privileges", "cgroups", "overlay", "network", "namespaces"];

/// Looks at everything.
pub fn look() -> Vec<Finding> {
    vec![
        architecture(),
        privileges(),
        cgroups(),
        namespaces(),
        overlay(),
        network(),
        tunnels(),
        memory(),
        address_space(),
        ports(),
    ]
}

fn finding(what: &'static str, verdict: Verdict, found: impl Into<String>, lost: &'static str) -> Finding {
    let lost = if verdict == Verdict::Good { "" } else { lost };
    Finding { what, verdict, found: found.into(), lost }
}

fn architecture() -> Finding {
    let uname = rustix::system::uname();
    let found = format!("{} on Linux {}", std::env::consts::ARCH, uname.release().to_string_lossy());
    let known = matches!(std::env::consts::ARCH, "x86_64" | "aarch64");
    finding(
        "architecture",
        if known { Verdict::Good } else { Verdict::Missing },
        found,
        "components cannot be compiled",
    )
}

fn privileges() -> Finding {
    let root = rustix::process::geteuid().is_root();
    let found =
        if root { "root".to_owned() } else { format!("user {}", rustix::process::geteuid().as_raw()) };
    let verdict = if root { Verdict::Good } else { Verdict::Missing };
    finding(
        "privileges",
        verdict,
        found,
        "no containers (the node role needs root): run as root, or use components",
    )
}

fn cgroups() -> Finding {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let lost = "containers cannot be limited: mount cgroup v2 on /sys/fs/cgroup";
    if let Ok(controllers) = controllers {
        let all =
            ["cpu", "memory", "pids"].iter().all(|c| controllers.split_whitespace().any(|has| has == *c));
        let verdict = if all { Verdict::Good } else { Verdict::Less };
        return finding("cgroups", verdict, format!("v2 ({})", controllers.trim()), lost);
    }
    let has = |c: &&str| Path::new("/sys/fs/cgroup").join(c).join("cgroup.procs").exists();
    match ["cpu", "memory", "pids"].iter().filter(|c| has(c)).count() {
        3 => finding("cgroups", Verdict::Good, "v1", ""),
        0 => finding("cgroups", Verdict::Missing, "none mounted", lost),
        _ => finding("cgroups", Verdict::Less, "v1, not all of cpu, memory and pids", lost),
    }
}

fn namespaces() -> Finding {
    let kinds = ["pid", "mnt", "net", "uts", "ipc", "user"];
    let missing: Vec<&str> =
        kinds.into_iter().filter(|k| !Path::new("/proc/self/ns").join(k).exists()).collect();
    match missing.as_slice() {
        [] => finding("namespaces", Verdict::Good, kinds.join(", "), ""),
        ["user"] => finding(
            "namespaces",
            Verdict::Less,
            "no user namespaces",
            "pods with hostUsers: false do not start",
        ),
        _ => finding(
            "namespaces",
            Verdict::Missing,
            format!("no {}", missing.join(", ")),
            "no containers: the kernel lacks namespaces",
        ),
    }
}

fn overlay() -> Finding {
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = filesystems.lines().any(|l| l.trim_start_matches("nodev").trim() == "overlay");
    let verdict = if known { Verdict::Good } else { Verdict::Missing };
    let found = if known { "in the kernel" } else { "not in the kernel" };
    finding("overlay", verdict, found, "no containers: `modprobe overlay`")
}

fn network() -> Finding {
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    if let Err(error) = ::network::probe() {
        let found = format!("nf_tables cannot be used: {error}");
        let lost = "no containers: run as root, on a kernel with nf_tables (`modprobe nf_tables`)";
        return finding("network", Verdict::Missing, found, lost);
    }
    match forwarding.trim() {
        "1" => finding("network", Verdict::Good, "nf_tables, forwarding on", ""),
        _ => finding("network", Verdict::Good, "nf_tables; forwarding is off and will be switched on", ""),
    }
}

fn tunnels() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let listed = |list: &str| {
        let list = std::fs::read_to_string(format!("/lib/modules/{release}/{list}")).unwrap_or_default();
        list.lines().any(|line| line.split(':').next().is_some_and(|module| module.contains("/wireguard.ko")))
    };
    if Path::new("/sys/module/wireguard").exists() || listed("modules.dep") || listed("modules.builtin") {
        return finding("tunnels", Verdict::Good, "WireGuard", "");
    }
    let lost = "what pods send to other machines is not encrypted (VXLAN): `modprobe wireguard`";
    finding("tunnels", Verdict::Less, "no WireGuard", lost)
}

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let available = kib("MemAvailable:").unwrap_or(0) / 1024;
    let verdict = if available >= 256 { Verdict::Good } else { Verdict::Less };
    finding(
        "memory",
        verdict,
        format!("{available} MiB available"),
        "little room: large components may fail to compile",
    )
}

fn address_space() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    match limit {
        None => finding("address space", Verdict::Good, "unlimited", ""),
        Some(bytes) => finding(
            "address space",
            Verdict::Less,
            format!("limited to {} MiB", bytes >> 20),
            "components start slower (no pooled memories): raise `ulimit -v`",
        ),
    }
}

fn ports() -> Finding {
    let taken: Vec<String> = [6443, 8080, 10250]
        .into_iter()
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err())
        .map(|port| port.to_string())
        .collect();
    if taken.is_empty() {
        return finding("ports", Verdict::Good, "6443, 8080 and 10250 are free", "");
    }
    let found = format!("{} in use", taken.join(", "));
    finding(
        "ports",
        Verdict::Less,
        found,
        "is a plane running already? otherwise choose with --api-port, --http-port, --kubelet-port",
    )
}
