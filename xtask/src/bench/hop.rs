//! What a Service costs on a packet's way: from pod to pod directly, by way of the Service's address, and the same with
//! policies in force, a second each in turns. A ratio is the median of those of each round: single runs differ by more
//! than a Service costs. Pods are network namespaces on a network of their own, which ends with the run.

use std::collections::BTreeSet;
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

/// Where the server listens, a port for each way: a connection of one way is never taken for a late one of another.
const PORTS: [u16; 3] = [8080, 8081, 8082];
/// The Service's address. Its ports are the server's.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 214, 0, 10);
/// What a Service may cost, in requests a second over connections that stay.
const LIMIT: f64 = 0.05;
const LARGE: usize = 10 << 20;

/// What is asked for by each way.
struct Work {
    title: &'static str,
    bytes: usize,
    connections: u32,
    /// Whether each request has a connection of its own.
    fresh: bool,
    /// Rounds for each second that is asked for: the finer the difference, the more.
    rounds: u32,
}

const WORKS: [Work; 3] = [
    Work { title: "requests of 1 byte, wrk -t1 -c32", bytes: 1, connections: 32, fresh: false, rounds: 3 },
    Work { title: "files of 10 MiB, wrk -t1 -c4", bytes: LARGE, connections: 4, fresh: false, rounds: 3 },
    Work {
        title: "a connection a request, 1 byte, wrk -t1 -c32",
        bytes: 1,
        connections: 32,
        fresh: true,
        rounds: 1,
    },
];

/// A way to the server.
struct Way {
    title: &'static str,
    to: SocketAddr,
    /// Whether policies are in force.
    judged: bool,
}

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

    let [direct, served, judged] = PORTS;
    let ways = [
        Way { title: "from pod to pod", to: (address, direct).into(), judged: false },
        Way { title: "by way of a Service", to: (SERVICE, served).into(), judged: false },
        Way { title: "and with policies", to: (SERVICE, judged).into(), judged: true },
    ];
    let mut costs = Vec::new();
    for work in &WORKS {
        let rounds = in_turns(seconds.saturating_mul(work.rounds), &ways, |way| {
            filter.apply(&if way.judged { policies(address) } else { Policies::default() })?;
            load(work, way, &client).run()
        })?;
        let service = tell(work.title, &ways, &rounds);
        costs.extend((!work.fresh).then_some(1.0 - service));
    }
    runtime.block_on(network.teardown())?;
    for cost in costs {
        ensure!(cost < LIMIT, "a Service costs {:.1} %, and may cost {:.0}", cost * 100.0, LIMIT * 100.0);
    }
    Ok(())
}

/// A second of load.
fn load(work: &Work, way: &Way, client: &Pod) -> Load {
    Load {
        url: format!("http://{}/{}", way.to, work.bytes),
        threads: 1,
        connections: work.connections,
        seconds: 1,
        headers: work.fresh.then(|| "Connection: close".to_owned()).into_iter().collect(),
        inside: Some(client.path()),
        ..Load::default()
    }
}

/// Measures every way once a round, every other round backwards: what else the machine does, and how it warms up, hits
/// all alike.
fn in_turns(
    rounds: u32,
    ways: &[Way],
    mut run: impl FnMut(&Way) -> Result<Found>,
) -> Result<Vec<Vec<Found>>> {
    let mut all = Vec::new();
    for round in 0..rounds.max(1) {
        let mut found = match round % 2 {
            0 => ways.iter().map(&mut run).collect::<Result<Vec<_>>>()?,
            _ => ways.iter().rev().map(&mut run).collect::<Result<Vec<_>>>()?,
        };
        if round % 2 == 1 {
            found.reverse();
        }
        all.push(found);
    }
    Ok(all)
}

/// Prints each way's median, and the median and quartiles of its ratios to the first way in the same round. Returns
/// the second way's.
fn tell(title: &'static str, ways: &[Way], rounds: &[Vec<Found>]) -> f64 {
    let mut table = Table::new(title);
    let mut ratios = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        let mut all: Vec<&Found> = rounds.iter().filter_map(|round| round.get(number)).collect();
        all.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let beside = rounds.iter().filter_map(|round| Some(round.get(number)?.rate / round.first()?.rate));
        let mut beside: Vec<f64> = beside.collect();
        beside.sort_by(f64::total_cmp);
        let at = |quarter: usize| beside.get(beside.len() * quarter / 4).copied().unwrap_or(f64::NAN);
        if let Some(median) = all.get(all.len() / 2) {
            let ratio = format!("{:.3} x of the direct way ({:.3} to {:.3})", at(2), at(1), at(3));
            table.beside(way.title, median, if number == 0 { "" } else { &ratio });
        }
        ratios.push(at(2));
    }
    table.print();
    rule();
    ratios.get(1).copied().unwrap_or(f64::NAN)
}

async fn attach(work: &Path, client: &Pod, server: &Pod) -> Result<(Network, IpAddr)> {
    let network = Network::open(Config {
        bridge: "hop".to_owned(),
        owner: "bench".to_owned(),
        subnet: "10.213.0.0/24".parse()?,
        subnet6: None,
        services6: None,
        state_dir: work.join("network"),
        masquerade: true,
        services: Some("10.214.0.0/24".parse()?),
        overlay: None,
    })
    .await?;
    network.attach("client", &client.path()).await?;
    let address = network.attach("server", &server.path()).await?;
    Ok((network, *address.first().context("an address")?))
}

fn service(server: IpAddr) -> Services {
    let mut services = Services::default();
    for port in PORTS {
        let pool = Pool { endpoints: BTreeSet::from([(server, port).into()]), affinity: None };
        services.pools.insert(port.to_string(), pool);
        let frontend = Frontend { address: SERVICE.into(), protocol: Protocol::Tcp, port };
        services.frontends.insert(frontend, Target::new(port.to_string(), Masquerade::Outsiders));
    }
    services
}

/// The server is isolated, and its client allowed.
fn policies(server: IpAddr) -> Policies {
    let peers = Peers { pods: BTreeSet::from([IpAddr::from([10, 213, 0, 2])]), ..Peers::default() };
    let ports = PORTS.map(|port| Ports::Range(Protocol::Tcp, port, port));
    let rule = Rule { peers: Some(peers), ports: Some(ports.into()) };
    let policy = Policy { ingress: vec![rule], egress: Vec::new() };
    let isolation = Isolation { ingress: BTreeSet::from(["web".to_owned()]), egress: BTreeSet::new() };
    Policies { policies: [("web".to_owned(), policy)].into(), pods: [(server, isolation)].into() }
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
         server {{ {listen} root {root}; }} }}\n",
        pid = at("pid"),
        errors = at("errors"),
        body = at("body"),
        root = work.display(),
        listen = PORTS.map(|port| format!("listen {port};")).concat(),
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
