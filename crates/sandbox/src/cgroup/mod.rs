//! Control groups of pods: made, limited, read, emptied and removed. Both the v1 hierarchies and the unified one.
//!
//! A container's own group is made in `container`; this is about the pod's above it, and about what comes after: usage,
//! memory kills, the certain end of all that runs in a group.

mod container;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::Resources;

/// The controllers whose hierarchies groups are made in: those that limit or tell something, and the one that Java's runtime
/// looks for before it heeds the others.
const USED: [&str; 6] = ["cpu", "cpuacct", "cpuset", "devices", "memory", "pids"];
/// How often a group is killed again before it counts as immortal.
const ATTEMPTS: u32 = 50;

/// The machine's control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    /// One directory tree a controller (the hybrid layout too: its v2 tree has no controllers).
    V1(BTreeMap<String, PathBuf>),
    /// One tree for all.
    V2(PathBuf),
}

/// What a group has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_nanoseconds: u64,
    pub(crate) memory_working_set: u64,
    pub(crate) pids: u64,
}

impl Tree {
    /// Finds the trees where they are mounted.
    pub(crate) fn detect() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Self::from_mountinfo(&mounts)
            .ok_or_else(|| io::Error::new(ErrorKind::Unsupported, "no control groups are mounted"))
    }

    fn from_mountinfo(text: &str) -> Option<Self> {
        let mut v1 = BTreeMap::new();
        let mut v2 = None;
        for line in text.lines() {
            let (before, after) = line.split_once(" - ")?;
            let Some(point) = before.split(' ').nth(4) else { continue };
            let mut fields = after.split(' ');
            let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup") => {
                    const CONTROLLERS: [&str; 12] = [
                        "blkio",
                        "cpu",
                        "cpuacct",
                        "cpuset",
                        "devices",
                        "freezer",
                        "hugetlb",
                        "memory",
                        "net_cls",
                        "net_prio",
                        "perf_event",
                        "pids",
                    ];
                    for option in options.split(',').filter(|option| CONTROLLERS.contains(option)) {
                        v1.entry(option.to_owned()).or_insert_with(|| PathBuf::from(point));
                    }
                }
                Some("cgroup2") => v2 = v2.or(Some(PathBuf::from(point))),
                _ => {}
            }
        }
        match (v1.is_empty(), v2) {
            (false, _) => Some(Self::V1(v1)),
            (true, Some(root)) => Some(Self::V2(root)),
            (true, None) => None,
        }
    }

    /// Makes a group for processes, without limits.
    pub(crate) fn create_leaf(&self, group: &str) -> io::Result<()> {
        for directory in self.directories(group) {
            fs::create_dir_all(directory)?;
        }
        if let (Self::V2(root), Some((above, _))) = (self, group.trim_matches('/').rsplit_once('/')) {
            pass_on_controllers(root, above);
        }
        Ok(())
    }

    /// Makes a group for groups, and sets its limits. On v2 no process can be in it.
    pub(crate) fn create(&self, group: &str, resources: &Resources) -> io::Result<()> {
        for directory in self.directories(group) {
            fs::create_dir_all(directory)?;
        }
        if let Self::V2(root) = self {
            pass_on_controllers(root, group);
        }
        self.limit(group, resources)
    }

    /// Sets a group's limits: all that can be, and the first that cannot is the error.
    pub(crate) fn limit(&self, group: &str, resources: &Resources) -> io::Result<()> {
        let mut result = Ok(());
        for (controller, file, value) in self.settings(resources) {
            if let Some(directory) = self.directory(controller, group) {
                result = result.and(write_setting(&directory.join(file), &value));
            }
        }
        result
    }

    /// Changes the limits of a group that is in use. Memory that is in use is not taken away, which the kernel would do by
    /// killing.
    pub(crate) fn update(&self, group: &str, resources: &Resources) -> io::Result<()> {
        let rest = Resources { memory_limit: None, ..resources.clone() };
        let memory = match resources.memory_limit.filter(|limit| *limit > 0) {
            Some(limit) => self.update_memory(group, limit),
            None => Ok(()),
        };
        self.limit(group, &rest).and(memory)
    }

    fn update_memory(&self, group: &str, limit: i64) -> io::Result<()> {
        let used = self.usage(group)?.memory_working_set;
        if u64::try_from(limit).is_ok_and(|limit| limit < used) {
            let why = format!("the memory limit of {limit} bytes is below what is in use: {used}");
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        let only = Resources { memory_limit: Some(limit), ..Resources::default() };
        let with_swap = self.directory("memory", group).map(|d| d.join("memory.memsw.limit_in_bytes"));
        let Some(file) = with_swap.filter(|file| file.exists() && matches!(self, Self::V1(_))) else {
            return self.limit(group, &only);
        };
        // Of memory alone there may never be more than with swap: whichever is in the way moves first.
        let swap = |limit: i64| write_setting(&file, &limit.to_string());
        let known = number(&file)?;
        match u64::try_from(limit).is_ok_and(|limit| limit > known) {
            true => swap(limit).and_then(|()| self.limit(group, &only)),
            // Not limited so far.
            false if known > i64::MAX as u64 / 2 => self.limit(group, &only),
            false => self.limit(group, &only).and_then(|()| swap(limit)),
        }
    }

    /// Whether swap can be limited in a group.
    pub(crate) fn limits_swap(&self, group: &str) -> bool {
        let file = match self {
            Self::V1(_) => "memory.memsw.limit_in_bytes",
            Self::V2(_) => "memory.swap.max",
        };
        self.directory("memory", group).is_some_and(|directory| directory.join(file).exists())
    }

    /// Whether a container's group keeps it from devices that are not given to it. On v2 it is not made without.
    pub(crate) fn limits_devices(&self) -> bool {
        match self {
            Self::V1(controllers) => controllers.contains_key("devices"),
            Self::V2(_) => true,
        }
    }

    /// The files that carry limits: controller, file, value.
    fn settings(&self, resources: &Resources) -> Vec<(&'static str, &'static str, String)> {
        let mut settings = Vec::new();
        let period = resources.cpu_period.unwrap_or(100_000);
        let limited = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
        match self {
            Self::V1(_) => {
                settings.extend(resources.cpu_shares.map(|n| ("cpu", "cpu.shares", n.to_string())));
                if let Some(quota) = limited(resources.cpu_quota) {
                    settings.push(("cpu", "cpu.cfs_period_us", period.to_string()));
                    settings.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
                }
                settings.extend(
                    limited(resources.memory_limit)
                        .map(|n| ("memory", "memory.limit_in_bytes", n.to_string())),
                );
            }
            Self::V2(_) => {
                settings.extend(resources.cpu_shares.map(|n| ("cpu", "cpu.weight", weight(n).to_string())));
                if let Some(quota) = limited(resources.cpu_quota) {
                    settings.push(("cpu", "cpu.max", format!("{quota} {period}")));
                }
                settings
                    .extend(limited(resources.memory_limit).map(|n| ("memory", "memory.max", n.to_string())));
            }
        }
        settings.extend(limited(resources.pids_limit).map(|n| ("pids", "pids.max", n.to_string())));
        settings
    }

    /// Moves a process into a group.
    pub(crate) fn enter(&self, group: &str, pid: Pid) -> io::Result<()> {
        self.write_into(group, "cgroup.procs", &pid.to_string())
    }

    /// Moves the calling process, which has one thread, into a group.
    pub(crate) fn enter_self(&self, group: &str) -> io::Result<()> {
        self.write_into(group, self.own_entry(), "0")
    }

    /// The same of a group for processes, which is made if it is not there.
    pub(crate) fn enter_leaf(&self, group: &str) -> io::Result<()> {
        match self.enter_self(group) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.create_leaf(group).and_then(|()| self.enter_self(group))
            }
            other => other,
        }
    }

    /// The file by which a process of one thread moves itself, with a nought. On v1 that is the threads' own: a whole process
    /// is moved under a lock of all processes of the machine, which takes milliseconds where nobody else has just held it.
    fn own_entry(&self) -> &'static str {
        match self {
            Self::V1(_) => "tasks",
            Self::V2(_) => "cgroup.procs",
        }
    }

    fn write_into(&self, group: &str, file: &str, text: &str) -> io::Result<()> {
        let entered = self.directories(group).into_iter().map(|directory| {
            let written = File::options().write(true).open(directory.join(file));
            let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
            // A cpuset without processors takes nobody; we set none.
            written.or_else(|error| if directory.join("cpuset.cpus").exists() { Ok(()) } else { Err(error) })
        });
        entered.collect()
    }

    /// How often a process of the group, or of one below, was killed for want of memory.
    pub(crate) fn memory_kills(&self, group: &str) -> u64 {
        let file = match self {
            Self::V1(_) => "memory.oom_control",
            Self::V2(_) => "memory.events",
        };
        self.directory("memory", group)
            .and_then(|directory| keyed(&directory.join(file), "oom_kill"))
            .unwrap_or(0)
    }

    /// What the group has used.
    pub(crate) fn usage(&self, group: &str) -> io::Result<Usage> {
        let missing = || io::Error::new(ErrorKind::NotFound, format!("no control group {group}"));
        let memory = self.directory("memory", group).ok_or_else(missing)?;
        let cpu = |controller: &str| self.directory(controller, group).ok_or_else(missing);
        let (cpu, used, inactive) = match self {
            Self::V1(_) => (
                number(&cpu("cpuacct")?.join("cpuacct.usage"))?,
                number(&memory.join("memory.usage_in_bytes"))?,
                keyed(&memory.join("memory.stat"), "total_inactive_file"),
            ),
            Self::V2(_) => (
                keyed(&cpu("cpu")?.join("cpu.stat"), "usage_usec").unwrap_or(0).saturating_mul(1000),
                number(&memory.join("memory.current"))?,
                keyed(&memory.join("memory.stat"), "inactive_file"),
            ),
        };
        Ok(Usage {
            cpu_nanoseconds: cpu,
            memory_working_set: used.saturating_sub(inactive.unwrap_or(0)),
            pids: self.pids(group).len() as u64,
        })
    }

    /// The processes of a group and of those below it.
    pub(crate) fn pids(&self, group: &str) -> Vec<Pid> {
        let mut found = std::collections::BTreeSet::new();
        // A process may have left some hierarchies and not others.
        let mut todo = self.directories(group);
        while let Some(directory) = todo.pop() {
            let pids = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(pids.lines().filter_map(|pid| pid.parse().ok()).filter(|pid: &i32| *pid > 0));
            todo.extend(subdirectories(&directory));
        }
        found.into_iter().map(Pid::from_raw).collect()
    }

    /// Asks the kernel to end everything in a group; what forks meanwhile is found by the next round.
    pub(crate) fn kill_once(&self, group: &str) -> bool {
        if let Self::V2(root) = self {
            let _ = fs::write(relative(root, group).join("cgroup.kill"), "1");
        }
        let pids = self.pids(group);
        for pid in &pids {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        !pids.is_empty()
    }

    /// Ends everything in a group and waits for it. True when nothing is left.
    pub(crate) fn kill(&self, group: &str) -> bool {
        for attempt in 0..ATTEMPTS {
            if !self.kill_once(group) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt).min(20) + 1));
        }
        false
    }

    /// Removes a group and those below it. What still holds processes stays, and is the error.
    pub(crate) fn remove(&self, group: &str) -> io::Result<()> {
        let mut result = Ok(());
        for directory in self.all_directories(group) {
            result = result.and(remove_tree(&directory, 0));
        }
        result
    }

    /// Removes a group if nothing is in or below it.
    pub(crate) fn remove_if_empty(&self, group: &str) {
        for directory in self.all_directories(group) {
            let _ = fs::remove_dir(directory);
        }
    }

    fn directory(&self, controller: &str, group: &str) -> Option<PathBuf> {
        match self {
            Self::V1(controllers) => controllers.get(controller).map(|root| relative(root, group)),
            Self::V2(root) => Some(relative(root, group)),
        }
    }

    fn directories(&self, group: &str) -> Vec<PathBuf> {
        self.directories_of(group, |controller| USED.contains(&controller))
    }

    /// Also those of hierarchies that an earlier release made groups in.
    fn all_directories(&self, group: &str) -> Vec<PathBuf> {
        self.directories_of(group, |_| true)
    }

    fn directories_of(&self, group: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        match self {
            Self::V1(controllers) => {
                let wanted = controllers.iter().filter(|(controller, _)| wanted(controller));
                // `cpu` and `cpuacct` are often one hierarchy.
                let mut roots: Vec<_> = wanted.map(|(_, root)| relative(root, group)).collect();
                roots.sort();
                roots.dedup();
                roots
            }
            Self::V2(root) => vec![relative(root, group)],
        }
    }
}

