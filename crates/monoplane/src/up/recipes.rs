//! How `up` starts each role: the flags an operator would give.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};

use super::child::Recipe;
use super::identity;
use crate::flags::{Disabled, Role, Up};
use crate::layout::{Layout, make_directory, write_file};

/// Threads and processes that the edge may have: its own few, and a compiler's.
const EDGE_PIDS: i64 = 1024;
/// The edge's weight against the server and the node when all want the processor: that of any ordinary process group.
const EDGE_CPU_SHARES: u64 = 1024;

/// Names of the node and the edge that run here.
pub struct Names {
    /// The Node object.
    pub node: String,
    /// The edge, in its identity.
    pub edge: String,
}

impl Names {
    /// As the flags say, or after the machine.
    pub fn of(flags: &Up) -> Self {
        let node = flags.machine.node_name.clone().unwrap_or_else(host_name);
        Self { edge: node.clone(), node }
    }
}

/// The machine's host name in the form that a Node object's name needs.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Whether this process has what the node role needs.
pub fn can_run_node() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes recipes from the flags of `up`.
pub struct Recipes<'a> {
    /// The flags.
    pub flags: &'a Up,
    /// Where the state lives.
    pub layout: &'a Layout,
    /// Log filter.
    pub log: &'a str,
    /// Who runs here.
    pub names: &'a Names,
}

