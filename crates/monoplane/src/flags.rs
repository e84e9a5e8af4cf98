//! The command line: the one place where flags are named.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::ranges;

mod cluster;
mod etcd;
mod part;
mod room;
mod scheduling;

pub use cluster::{Join, Overlay, PodRanges};
pub use etcd::Etcd;
pub use part::{Disabled, Part, Role};
pub use room::{Images, Room};
pub use scheduling::Scheduling;

/// One control plane for containers, WebAssembly components and durable functions, behind the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "monoplane", version, about, long_about = None, max_term_width = 110, after_help = START)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Which log lines to print, as in `info` or `warn,gateway=debug`
    #[arg(long, global = true, env = "MONOPLANE_LOG", default_value = "warn", value_name = "FILTER")]
    pub log: String,
    /// Kubeconfig for apply, get, logs and delete [default: that of the plane in the data directory]
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

const START: &str = "\
Start here:
  monoplane check          what this machine can and cannot do
  monoplane up             the whole plane on this machine, until Ctrl-C
  monoplane demo           a guided tour on a throw-away plane
  export KUBECONFIG=$(monoplane kubeconfig)   then kubectl just works";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole plane on this machine: server, node and edge, supervised
    Up(Box<Up>),
    /// Run the API server, the controllers and the scheduler
    Server(Server),
    /// Run the controllers alone, on the API that --kubeconfig leads to: upstream's, or a server with --disable controllers
    Controllers(Controllers),
    /// Run the scheduler alone, on the API that --kubeconfig leads to: upstream's, or a server with --disable scheduler
    Scheduler(Scheduler),
    /// Run the node agent: pods, their sandboxes and their network (needs root)
    Node(Node),
    /// Run the edge: the gateway, components and durable functions
    Edge(Edge),
    /// Say what this machine can and cannot do, and what is lost by it
    Check(Check),
    /// Say how the plane in a data directory is doing
    Status(AtDataDir),
    /// Print the path of the administrator's kubeconfig
    Kubeconfig(AtDataDir),
    /// Tokens by which machines join: make, list and delete them
    #[command(subcommand)]
    Token(crate::token::Token),
    /// Images of this machine's store: pull, push, save, load, list and remove them
    #[command(subcommand)]
    Image(crate::image::Image),
    /// End every container that runs here and remove what the node made: interfaces, mounts, cgroups
    Clean(Clean),
    /// Keys that Secrets are encrypted with at rest: list them, add one
    #[command(subcommand)]
    Encryption(crate::encryption::Encryption),
    /// Write the whole state to a file, while servers go on
    Backup(crate::backup::Backup),
    /// Fill a store from such a file
    Restore(crate::backup::Restore),
    /// Create or change objects from manifests
    Apply(cli::Apply),
    /// Show objects
    Get(cli::Get),
    /// Print a container's log
    Logs(cli::Logs),
    /// Delete objects
    Delete(cli::Delete),
    /// See the plane at work: deploy, break and watch it heal, on a throw-away plane
    Demo(Demo),
    /// Keep a pod's containers (started by the node, one a pod)
    #[command(hide = true)]
    Shim {
        /// Words for the shim itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
    /// Compile a component from standard input to standard output (started by the edge)
    #[command(hide = true)]
    CompileComponent {
        /// Words for the compiler itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
}

/// Where a plane keeps its state.
#[derive(Clone, Debug, Args)]
pub struct AtDataDir {
    /// Directory of the plane's state [default: /var/lib/monoplane, or ~/.local/share/monoplane when not root]
    #[arg(long, env = "MONOPLANE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `up`.
#[derive(Clone, Debug, Args)]
pub struct Up {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Address that the API and the gateway listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind_address: IpAddr,
    /// Port of the API (HTTPS); 0 takes any free one and writes it to <data-dir>/endpoints.json
    #[arg(long, default_value_t = 6443)]
    pub api_port: u16,
    /// Port of the gateway (HTTP); 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    pub http_port: u16,
    /// Port of the gateway (HTTPS); 0 takes any free one
    #[arg(long, default_value_t = 8443)]
    pub https_port: u16,
    /// Port of the kubelet (HTTPS); 0 takes any free one
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// What not to run here, separated by commas: roles, or parts of the server because upstream's own do their work. The server
    /// writes a kubeconfig for each such part into <data-dir>/server/credentials
    #[arg(long, value_delimiter = ',', value_name = "ROLE|PART")]
    pub disable: Vec<Disabled>,
    /// What the API server takes
    #[command(flatten)]
    pub api: Api,
    /// And of where its state is
    #[command(flatten)]
    pub etcd: Etcd,
    /// What the node takes
    #[command(flatten)]
    pub machine: Machine,
    /// What the edge takes
    #[command(flatten)]
    pub outbound: Outbound,
    /// What the edge takes, for clients' connections
    #[command(flatten)]
    pub inbound: Inbound,
}

/// Flags of the API server that `up` passes on.
#[derive(Clone, Debug, Default, Args)]
pub struct Api {
    /// File of static bearer tokens, a line each: token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Address under which pods and nodes find the API [default: the one that it listens on; with `up` on a loopback
    /// address the pods' gateway]
    #[arg(long, value_name = "ADDRESS")]
    pub advertise_address: Option<IpAddr>,
    /// Further names or addresses that the API's certificate is valid for
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// Addresses that Services get; with a range of IPv6 behind a comma they may have such as well, which takes pods that do
    #[arg(long, default_value = "10.43.0.0/16", value_name = "CIDR[,CIDR]", value_parser = service_cidr)]
    pub service_cidr: String,
    /// And pods
    #[command(flatten)]
    pub pods: PodRanges,
    /// How long a node may be silent before it counts as unreachable
    #[arg(long, default_value = "50s", value_name = "TIME", value_parser = time)]
    pub node_monitor_grace_period: Duration,
    /// Hosts or CIDRs (with an optional :port) at which webhooks, the servers of APIServices and what requests are proxied to may
    /// be although they are loopback, link-local or this machine's own
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub webhook_allow: Vec<String>,
    /// How pods are placed
    #[command(flatten)]
    pub scheduling: Scheduling,
    /// Do not mark the IngressClass `monoplane` as the default one when it is created
    #[arg(long)]
    pub no_default_ingress_class: bool,
    /// Do not mark the StorageClass `local` as the default one when it is created
    #[arg(long)]
    pub no_default_storage_class: bool,
    /// Where the keys are
    #[command(flatten)]
    pub keys: crate::encryption::KeysFile,
}

/// Flags of the node that `up` passes on.
#[derive(Clone, Debug, Args)]
pub struct Machine {
    /// Name of this machine's Node object [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Addresses that this machine's pods get; with a range of IPv6 behind a comma, one of each. The machine then passes
    /// packets of IPv6 on, and so no longer configures itself by routers' advertisements [default: with `up` the first part
    /// of --cluster-cidr; else what its Node object is given]
    #[arg(long, value_name = "CIDR[,CIDR]", value_parser = pod_cidr)]
    pub pod_cidr: Option<String>,
    /// How pods reach those of other machines
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    pub overlay: Overlay,
    /// Name of the interface that carries the pods' gateway address
    #[arg(long, default_value = "mono0", value_name = "NAME", value_parser = bridge)]
    pub bridge: String,
    /// Parent of all pods' cgroups, relative to the hierarchy's root
    #[arg(long, default_value = "monoplane", value_name = "NAME", value_parser = cgroup_root)]
    pub cgroup_root: String,
    /// Give containers that name no seccomp profile the runtime's default one
    #[arg(long)]
    pub seccomp_default: bool,
    /// Kernel settings beyond the safe ones that pods may ask for, by name or by beginning with '*' behind; of the network's and
    /// the IPC namespace only
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// What pods may have
    #[command(flatten)]
    pub room: Room,
    /// Mirrors, credentials and authorities of registries, in the shape of K3s's registries.yaml; registries that it names
    /// may be on this machine [default: <data-dir>/node/registries.yaml]
    #[arg(long, value_name = "FILE")]
    pub registries: Option<PathBuf>,
    /// What becomes of images
    #[command(flatten)]
    pub images: Images,
}

/// A length of time.
///
/// # Errors
/// When it is none.
pub fn time(text: &str) -> Result<Duration, String> {
    kubelet::duration(text).ok_or_else(|| format!("{text:?} is no time such as 5m or 1m30s"))
}

/// A path of plain names below the hierarchy's root: what is cleaned away later must be this plane's alone.
fn cgroup_root(text: &str) -> Result<String, String> {
    let fine = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && !matches!(part, "." | "..") && part.bytes().all(plain)
    };
    match text.split('/').all(fine) {
        true => Ok(text.to_owned()),
        false => {
            Err("a name, or names with slashes between, of letters, digits, '-', '_' and '.'".to_owned())
        }
    }
}

fn bridge(text: &str) -> Result<String, String> {
    network::check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn pod_cidr(text: &str) -> Result<String, String> {
    ranges::of_pods(text).map(|ranges| ranges.to_string())
}

fn cluster_cidr(text: &str) -> Result<String, String> {
    text.parse().map(|ranges: ranges::Ranges| ranges.to_string()).map_err(|error| error.to_string())
}

fn service_cidr(text: &str) -> Result<String, String> {
    ranges::of_services(text).map(|ranges| ranges.to_string())
}

/// Flags of the edge that `up` passes on.
#[derive(Clone, Debug, Default, Args)]
pub struct Outbound {
    /// Hosts or CIDRs (with an optional :port) that components and their stores may reach although they are loopback,
    /// link-local or the plane's own
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub egress_allow: Vec<String>,
    /// Networks that components and their stores may not reach: other nodes', and what else is the plane's own. This
    /// machine's own addresses, the API's and those of Services are refused without being named
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub egress_refuse: Vec<String>,
    /// The most that Components may ask for in spec.limits, as FIELD=VALUE [default: memory=1Gi, requestBody=64Mi,
    /// wallTime=15m, concurrency=10000]
    #[arg(long, value_name = "FIELD=VALUE", value_delimiter = ',')]
    pub component_max: Vec<String>,
    /// Let Components name files of this machine as their source (spec.source.path). For development: whoever may write a
    /// Component can then have any file read that the edge can
    #[arg(long)]
    pub allow_files: bool,
}

/// Flags of the edge that `up` passes on, for clients' connections.
#[derive(Clone, Debug, Default, Args)]
pub struct Inbound {
    /// Addresses or names by which clients reach the gateway, for the status of Ingresses [default: the address that it
    /// listens on, or this machine's]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub publish_address: Vec<String>,
    /// Networks of proxies in front of the gateway, whose X-Forwarded headers are passed on; those of others are dropped
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<String>,
    /// Certificate chain (PEM) for names that no Ingress has one for [default: one that nobody trusts]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// The largest body of a request to a Service
    #[arg(long, value_name = "QUANTITY", default_value = "1Gi")]
    pub max_request_body: String,
    /// Where the edge answers Prometheus at /metrics (HTTP) [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_bind_address: Option<SocketAddr>,
}

/// Flags of `server`.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Address to listen on (a socket passed by a supervisor is used instead)
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind_address: IpAddr,
    /// Port to listen on (HTTPS)
    #[arg(long, default_value_t = 6443)]
    pub api_port: u16,
    /// Nodes and edges that get a kubeconfig under <data-dir>/server/credentials, as node=NAME or edge=NAME
    #[arg(long, value_name = "ROLE=NAME", value_delimiter = ',')]
    pub issue_for: Vec<String>,
    /// Parts not to run, separated by commas, because upstream's own do their work: a kubeconfig for each is written into
    /// <data-dir>/server/credentials
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub disable: Vec<Part>,
    /// The rest
    #[command(flatten)]
    pub api: Api,
    /// And of where its state is
    #[command(flatten)]
    pub etcd: Etcd,
    /// End when this process, the parent, does
    #[arg(long, hide = true, value_name = "PID")]
    pub supervised: Option<u32>,
}

/// Flags of `node`.
#[derive(Clone, Debug, Args)]
pub struct Node {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Kubeconfig with the node's own identity [default: <data-dir>/node/kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub node_kubeconfig: Option<PathBuf>,
    /// Kubeconfig of the proxy of Services [default: <data-dir>/node/proxy.kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub proxy_kubeconfig: Option<PathBuf>,
    /// Addresses that Services get, as the API server was told
    #[arg(long, default_value = "10.43.0.0/16", value_name = "CIDR[,CIDR]", value_parser = service_cidr)]
    pub service_cidr: String,
    /// How it joins a plane, where it was issued no kubeconfigs
    #[command(flatten)]
    pub join: Join,
    /// Address that the kubelet listens on [default: every one where it joins a plane, else 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub bind_address: Option<IpAddr>,
    /// Address by which others reach the node [default: the one that it listens on; the one by which it reaches the server
    /// where it joins a plane]
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Option<IpAddr>,
    /// Port that the kubelet listens on (HTTPS)
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// The rest
    #[command(flatten)]
    pub machine: Machine,
    /// End when this process, the parent, does
    #[arg(long, hide = true, value_name = "PID")]
    pub supervised: Option<u32>,
}

/// Flags of `edge`.
#[derive(Clone, Debug, Args)]
pub struct Edge {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Kubeconfig with the edge's own identity [default: <data-dir>/edge/kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub edge_kubeconfig: Option<PathBuf>,
    /// How it joins a plane, where it was issued no kubeconfig. Beside it a node has to run that has joined: by that it reaches pods
    #[command(flatten)]
    pub join: Join,
    /// Addresses that Services get, as the API server was told: components may not reach them
    #[arg(long, default_value = "10.43.0.0/16", value_name = "CIDR[,CIDR]", value_parser = service_cidr)]
    pub service_cidr: String,
    /// Address to listen on (a socket passed by a supervisor is used instead) [default: every one where it joins a plane, else
    /// 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub bind_address: Option<IpAddr>,
    /// Port to listen on (HTTP)
    #[arg(long, default_value_t = 8080)]
    pub http_port: u16,
    /// Port to listen on (HTTPS)
    #[arg(long, default_value_t = 8443)]
    pub https_port: u16,
    /// Name of this edge, as its certificate says it [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub edge_name: Option<String>,
    /// The rest
    #[command(flatten)]
    pub outbound: Outbound,
    /// And of clients' connections
    #[command(flatten)]
    pub inbound: Inbound,
    /// End when this process, the parent, does
    #[arg(long, hide = true, value_name = "PID")]
    pub supervised: Option<u32>,
}

/// Flags of `scheduler`, and of `controllers` among others.
#[derive(Clone, Copy, Debug, Args)]
pub struct Apart {
    /// Work without the lease by which several that could do this work take turns: right only where there is no other
    #[arg(long)]
    pub no_leader_election: bool,
}

/// Flags of `scheduler`.
#[derive(Clone, Debug, Args)]
pub struct Scheduler {
    /// Taking turns
    #[command(flatten)]
    pub apart: Apart,
    /// How pods are placed
    #[command(flatten)]
    pub scheduling: Scheduling,
}

/// Flags of `controllers`.
#[derive(Clone, Debug, Args)]
pub struct Controllers {
    /// Taking turns
    #[command(flatten)]
    pub apart: Apart,
    /// Give each node that has none a part of --cluster-cidr
    #[arg(long)]
    pub allocate_node_cidrs: bool,
    /// Of what
    #[command(flatten)]
    pub pods: PodRanges,
    /// Certificates (PEM) by which programs in pods know the API, published in each namespace [default: not published]
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
    /// Directory of the authority that signs certificates for those who ask, as <data-dir>/server/pki [default: nobody signs]
    #[arg(long, value_name = "DIR")]
    pub signing_pki: Option<PathBuf>,
    /// Key (PEM) that signs the tokens kept in Secrets: the one of the API server's --service-account-signing-key-file [default:
    /// such Secrets get no token]
    #[arg(long, value_name = "FILE")]
    pub service_account_private_key_file: Option<PathBuf>,
    /// Print the ClusterRole and the binding that the controllers need and upstream's API server does not have, for
    /// `kubectl apply -f -`, and end
    #[arg(long)]
    pub print_rbac: bool,
}

/// Flags of `check`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Check {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Leave the plane running at the end
    #[arg(long)]
    pub keep: bool,
}

