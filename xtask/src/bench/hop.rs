//! What a Service costs on a packet's way: from pod to pod directly, by way of the Service's address, and the same with
//! policies in force, in turns in one run. Pods are network namespaces on a network of their own, which ends with the run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use network::policies::{Filter, Isolation, Peers, Policies, Policy, Ports, Rule};
use network::services::{Balancer, Frontend, Masquerade, Pool, Protocol, Services, Target};
use network::{Config, Network};

use super::wrk::{Found, Load};
use super::{Table, rule};
use crate::tools;

const PORT: u16 = 8080;
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 214, 0, 10), 80);
/// What a Service may cost, of either figure.
const LIMIT: f64 = 0.05;
/// Rounds of each way: what else the machine does in the meantime hits all alike.
const ROUNDS: u32 = 3;
const LARGE: usize = 10 << 20;

/// A process that ends with this value.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// A pod: a network namespace that a process keeps.
struct Pod(Ends);

impl Pod {
    fn new() -> Result<Self> {
        let mut child = Command::new("unshare");
        child.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
        let pod = Self(Ends(child.spawn().context("unshare")?));
        // Until it has its own, the path leads to ours.
        let own = std::fs::read_link("/proc/self/ns/net")?;
        harness::eventually("the namespace is there", || {
            std::fs::read_link(pod.path()).ok().filter(|theirs| *theirs != own)
        });
        Ok(pod)
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.0.id()).into()
    }
}

/// The comparison, on a machine that has no network yet ([`super::apart`]).
///
/// # Errors
/// When a program cannot be installed, a server cannot be started, or a Service costs more than it may.
pub fn measure(seconds: u32) -> Result<()> {
    tools::debian_program("nginx", "nginx-light")?;
    let work = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (client, server) = (Pod::new()?, Pod::new()?);
    let (network, address) = runtime.block_on(attach(work.path(), &client, &server))?;
    let _nginx = serve(work.path(), &server)?;
    let mut balancer = Balancer::new("hop", vec![(IpAddr::from([10, 213, 0, 0]), 24)]);
    balancer.apply(&service(address))?;
    let mut filter = Filter::new("hop");

    let (direct, by_service) = (format!("{address}"), format!("{}:{}", SERVICE.0, SERVICE.1));
    let ways = [
        ("from pod to pod", &direct, false),
        ("by way of a Service", &by_service, false),
        ("and with policies", &by_service, true),
    ];
    let mut costs = Vec::new();
    for (title, size, connections) in
        [("requests of 1 byte, wrk -t1 -c32", 1, 32), ("files of 10 MiB, wrk -t1 -c4", LARGE, 4)]
    {
        let mut best: BTreeMap<usize, Found> = BTreeMap::new();
        for (way, (_, host, judged)) in (0..ROUNDS).flat_map(|_| ways.iter().enumerate()) {
            filter.apply(&if *judged { policies(address) } else { Policies::default() })?;
            let url = format!("http://{host}/{size}");
            let load = Load {
                url,
                threads: 1,
                connections,
                seconds,
                inside: Some(client.path()),
                ..Load::default()
            };
            let found = load.run()?;
            let known = best.entry(way).or_insert_with(|| found.clone());
            if found.rate > known.rate {
                *known = found;
            }
        }
        let mut table = Table::new(title);
        let limit = best.get(&0).map(|found| found.rate).context("no figure")?;
        for (way, (name, ..)) in ways.iter().enumerate() {
            let found = best.get(&way).context("no figure")?;
            table.row(name, found, (way > 0).then_some(("of the direct way", limit)));
        }
        costs.extend(best.get(&1).map(|found| 1.0 - found.rate / limit));
        table.print();
        rule();
    }
    runtime.block_on(network.teardown())?;
    for cost in costs {
        ensure!(cost < LIMIT, "a Service costs {:.1} %, and may cost {:.0}", cost * 100.0, LIMIT * 100.0);
    }
    Ok(())
}

async fn attach(work: &Path, client: &Pod, server: &Pod) -> Result<(Network, SocketAddr)> {
    let network = Network::open(Config {
        bridge: "hop".to_owned(),
        owner: "bench".to_owned(),
        subnet: "10.213.0.0/24".parse()?,
        subnet6: None,
        services6: None,
        state_dir: work.join("network"),
        masquerade: true,
        services: Some("10.214.0.0/24".parse()?),
    })
    .await?;
    network.attach("client", &client.path()).await?;
    let address = network.attach("server", &server.path()).await?;
    Ok((network, SocketAddr::new(*address.first().context("an address")?, PORT)))
}

fn service(endpoint: SocketAddr) -> Services {
    let mut services = Services::default();
    let pool = Pool { endpoints: BTreeSet::from([endpoint]), affinity: None };
    services.pools.insert("web".to_owned(), pool);
    let frontend = Frontend { address: SERVICE.0.into(), protocol: Protocol::Tcp, port: SERVICE.1 };
    services.frontends.insert(frontend, Target::new("web", Masquerade::Outsiders));
    services
}

/// The server is isolated, and its client allowed.
fn policies(server: SocketAddr) -> Policies {
    let peers = Peers { pods: BTreeSet::from([IpAddr::from([10, 213, 0, 2])]), ..Peers::default() };
    let rule = Rule { peers: Some(peers), ports: Some(vec![Ports::Range(Protocol::Tcp, PORT, PORT)]) };
    let policy = Policy { ingress: vec![rule], egress: Vec::new() };
    let isolation = Isolation { ingress: BTreeSet::from(["web".to_owned()]), egress: BTreeSet::new() };
    Policies { policies: [("web".to_owned(), policy)].into(), pods: [(server.ip(), isolation)].into() }
}

/// nginx in a pod, with files of both sizes.
fn serve(work: &Path, pod: &Pod) -> Result<Ends> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(work, std::fs::Permissions::from_mode(0o755))?;
    let at = |name: &str| work.join(name).display().to_string();
    for size in [1, LARGE] {
        std::fs::write(work.join(size.to_string()), vec![b'x'; size])?;
    }
    let configuration = format!(
        "user root; worker_processes 1; daemon off; pid {pid}; error_log {errors};\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000;\n\
         open_file_cache max=100; client_body_temp_path {body}; proxy_temp_path {body};\n\
         fastcgi_temp_path {body}; uwsgi_temp_path {body}; scgi_temp_path {body};\n\
         server {{ listen {PORT}; root {root}; }} }}\n",
        pid = at("pid"),
        errors = at("errors"),
        body = at("body"),
        root = work.display(),
    );
    std::fs::write(work.join("nginx.conf"), configuration)?;
    let mut nginx = Command::new("nsenter");
    nginx.arg(format!("--net={}", pod.path().display())).args(["nginx", "-c"]).arg(work.join("nginx.conf"));
    let nginx = nginx.arg("-p").arg(work).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Ends(nginx.spawn().context("starting nginx")?);
    harness::eventually("nginx listens", || {
        std::fs::read_to_string(work.join("pid")).ok().filter(|text| !text.trim().is_empty())
    });
    Ok(running)
}