/// A v1 weight (2 to 262144, 1024 where nothing is said) as a v2 one (1 to 10000, 100): the curve through the three
/// pairs that runc uses.
fn weight(shares: u64) -> u64 {
    let shares = u32::try_from(shares.clamp(2, 262_144)).map_or(18.0, |shares| f64::from(shares).log2());
    let exponent = (shares * shares + 125.0 * shares) / 612.0 - 7.0 / 34.0;
    // From 1 to 10000, whatever the rounding: the cast keeps all of it.
    10f64.powf(exponent).ceil().clamp(1.0, 10_000.0) as u64
}

/// On v2 a group has the controllers that all groups above it pass on. One that the machine lacks shows when its limit
/// is to be set.
fn pass_on_controllers(root: &Path, group: &str) {
    let mut path = root.to_owned();
    let parts = group.split('/').filter(|part| !part.is_empty());
    for part in std::iter::once("").chain(parts) {
        if !part.is_empty() {
            path.push(part);
        }
        for controller in ["+cpu", "+memory", "+pids"] {
            let _ = fs::write(path.join("cgroup.subtree_control"), controller);
        }
    }
}

fn write_setting(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot write {value} to {}: {error}", path.display()))
    })
}

fn relative(root: &Path, group: &str) -> PathBuf {
    root.join(group.trim_start_matches('/'))
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(directory: &Path, depth: u8) -> io::Result<()> {
    if depth > 16 {
        return Err(io::Error::other("control groups are nested too deeply"));
    }
    for below in subdirectories(directory) {
        remove_tree(&below, depth + 1)?;
    }
    let mut last = Ok(());
    for wait in 0..20 {
        last = match fs::remove_dir(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => return Ok(()),
        };
        // A process that was reaped just now may still be counted for a moment.
        std::thread::sleep(Duration::from_millis(wait));
    }
    last.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))
}

fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("{}: {text}", path.display())))
}

/// The value of a line `key value`.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    fn unified(root: &Path) -> Tree {
        Tree::V2(root.to_owned())
    }

    #[test]
    fn layouts_are_told_apart() {
        let Some(Tree::V1(found)) = Tree::from_mountinfo(HYBRID) else { panic!("hybrid is v1") };
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["cpu", "cpuacct", "memory"]);
        let unified = "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(Tree::from_mountinfo(unified), Some(Tree::V2("/sys/fs/cgroup".into())));
        assert_eq!(Tree::from_mountinfo(""), None);
    }

    #[test]
    fn groups_are_made_where_something_is_limited_and_removed_everywhere() {
        let directory = tempfile::tempdir().unwrap();
        let at = |controller: &str| (controller.to_owned(), directory.path().join(controller));
        let tree = Tree::V1([at("cpu"), at("memory"), at("freezer")].into());
        tree.create_leaf("g").unwrap();
        assert!(directory.path().join("memory/g").exists() && !directory.path().join("freezer/g").exists());
        fs::create_dir_all(directory.path().join("freezer/g")).unwrap();
        tree.remove_if_empty("g");
        assert!(
            ["cpu/g", "memory/g", "freezer/g"].iter().all(|group| !directory.path().join(group).exists())
        );
    }

    #[test]
    fn limits_are_written_in_the_words_of_each_layout() {
        let resources = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_period: None,
            memory_limit: Some(1 << 20),
            pids_limit: Some(7),
            oom_score_adj: 0,
        };
        let directory = tempfile::tempdir().unwrap();
        unified(directory.path()).create("a/b", &resources).unwrap();
        let read = |file: &str| fs::read_to_string(directory.path().join("a/b").join(file)).unwrap();
        assert_eq!(read("cpu.weight"), "100");
        assert_eq!([2, 512, 262_144].map(weight), [1, 59, 10_000]);
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "7");
        assert!(directory.path().join("a/cgroup.subtree_control").exists());
        // A group that passes controllers on takes no processes.
        unified(directory.path()).create_leaf("c/d").unwrap();
        assert!(directory.path().join("c/cgroup.subtree_control").exists());
        assert!(!directory.path().join("c/d/cgroup.subtree_control").exists());
        let v1 = Tree::V1([("cpu".to_owned(), PathBuf::from("/x"))].into());
        let settings = v1.settings(&resources);
        assert!(settings.contains(&("cpu", "cpu.shares", "1024".into())));
        assert!(settings.contains(&("cpu", "cpu.cfs_quota_us", "50000".into())));
        assert!(settings.contains(&("memory", "memory.limit_in_bytes", "1048576".into())));
    }

    #[test]
    fn unified_figures_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let group = directory.path().join("g");
        fs::create_dir(&group).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 12\nuser_usec 9\n"),
            ("memory.current", "5000\n"),
            ("memory.stat", "anon 1\ninactive_file 2000\n"),
            ("memory.events", "low 0\noom 1\noom_kill 3\noom_group_kill 9\n"),
            ("cgroup.procs", "41\n42\n"),
        ] {
            fs::write(group.join(file), text).unwrap();
        }
        let tree = unified(directory.path());
        let usage = Usage { cpu_nanoseconds: 12_000, memory_working_set: 3000, pids: 2 };
        assert_eq!(tree.usage("/g").unwrap(), usage);
        assert_eq!(tree.memory_kills("g"), 3);
    }
}