/// Flags of `clean`.
#[derive(Clone, Debug, Args)]
pub struct Clean {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Name of the bridge, where the data directory does not tell it any more
    #[arg(long, value_name = "NAME", value_parser = bridge)]
    pub bridge: Option<String>,
    /// Parent of all cgroups, where the data directory does not tell it any more
    #[arg(long, value_name = "NAME", value_parser = cgroup_root)]
    pub cgroup_root: Option<String>,
    /// Remove the data directory as well: every object, key, journal and image
    #[arg(long)]
    pub all: bool,
    /// Wait until standard input ends, then end the plane's processes first (started by the demo, to clean up after it
    /// however it ends)
    #[arg(long, hide = true)]
    pub after_stdin: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_reach_beyond_the_plane_are_refused() {
        let up =
            |flag: &str, value: &str| Arguments::try_parse_from(["monoplane", "up", flag, value]).is_ok();
        for (flag, good, bad) in [
            (
                "--cgroup-root",
                &["monoplane", "a/b.c"][..],
                &["", "/", "/a", "a//b", "..", "a/../b", "a b"][..],
            ),
            ("--bridge", &["mono0"], &["", "..", "a/b", "longer-than-the-kernel-takes"]),
            ("--pod-cidr", &["10.1.0.0/16", "10.1.0.0/16,fd00::/64"], &["", "10.1.0.0", "all", "fd00::/64"]),
            (
                "--service-cidr",
                &["10.1.0.0/16", "10.1.0.0/16,fd00::/112"],
                &["", "10.1.0.0", "10.1.0.0/16,fd00::/48"],
            ),
        ] {
            good.iter().for_each(|value| assert!(up(flag, value), "{flag} {value:?}"));
            bad.iter().for_each(|value| assert!(!up(flag, value), "{flag} {value:?}"));
        }
    }
}
