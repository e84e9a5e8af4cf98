//! From the pod's words to the runtime's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use api::k8s::api::core::v1::{Container, Pod, PodSpec, Volume, VolumeMount};
use runtime::{
    ContainerConfig, ContainerMetadata, DnsConfig, Mount, MountPropagation, NamespaceMode, SandboxConfig,
    SandboxMetadata,
};

use super::admission;
use super::host_name;
use super::security::{self, Defaults};
use crate::cgroups;
use crate::environment::{Unresolved, expand};
use crate::resources;

/// Annotation of a run: what of its spec cannot change under it.
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
const DEFAULT_GRACE: u64 = 30;
pub(crate) const TERMINATION_LOG: &str = "/dev/termination-log";

/// Where in a node's data directory volumes and the like are.
pub(crate) const PODS: &str = "pods";

/// Where a node keeps what belongs to pods.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Volumes and the like, one directory a pod UID.
    pub(crate) pods: PathBuf,
    /// Logs, one directory a pod.
    pub(crate) logs: PathBuf,
}

impl Paths {
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    pub(crate) fn volumes(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("volumes")
    }

    pub(crate) fn volume(&self, uid: &str, name: &str) -> PathBuf {
        self.volumes(uid).join(name)
    }

    /// Its presence: the volume has been made.
    pub(crate) fn volume_marker(&self, uid: &str, name: &str) -> PathBuf {
        self.pod(uid).join("made").join(name)
    }

    pub(crate) fn hosts(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// What the pod has been given of the node.
    pub(crate) fn allocation(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("allocation.json")
    }

    /// The termination message of one run.
    pub(crate) fn message(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("containers").join(container).join(attempt.to_string())
    }

    /// Upstream's name for a pod's log directory.
    pub(crate) fn log(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.logs.join(format!("{namespace}_{name}_{uid}"))
    }
}

/// What pods' name resolution is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of the cluster's DNS; none: pods use the node's resolver.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain (`cluster.local`).
    pub domain: String,
    /// The node's own `resolv.conf`, as text.
    pub host: String,
}

/// Whether the pod lives on the node's own network.
pub(crate) fn on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// `Always` where nothing is said.
pub(crate) fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// How long the pod's containers have to end.
pub(crate) fn grace_seconds(pod: &Pod) -> u64 {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    seconds.map_or(DEFAULT_GRACE, |seconds| u64::try_from(seconds).unwrap_or(0))
}

/// What of a container may change in a pod that exists: a run with another one is replaced.
pub(crate) fn hash(container: &Container) -> String {
    // FNV-1a: nothing depends on it being hard to forge.
    let text = format!("{}\0{}", container.name, container.image.as_deref().unwrap_or_default());
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:x}")
}

/// `name_namespace(uid)`, as upstream's messages name pods.
pub(crate) fn full_name(pod: &Pod) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

fn identity(pod: &Pod) -> (String, String, String) {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    (text(&pod.metadata.name), text(&pod.metadata.namespace), text(&pod.metadata.uid))
}

fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let (name, namespace, uid) = identity(pod);
    [(POD_NAME, name), (POD_NAMESPACE, namespace), (POD_UID, uid)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// The sandbox that a pod asks for.
///
/// # Errors
/// When the pod's name cannot be what the pod wants it to be.
pub(crate) fn sandbox(
    pod: &Pod,
    attempt: u32,
    paths: &Paths,
    dns: &Dns,
    node: &str,
    cgroup: &str,
) -> Result<SandboxConfig, String> {
    let (name, namespace, uid) = identity(pod);
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let mode = |host: Option<bool>| if host == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => NamespaceMode::Node,
        (_, Some(true)) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    let sysctls = spec.security_context.iter().flat_map(|security| security.sysctls.iter().flatten());
    let sysctls = sysctls.map(|sysctl| (admission::dotted(&sysctl.name), sysctl.value.clone()));
    let hostname = match spec.host_network {
        Some(true) => node.to_owned(),
        _ => host_name::in_kernel(spec, &name, &namespace, &dns.domain)?,
    };
    Ok(SandboxConfig {
        hostname,
        log_directory: paths.log(&namespace, &name, &uid),
        dns: resolver(spec, &namespace, dns),
        labels: pod.metadata.labels.clone().unwrap_or_default().into_iter().chain(labels(pod)).collect(),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        cgroup_parent: cgroups::of_pod(cgroup, pod),
        resources: resources::of_pod(pod),
        network: mode(spec.host_network),
        pid,
        ipc: mode(spec.host_ipc),
        // Where the pod wants one, its ids are claimed when the sandbox is made.
        user_namespace: None,
        // So does who makes the sandbox: annotations could be anybody's.
        static_pod: false,
        // The worker knows it.
        handler: String::new(),
        sysctls: sysctls.collect(),
        metadata: SandboxMetadata { name, namespace, uid, attempt },
    })
}

/// A pod's `resolv.conf`, by its DNS policy.
fn resolver(spec: &PodSpec, namespace: &str, dns: &Dns) -> DnsConfig {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let cluster = match policy {
        "None" => None,
        "ClusterFirstWithHostNet" => Some(true),
        "ClusterFirst" => Some(!host_network),
        _ => Some(false),
    };
    let mut config = match cluster {
        None => DnsConfig::default(),
        Some(true) if !dns.servers.is_empty() => {
            let searches = [
                format!("{namespace}.svc.{}", dns.domain),
                format!("svc.{}", dns.domain),
                dns.domain.clone(),
            ];
            DnsConfig {
                servers: dns.servers.iter().map(IpAddr::to_string).collect(),
                searches: searches.into_iter().chain(host_resolver(&dns.host).searches).collect(),
                options: vec!["ndots:5".to_owned()],
            }
        }
        Some(_) => host_resolver(&dns.host),
    };
    if let Some(custom) = &spec.dns_config {
        config.servers.extend(custom.nameservers.iter().flatten().cloned());
        config.searches.extend(custom.searches.iter().flatten().cloned());
        for option in custom.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            // The pod's word replaces one of the same name.
            config.options.retain(|known| known.split(':').next() != Some(name));
            config.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    config
}

fn host_resolver(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

/// The pod's `/etc/hosts`.
pub(crate) fn hosts(pod: &Pod, host_file: &str, dns: &Dns, ips: &[IpAddr]) -> String {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut text = if spec.host_network == Some(true) {
        host_file.to_owned()
    } else {
        let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
        let name = host_name::short(spec, pod_name);
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let names = match host_name::qualified(spec, pod_name, namespace, &dns.domain) {
            Some(qualified) => format!("{qualified}	{name}"),
            None => name,
        };
        for ip in ips {
            text.push_str(&format!("{ip}\t{names}\n"));
        }
        text
    };
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// A part of a volume that is mounted instead of the whole. What is in a volume is a container's to arrange, so where the
/// path leads is looked up when the container is made, and never out of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubPath {
    /// Which of the configuration's mounts.
    pub(crate) mount: usize,
    /// The volume.
    pub(crate) root: PathBuf,
    /// The part.
    pub(crate) path: PathBuf,
}

/// One run of a container, and the parts of volumes that it mounts. `environment` is complete, `node_memory` in bytes.
pub(crate) fn container(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    paths: &Paths,
    defaults: &Defaults,
    environment: Vec<(String, String)>,
    node_memory: i64,
) -> Result<(ContainerConfig, Vec<SubPath>), Unresolved> {
    let value =
        |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let words = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, value)).collect()
    };
    let name = container.name.clone();
    let mut labels = labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), name.clone());
    let (mounts, sub_paths) = mounts(pod, container, attempt, paths, value)?;
    let config = ContainerConfig {
        image: container.image.clone().unwrap_or_default(),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        labels,
        annotations: [(HASH.to_owned(), hash(container))].into(),
        log_path: Path::new(&name).join(format!("{attempt}.log")),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        resources: resources::of_container(pod, container, node_memory),
        security: security::of(pod, container, defaults).map_err(Unresolved)?,
        stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
        pid_target: None,
        ports: ports(container),
        envs: environment,
        metadata: ContainerMetadata { name, attempt },
    };
    Ok((config, sub_paths))
}

/// The TCP ports that it says it listens on.
fn ports(container: &Container) -> Vec<u16> {
    let ports = container.ports.iter().flatten();
    let tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    tcp.filter_map(|port| u16::try_from(port.container_port).ok()).collect()
}

fn mounts(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    paths: &Paths,
    value: impl Fn(&str) -> Option<String> + Copy,
) -> Result<(Vec<Mount>, Vec<SubPath>), Unresolved> {
    let (_, _, uid) = identity(pod);
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let (mut mounts, mut sub_paths) = (Vec::new(), Vec::new());
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| Unresolved(format!("no volume named {:?}", mount.name)))?;
        let sub_path = sub_path(mount, value)?;
        let mut made = volume_mount(volume, mount, &uid, paths);
        if let Some(path) = sub_path.as_ref().filter(|_| volume.image.is_some()) {
            // Nothing is ever made in an image, nor moved: the runtime finds it or does not.
            made.sub_path.clone_from(path);
        } else if let Some(path) = sub_path {
            sub_paths.push(SubPath { mount: mounts.len(), root: made.host_path.clone(), path });
        }
        mounts.push(made);
    }
    let mut add = |path: &str, host: PathBuf| {
        if !mounts.iter().any(|mount| mount.container_path == path) {
            mounts.push(Mount { container_path: path.to_owned(), host_path: host, ..Mount::default() });
        }
    };
    add("/etc/hosts", paths.hosts(&uid));
    let message = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    add(message.unwrap_or(TERMINATION_LOG), paths.message(&uid, &container.name, attempt));
    Ok((mounts, sub_paths))
}

