//! The OCI configuration of a container, from what CRI asks and what the image says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use container::Device;
use images::ImageConfiguration;
use runtime::{ContainerConfig, Error, MountPropagation, NamespaceMode, SandboxConfig};
use serde_json::{Value, json};

use crate::cgroup::Tree;
use crate::{apparmor, devices};

/// What a container searches for programs if its image says nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Parts of /proc and /sys that tell of the machine, or steer it; upstream's lists.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Beside them, how hot each processor has been, from which can be told what others do.
const PROCESSORS: &str = "/sys/devices/system/cpu";
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// All that a configuration is made of.
pub(crate) struct Input<'a> {
    pub(crate) container: &'a ContainerConfig,
    pub(crate) sandbox: &'a SandboxConfig,
    pub(crate) image: &'a ImageConfiguration,
    /// The container's control group, absolute in the hierarchy.
    pub(crate) group: String,
    /// Where each of the container's mounts is found.
    pub(crate) sources: &'a [PathBuf],
    /// The sandbox's files by the path they take in the container, unless a mount takes it.
    pub(crate) files: Vec<(&'static str, PathBuf)>,
    /// The pod's shared memory; `None`: the machine's.
    pub(crate) shm: Option<&'a Path>,
    /// The pod's process namespace, where its containers share one.
    pub(crate) pid_namespace: Option<PathBuf>,
    /// Whether the pod has a user namespace, of which the shim says where it is.
    pub(crate) user_namespace: bool,
    /// The machine's control groups.
    pub(crate) tree: &'a Tree,
    /// Devices that it has besides what every container has.
    pub(crate) devices: Vec<Device>,
    /// What the container may do beyond an ordinary user, with `CAP_`.
    pub(crate) capabilities: &'a [String],
}

/// Builds the configuration. The user is filled in by the shim, which sees the image's files.
pub(crate) fn build(input: &Input<'_>) -> Result<Value, Error> {
    let (container, security) = (input.container, &input.container.security);
    let args = arguments(container, input.image)?;
    let capabilities = input.capabilities;
    let open = security.privileged || security.unmasked_proc;
    let image = image_config(input.image);
    let cwd = match (container.working_dir.as_str(), image.working_dir().as_deref()) {
        ("", None | Some("")) => "/",
        ("", Some(image)) => image,
        (asked, _) => asked,
    };
    if !cwd.starts_with('/') {
        return Err(Error::Invalid(format!("workingDir: {cwd:?} is not absolute")));
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": security.readonly_rootfs },
        "process": {
            "terminal": container.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": environment(container, input.image, &input.sandbox.hostname),
            "cwd": cwd,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                "inheritable": [], "ambient": [],
            },
            "noNewPrivileges": security.no_new_privs,
            "apparmorProfile": apparmor::profile(security)?,
            "oomScoreAdj": container.resources.oom_score_adj.clamp(-1000, 1000),
        },
        "mounts": mounts(input)?,
        "linux": {
            "cgroupsPath": input.group,
            "namespaces": namespaces(input),
            "devices": input.devices,
            "resources": resources(input),
            "maskedPaths": if open { vec![] } else { masked() },
            "readonlyPaths": if open { json!([]) } else { json!(READONLY) },
        },
    }))
}

fn masked() -> Vec<String> {
    let processors = std::fs::read_dir(PROCESSORS).into_iter().flatten().flatten();
    let throttles = processors.map(|entry| entry.path().join("thermal_throttle"));
    let throttles = throttles.filter(|path| path.exists()).map(|path| path.display().to_string());
    MASKED.into_iter().map(str::to_owned).chain(throttles).collect()
}

fn image_config(image: &ImageConfiguration) -> oci_spec::image::Config {
    image.config().clone().unwrap_or_default()
}

/// CRI's rule: a command replaces the entry point and drops the image's arguments; arguments replace arguments.
fn arguments(container: &ContainerConfig, image: &ImageConfiguration) -> Result<Vec<String>, Error> {
    let config = image_config(image);
    let mut args = container.command.clone();
    if args.is_empty() {
        args = config.entrypoint().clone().unwrap_or_default();
        if container.args.is_empty() {
            args.extend(config.cmd().clone().unwrap_or_default());
        }
    }
    args.extend(container.args.iter().cloned());
    match args.is_empty() {
        true => Err(Error::Invalid("no command specified, and the image has none".to_owned())),
        false => Ok(args),
    }
}