impl Recipes<'_> {
    /// The API server, controllers and scheduler.
    pub fn server(&self, listener: TcpListener) -> Result<Recipe> {
        let port = listener.local_addr()?.port();
        let mut listeners = vec![listener];
        let api = &self.flags.api;
        let mut words = self.words();
        push(&mut words, "--bind-address", self.flags.bind_address.to_string());
        push(&mut words, "--api-port", port.to_string());
        push(&mut words, "--issue-for", format!("node={},edge={}", self.names.node, self.names.edge));
        push(&mut words, "--service-cidr", &api.service_cidr);
        for (flag, value) in api.pods.words() {
            push(&mut words, flag, value);
        }
        let grace = api.node_monitor_grace_period.as_millis();
        push(&mut words, "--node-monitor-grace-period", format!("{grace}ms"));
        let inside = self.pods_gateway();
        if let Some(gateway) = inside {
            listeners.push(bind_early((gateway, port).into())?);
        }
        if let Some(address) = api.advertise_address.or(inside.map(IpAddr::V4)) {
            push(&mut words, "--advertise-address", address.to_string());
        }
        if let Some(file) = &api.token_auth_file {
            let copy = copied("--token-auth-file", file, &self.layout.server(), "tokens.csv")?;
            push(&mut words, "--token-auth-file", copy);
        }
        if let Some(file) = &api.scheduling.scheduler_config {
            // What is wrong with it is better said once, here, than by a server that starts again and again.
            api.scheduling.config()?;
            let copy = copied("--scheduler-config", file, &self.layout.server(), "scheduler.yaml")?;
            push(&mut words, "--scheduler-config", copy);
        }
        let parts: Vec<_> = self.flags.disable.iter().filter_map(|disabled| disabled.part_word()).collect();
        if !parts.is_empty() {
            push(&mut words, "--disable", parts.join(","));
        }
        if api.no_default_ingress_class {
            words.push("--no-default-ingress-class".into());
        }
        if api.no_default_storage_class {
            words.push("--no-default-storage-class".into());
        }
        if !api.tls_san.is_empty() {
            push(&mut words, "--tls-san", api.tls_san.join(","));
        }
        if !api.webhook_allow.is_empty() {
            push(&mut words, "--webhook-allow", api.webhook_allow.join(","));
        }
        let server = self.layout.server();
        words.extend(self.flags.etcd.words(|flag, file, name| copied(flag, file, &server, name))?);
        let identity = self.own(&self.layout.server(), identity::SERVER)?;
        let keys = api.keys.prepare(identity)?;
        if let Some(barrier) = identity::barrier(&keys).filter(|_| identity.is_some()) {
            anyhow::bail!(
                "--encryption-keys {}: the server, which runs as an unprivileged user, cannot pass {}",
                keys.display(),
                barrier.display()
            );
        }
        push(&mut words, "--encryption-keys", keys);
        Ok(self.recipe("server", words, listeners, identity))
    }

    /// The node agent.
    pub fn node(&self) -> Result<Recipe> {
        let machine = &self.flags.machine;
        let mut words = self.words();
        push(&mut words, "--bind-address", self.flags.bind_address.to_string());
        push(&mut words, "--service-cidr", &self.flags.api.service_cidr);
        push(&mut words, "--kubelet-port", self.flags.kubelet_port.to_string());
        push(&mut words, "--node-name", &self.names.node);
        push(&mut words, "--pod-cidr", machine.pod_cidr.clone().unwrap_or_default());
        push(&mut words, "--overlay", machine.overlay.word());
        push(&mut words, "--bridge", &machine.bridge);
        push(&mut words, "--cgroup-root", &machine.cgroup_root);
        if machine.seccomp_default {
            words.push("--seccomp-default".into());
        }
        if !machine.allowed_unsafe_sysctls.is_empty() {
            push(&mut words, "--allowed-unsafe-sysctls", machine.allowed_unsafe_sysctls.join(","));
        }
        if let Some(directory) = &machine.room.pod_manifest_path {
            push(&mut words, "--pod-manifest-path", directory);
        }
        for (flag, value) in machine.room.words() {
            push(&mut words, flag, value);
        }
        if let Some(file) = &machine.registries {
            push(&mut words, "--registries", std::path::absolute(file)?);
        }
        words.extend(machine.images.words());
        Ok(self.recipe("node", words, Vec::new(), None))
    }

    /// The edge.
    pub fn edge(&self, listeners: [TcpListener; 2]) -> Result<Recipe> {
        let mut words = self.words();
        push(&mut words, "--edge-name", &self.names.edge);
        push(&mut words, "--bind-address", self.flags.bind_address.to_string());
        if !self.flags.outbound.egress_allow.is_empty() {
            push(&mut words, "--egress-allow", self.flags.outbound.egress_allow.join(","));
        }
        if !self.flags.outbound.component_max.is_empty() {
            push(&mut words, "--component-max", self.flags.outbound.component_max.join(","));
        }
        push(&mut words, "--service-cidr", &self.flags.api.service_cidr);
        if !self.flags.outbound.egress_refuse.is_empty() {
            push(&mut words, "--egress-refuse", self.flags.outbound.egress_refuse.join(","));
        }
        if self.flags.outbound.allow_files {
            words.push("--allow-files".into());
        }
        self.inbound(&mut words)?;
        let identity = self.own(&self.layout.edge(), identity::EDGE)?;
        let group = self.edge_group();
        Ok(Recipe { group, ..self.recipe("edge", words, listeners.into(), identity) })
    }

    /// What the edge is told of clients' connections.
    fn inbound(&self, words: &mut Vec<OsString>) -> Result<()> {
        let inbound = &self.flags.inbound;
        push(words, "--max-request-body", &inbound.max_request_body);
        if let Some(address) = inbound.metrics_bind_address {
            push(words, "--metrics-bind-address", address.to_string());
        }
        if !inbound.publish_address.is_empty() {
            push(words, "--publish-address", inbound.publish_address.join(","));
        }
        if !inbound.trusted_proxy.is_empty() {
            push(words, "--trusted-proxy", inbound.trusted_proxy.join(","));
        }
        let files = [
            ("--tls-certificate", &inbound.tls_certificate, "tls.crt"),
            ("--tls-key", &inbound.tls_key, "tls.key"),
        ];
        for (flag, file, name) in files {
            if let Some(file) = file {
                push(words, flag, copied(flag, file, &self.layout.edge(), name)?);
            }
        }
        Ok(())
    }

    /// The edge runs other people's code, so what it can use up is limited: the rest of the plane must stay well.
    fn edge_group(&self) -> Option<sandbox::Group> {
        if !can_run_node() {
            return None;
        }
        let limits = runtime::Resources {
            memory_limit: Some(kubelet::Machine::read().memory / 4 * 3),
            pids_limit: Some(EDGE_PIDS),
            cpu_shares: Some(EDGE_CPU_SHARES),
            ..runtime::Resources::default()
        };
        match sandbox::Group::create(&format!("{}/edge", self.flags.machine.cgroup_root), &limits) {
            Ok(group) => Some(group),
            Err(error) => {
                tracing::warn!(%error, "the edge runs without a control group of its own");
                None
            }
        }
    }

    /// Where pods of this machine reach an API that listens on a loopback address: their gateway is the machine's own.
    fn pods_gateway(&self) -> Option<Ipv4Addr> {
        let runs_pods = can_run_node() && !self.flags.disable.contains(&Disabled::Role(Role::Node));
        let pods =
            self.flags.machine.pod_cidr.as_ref().and_then(|cidr| cidr.parse::<crate::ranges::Ranges>().ok());
        pods.filter(|_| runs_pods && self.flags.bind_address.is_loopback()).map(|pods| pods.four.gateway())
    }

    fn words(&self) -> Vec<OsString> {
        vec!["--data-dir".into(), self.layout.root().into()]
    }

    /// Makes a role's own folder and says whom the role runs as.
    fn own(&self, folder: &Path, user: u32) -> Result<Option<u32>> {
        make_directory(folder, 0o700)?;
        if !identity::may_choose() {
            return Ok(None);
        }
        if let Some(barrier) = identity::barrier(folder) {
            tracing::warn!(
                directory = %barrier.display(),
                "an unprivileged user cannot pass this directory: the role runs as root (choose another --data-dir)"
            );
            identity::give(folder, 0)?;
            return Ok(None);
        }
        identity::give(folder, user)?;
        Ok(Some(user))
    }

    fn recipe(
        &self,
        role: &'static str,
        words: Vec<OsString>,
        listeners: Vec<TcpListener>,
        identity: Option<u32>,
    ) -> Recipe {
        Recipe { role, words, listeners, identity, group: None, log: self.log.to_owned() }
    }
}

/// Listens on an address that this machine will have once its node has made the pods' network.
fn bind_early(address: SocketAddr) -> Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    const BACKLOG: i32 = 1024;
    let attempt = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_freebind_v4(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    attempt().with_context(|| format!("listening on {address}, for pods"))
}

/// A copy in a role's own folder of a file that its user may not be able to read where it is.
fn copied(flag: &str, file: &Path, folder: &Path, name: &str) -> Result<OsString> {
    let bytes = std::fs::read(file).with_context(|| format!("{flag} {}", file.display()))?;
    make_directory(folder, 0o700)?;
    let copy = folder.join(name);
    write_file(&copy, &bytes, 0o600)?;
    Ok(copy.into())
}

fn push(words: &mut Vec<OsString>, flag: &str, value: impl Into<OsString>) {
    words.push(flag.into());
    words.push(value.into());
}