fn sub_path(
    mount: &VolumeMount,
    value: impl Fn(&str) -> Option<String>,
) -> Result<Option<PathBuf>, Unresolved> {
    let path = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(expression), _) if !expression.is_empty() => expand(expression, value),
        (_, Some(path)) if !path.is_empty() => path.clone(),
        _ => return Ok(None),
    };
    let inside =
        Path::new(&path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if inside {
        return Ok(Some(PathBuf::from(path)));
    }
    Err(Unresolved(format!("subPath {path:?} must be a relative path without '..'")))
}

fn volume_mount(volume: &Volume, mount: &VolumeMount, uid: &str, paths: &Paths) -> Mount {
    if let Some(image) = &volume.image {
        return Mount {
            container_path: absolute(&mount.mount_path),
            image: image.reference.clone().unwrap_or_default(),
            readonly: true,
            ..Mount::default()
        };
    }
    let root = match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => paths.volume(uid, &volume.name),
    };
    let generated = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    let is_lent = volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true));
    Mount {
        container_path: absolute(&mount.mount_path),
        host_path: root,
        readonly: generated || is_lent || mount.read_only == Some(true),
        // Where it is only wished for, too: this runtime can always do it.
        recursive_readonly: matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::HostToContainer,
            Some("Bidirectional") => MountPropagation::Bidirectional,
            _ => MountPropagation::Private,
        },
        ..Mount::default()
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn paths() -> Paths {
        Paths { pods: "/data/pods".into(), logs: "/data/logs".into() }
    }

    #[test]
    fn name_resolution_by_policy() {
        let dns = Dns {
            servers: vec!["10.0.0.10".parse().unwrap()],
            domain: "c.l".into(),
            host: "nameserver 1.1.1.1\nsearch home\noptions edns0\n".into(),
        };
        let check = |spec: serde_json::Value, expected: &str| {
            let found = resolver(pod(spec).spec.as_ref().unwrap(), "n", &dns);
            let words =
                [found.servers.join(","), found.searches.join(","), found.options.join(",")].join(" ");
            assert_eq!(words, expected);
        };
        let cluster = "10.0.0.10 n.svc.c.l,svc.c.l,c.l,home ndots:5";
        check(json!({"containers": []}), cluster);
        check(json!({"containers": [], "dnsPolicy": "Default"}), "1.1.1.1 home edns0");
        check(json!({"containers": [], "hostNetwork": true}), "1.1.1.1 home edns0");
        check(
            json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            cluster,
        );
        let own = json!({"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]});
        check(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own}), "9.9.9.9  ndots:2");
        check(
            json!({"containers": [], "dnsConfig": own}),
            "10.0.0.10,9.9.9.9 n.svc.c.l,svc.c.l,c.l,home ndots:2",
        );
    }

    #[test]
    fn sandboxes_share_what_the_pod_says() {
        let check = |spec: serde_json::Value, expected| {
            let config = sandbox(&pod(spec), 0, &paths(), &Dns::default(), "node", "plane").unwrap();
            assert_eq!((config.hostname.as_str(), config.network, config.pid, config.ipc), expected);
            assert_eq!(config.cgroup_parent, "plane/besteffort/podu");
        };
        let (own, each, node) = (NamespaceMode::Pod, NamespaceMode::Container, NamespaceMode::Node);
        check(json!({"containers": []}), ("p", own, each, own));
        check(
            json!({"containers": [], "shareProcessNamespace": true, "hostname": "h"}),
            ("h", own, own, own),
        );
        let host = json!({"containers": [], "hostNetwork": true, "hostPID": true, "hostIPC": true});
        check(host, ("node", node, node, node));
    }

    #[test]
    fn a_sub_path_stays_inside() {
        let mount_of = |sub_path: &str| {
            let pod = pod(json!({
                "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "m", "subPath": sub_path}]}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }));
            let spec = pod.spec.as_ref().unwrap();
            mounts(&pod, &spec.containers[0], 3, &paths(), |_| None)
        };
        let (mounts, sub_paths) = mount_of("a/b").unwrap();
        let root = PathBuf::from("/data/pods/u/volumes/v");
        assert_eq!(sub_paths, [SubPath { mount: 0, root, path: "a/b".into() }]);
        assert_eq!((mounts[0].container_path.as_str(), mounts.len()), ("/m", 3));
        assert_eq!(mounts[2].host_path, Path::new("/data/pods/u/containers/c/3"));
        for out in ["../x", "/etc", "a/../../x"] {
            assert!(mount_of(out).is_err(), "{out}");
        }
    }

    #[test]
    fn an_image_is_mounted_by_the_runtime_and_never_written() {
        let pod = pod(json!({
            "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "a"}]}],
            "volumes": [{"name": "v", "image": {"reference": "data:1"}}],
        }));
        let spec = pod.spec.as_ref().unwrap();
        let (mounts, sub_paths) = mounts(&pod, &spec.containers[0], 0, &paths(), |_| None).unwrap();
        assert!(sub_paths.is_empty());
        let expected = Mount {
            container_path: "/m".into(),
            image: "data:1".into(),
            sub_path: "a".into(),
            readonly: true,
            ..Mount::default()
        };
        assert_eq!(mounts[0], expected);
    }
}