/// The image's variables, then the host name, then the container's; a later one replaces an earlier.
fn environment(container: &ContainerConfig, image: &ImageConfiguration, hostname: &str) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let image = image_config(image).env().clone().unwrap_or_default();
    let image = std::iter::once(PATH.to_owned()).chain(image);
    let terminal = container.tty.then(|| ("TERM".to_owned(), "xterm".to_owned()));
    let pairs = image
        .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .chain(terminal)
        .chain((!hostname.is_empty()).then(|| ("HOSTNAME".to_owned(), hostname.to_owned())))
        .chain(container.envs.iter().cloned());
    for (name, value) in pairs {
        if values.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    }
    order.into_iter().map(|name| format!("{name}={}", values.get(&name).map_or("", String::as_str))).collect()
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn mounts(input: &Input<'_>) -> Result<Vec<Value>, Error> {
    let privileged = input.container.security.privileged;
    let system = if privileged { "rw" } else { "ro" };
    // A device node in a volume is for privileged containers only, in mounts below it too.
    let devices = if privileged { "dev" } else { "rnodev" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", system]),
    ];
    mounts.extend(group_mounts(input, system));
    let count = mounts.len();
    let shm = input.shm.unwrap_or(Path::new("/dev/shm")).to_string_lossy().into_owned();
    mounts.push(mount("/dev/shm", "bind", &shm, &["rbind", "nosuid", "noexec", "nodev"]));
    let taken = |path: &str| input.container.mounts.iter().any(|mount| mount.container_path == path);
    for (path, source) in &input.files {
        if !taken(path) {
            let options = ["rbind", "rprivate", "rw", devices];
            mounts.push(mount(path, "bind", &source.to_string_lossy(), &options));
        }
    }
    for (volume, source) in input.container.mounts.iter().zip(input.sources) {
        if !volume.container_path.starts_with('/') || volume.container_path.contains("..") {
            let path = &volume.container_path;
            return Err(Error::Invalid(format!(
                "mounts: container path {path:?} must be absolute, without \"..\""
            )));
        }
        let propagation = match volume.propagation {
            MountPropagation::Private => "rprivate",
            MountPropagation::HostToContainer => "rslave",
            // What the pod's own root mounts has its ids, which the machine has not asked for.
            MountPropagation::Bidirectional if input.user_namespace => {
                let why = "mount propagation Bidirectional in a pod with a user namespace";
                return Err(Error::Unsupported(why.to_owned()));
            }
            MountPropagation::Bidirectional => "rshared",
        };
        let access = match (volume.readonly, volume.recursive_readonly) {
            (_, true) => "rro",
            (true, false) => "ro",
            (false, false) => "rw",
        };
        let mut options = vec!["rbind", propagation, access, devices];
        if !volume.image.is_empty() {
            options = vec!["rbind", "rprivate", "ro", "nosuid", "noexec", "nodev"];
        }
        mounts.push(mount(&volume.container_path, "bind", &source.to_string_lossy(), &options));
    }
    // A mount over a directory would hide mounts made below it before.
    let (system, rest) = mounts.split_at(count);
    let mut rest = rest.to_vec();
    rest.sort_by_key(|mount| mount["destination"].as_str().map_or(0, |path| path.matches('/').count()));
    Ok([system, &rest].concat())
}

/// The container's control groups, where programs look for their limits.
fn group_mounts(input: &Input<'_>, access: &str) -> Vec<Value> {
    let controllers = match input.tree {
        Tree::V2(_) => {
            let options = ["nosuid", "noexec", "nodev", "relatime", access];
            return vec![mount("/sys/fs/cgroup", "cgroup", "cgroup", &options)];
        }
        Tree::V1(controllers) => controllers,
    };
    // Of the dozen hierarchies, those that programs read.
    let mut mounts =
        vec![mount("/sys/fs/cgroup", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=755"])];
    for controller in ["cpu", "cpuacct", "cpuset", "memory", "pids"] {
        if let Some(root) = controllers.get(controller) {
            let source = root.join(input.group.trim_start_matches('/'));
            let options = ["bind", "nosuid", "noexec", "nodev", access];
            let at = format!("/sys/fs/cgroup/{controller}");
            mounts.push(mount(&at, "bind", &source.to_string_lossy(), &options));
        }
    }
    mounts
}

/// Network, IPC and UTS namespaces are the shim's, which the container's first process is born into.
fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let mut namespaces = vec![json!({ "type": "mount" })];
    if input.user_namespace {
        // Without a path it would be a new one.
        namespaces.push(json!({ "type": "user", "path": "/proc/self/ns/user" }));
    }
    match (&input.pid_namespace, input.sandbox.pid) {
        (Some(path), _) => namespaces.push(json!({ "type": "pid", "path": path })),
        (None, NamespaceMode::Node) => {}
        (None, _) => namespaces.push(json!({ "type": "pid" })),
    }
    if matches!(input.tree, Tree::V2(_)) {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    namespaces
}

fn resources(input: &Input<'_>) -> Value {
    let (resources, security) = (&input.container.resources, &input.container.security);
    let mut found = json!({ "devices": devices(security.privileged) });
    if matches!(input.tree, Tree::V2(_)) {
        // One process of a container killed for memory and the others left is a state nobody planned for; it is the pod's
        // or the node's limit that is met, where the container has none.
        found["unified"] = json!({ "memory.oom.group": "1" });
    }
    let limited = |limit: Option<i64>| limit.filter(|limit| *limit > 0);
    if let Some(limit) = limited(resources.memory_limit) {
        // No swap, where it can be counted: a limit that swap evades is none.
        let swap = input.tree.limits_swap(&input.sandbox.cgroup_parent);
        match input.tree {
            Tree::V1(_) if swap => found["memory"] = json!({ "limit": limit, "swap": limit }),
            Tree::V1(_) => found["memory"] = json!({ "limit": limit }),
            Tree::V2(_) => {
                found["memory"] = json!({ "limit": limit });
                if swap {
                    found["unified"]["memory.swap.max"] = "0".into();
                }
            }
        }
    }
    if let Some(limit) = limited(resources.pids_limit) {
        found["pids"] = json!({ "limit": limit });
    }
    let mut cpu = serde_json::Map::new();
    cpu.extend(resources.cpu_shares.map(|shares| ("shares".to_owned(), json!(shares))));
    if let Some(quota) = limited(resources.cpu_quota) {
        cpu.insert("quota".to_owned(), json!(quota));
        cpu.insert("period".to_owned(), json!(resources.cpu_period.unwrap_or(100_000)));
    }
    if !cpu.is_empty() {
        found["cpu"] = cpu.into();
    }
    found
}

/// Device rules, for v1: nothing but the harmless ones that every program expects.
fn devices(privileged: bool) -> Value {
    if privileged {
        return json!([{ "allow": true, "type": "a", "access": "rwm" }]);
    }
    let mut rules = vec![json!({ "allow": false, "type": "a", "access": "rwm" })];
    for (major, minor) in devices::DEFAULT {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = minor.into();
        }
        rules.push(rule);
    }
    rules.into()
}

#[cfg(test)]
mod tests {
    use runtime::Resources;

    use super::*;

    fn image(config: Value) -> ImageConfiguration {
        let image = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        serde_json::from_value(image).unwrap()
    }

    fn built(container: &ContainerConfig, config: Value, unified: bool) -> Result<Value, Error> {
        let image = image(config);
        let root = std::path::PathBuf::from("/sys/fs/cgroup");
        let tree = match unified {
            true => Tree::V2(root),
            false => Tree::V1([("memory".to_owned(), root.join("memory"))].into()),
        };
        build(&Input {
            container,
            devices: Vec::new(),
            sandbox: &SandboxConfig { hostname: "pod".into(), ..SandboxConfig::default() },
            image: &image,
            group: "/a/b".into(),
            sources: &container.mounts.iter().map(|mount| mount.host_path.clone()).collect::<Vec<_>>(),
            files: vec![("/etc/hosts", "/s/hosts".into())],
            shm: Some(Path::new("/s/shm")),
            pid_namespace: None,
            tree: &tree,
            user_namespace: false,
            capabilities: &[],
        })
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn commands_and_arguments_merge_as_cri_says() {
        let config = json!({ "Entrypoint": ["e"], "Cmd": ["c"] });
        for (command, args, wanted) in [
            (&[][..], &[][..], &["e", "c"][..]),
            (&[], &["a"], &["e", "a"]),
            (&["x"], &[], &["x"]),
            (&["x"], &["a"], &["x", "a"]),
        ] {
            let container =
                ContainerConfig { command: words(command), args: words(args), ..ContainerConfig::default() };
            let spec = built(&container, config.clone(), false).unwrap();
            assert_eq!(spec["process"]["args"], json!(wanted));
        }
        let error = built(&ContainerConfig::default(), json!({}), false).unwrap_err();
        assert!(error.to_string().contains("no command"), "{error}");
    }

    #[test]
    fn a_later_variable_replaces_an_earlier() {
        let container = ContainerConfig {
            command: words(&["x"]),
            envs: vec![("B".into(), "3".into()), ("PATH".into(), "/p".into())],
            ..ContainerConfig::default()
        };
        let spec = built(&container, json!({ "Env": ["A=1", "B=2"] }), false).unwrap();
        assert_eq!(spec["process"]["env"], json!(["PATH=/p", "A=1", "B=3", "HOSTNAME=pod"]));
    }

    #[test]
    fn the_configuration_is_one_that_a_shim_reads() {
        let volume = |path: &str| runtime::Mount {
            container_path: path.into(),
            host_path: "/h".into(),
            ..runtime::Mount::default()
        };
        let container = ContainerConfig {
            command: words(&["x"]),
            mounts: vec![volume("/data/deep/er"), volume("/etc/hosts"), volume("/data")],
            resources: Resources {
                memory_limit: Some(1 << 20),
                pids_limit: Some(9),
                cpu_shares: Some(2),
                cpu_quota: Some(1000),
                ..Resources::default()
            },
            ..ContainerConfig::default()
        };
        for unified in [false, true] {
            let spec = built(&container, json!({}), unified).unwrap();
            let parsed: container::Configuration = serde_json::from_value(spec).unwrap();
            assert_eq!(parsed.process.args, ["x"]);
            let resources = parsed.linux.resources;
            assert_eq!((resources.memory.limit, resources.pids.limit), (Some(1 << 20), Some(9)));
            assert_eq!((resources.cpu.shares, resources.cpu.quota), (Some(2), Some(1000)));
            let devices = resources.devices.iter().map(container::DeviceRule::line).collect::<Vec<_>>();
            assert_eq!((devices[0].as_str(), devices[1].as_str()), ("a *:* rwm", "c 1:3 rwm"));
            assert!(!resources.devices[0].allow && resources.devices[1].allow);
            assert_eq!(resources.unified.contains_key("memory.oom.group"), unified);
            let mounts = parsed.mounts;
            let groups = mounts.iter().filter(|m| m.destination.starts_with("/sys/fs/cgroup")).count();
            assert_eq!(groups, if unified { 1 } else { 2 });
            let at = |path: &str| mounts.iter().position(|m| m.destination == Path::new(path)).unwrap();
            assert!(at("/data") < at("/data/deep/er"));
            assert_eq!(mounts[at("/etc/hosts")].source, Path::new("/h"));
            assert_eq!(mounts.iter().filter(|m| m.destination == Path::new("/etc/hosts")).count(), 1);
            assert!(mounts[at("/data")].has("rnodev") && mounts[at("/data")].has("rbind"));
        }
    }

    #[test]
    fn a_terminal_comes_with_a_name_of_its_kind() {
        let tty = ContainerConfig { tty: true, command: words(&["a"]), ..ContainerConfig::default() };
        let process = built(&tty, json!({}), false).unwrap()["process"].clone();
        assert_eq!(process["terminal"], true);
        assert!(process["env"].as_array().unwrap().contains(&"TERM=xterm".into()));
    }

    #[test]
    fn what_cannot_be_given_is_refused_by_name() {
        let bad = runtime::Mount { container_path: "/a/../b".into(), ..runtime::Mount::default() };
        let mount =
            ContainerConfig { mounts: vec![bad], command: words(&["x"]), ..ContainerConfig::default() };
        assert!(matches!(built(&mount, json!({}), false), Err(Error::Invalid(_))));
    }
}
