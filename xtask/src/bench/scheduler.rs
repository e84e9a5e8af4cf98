//! How soon pods get a node in a cluster of 5,000, by what they ask of one another; and what the nodes' leases cost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::Plane;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::api::{TOKEN, plane};
use super::rule;
use crate::api::{Api, Connection};

const NODES: u32 = 5_000;
const WRITERS: u32 = 16;
const DEPLOYED: u32 = 10_000;
/// How often a kubelet renews its lease.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Connections over which leases are renewed: so many that none has to wait for the answer before it is its turn again.
const HEARTS: u32 = 100;
const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// What pods ask of one another.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Affinity,
    AntiAffinity,
    Spread,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Plain, Self::Affinity, Self::AntiAffinity, Self::Spread];

    /// Its name, and how many pods of it there are.
    fn size(self) -> (&'static str, u32) {
        match self {
            Self::Plain => ("plain", 10_000),
            Self::Affinity => ("affinity", 5_000),
            Self::AntiAffinity => ("anti-affinity", 3_000),
            Self::Spread => ("spread", 5_000),
        }
    }

    fn pod(self, number: u32) -> Value {
        let (name, _) = self.size();
        let app = json!({ "app": name });
        let term = |key| json!([{ "labelSelector": { "matchLabels": app }, "topologyKey": key }]);
        let rule = "requiredDuringSchedulingIgnoredDuringExecution";
        let mut spec = json!({ "automountServiceAccountToken": false, "containers": [{
            "name": "main", "image": "registry.k8s.io/pause:3.10", "resources": { "requests": { "cpu": "100m", "memory": "100Mi" } } }] });
        match self {
            Self::Plain => {}
            Self::Affinity => spec["affinity"] = json!({ "podAffinity": { rule: term(ZONE) } }),
            Self::AntiAffinity => spec["affinity"] = json!({ "podAntiAffinity": { rule: term(HOST) } }),
            Self::Spread => {
                spec["topologySpreadConstraints"] = json!([{ "maxSkew": 5, "topologyKey": ZONE,
                    "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": app } }]);
            }
        }
        json!({ "metadata": { "name": format!("{name}-{number:05}"), "labels": app }, "spec": spec })
    }
}

/// Makes the nodes, and measures from the first create until the last pod is bound; or only the figure that is named.
///
/// # Errors
/// When a request fails, or a pod gets no node, or there is no such figure.
pub fn run(root: &Path, only: Option<&str>) -> Result<()> {
    let figures = || ["leases", "deployment"].into_iter().chain(Kind::ALL.map(|kind| kind.size().0));
    if let Some(other) = only.filter(|only| !figures().any(|figure| figure == *only)) {
        bail!("there is no figure {other:?}, but {}", figures().collect::<Vec<_>>().join(", "));
    }
    let plane = plane(root, &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let api = Api::new(&plane, TOKEN)?;
    println!(
        "\n{NODES} nodes; pods per second from the first create until all are bound, {WRITERS} connections"
    );
    rule();
    runtime.block_on(async {
        make_nodes(&api).await?;
        let beats = Arc::default();
        let mut beating = beating(&api, &beats);
        tokio::select! {
            measured = measure(&plane, &api, &beats, only) => measured,
            // They beat for ever, unless a request fails.
            Some(beat) = beating.join_next() => beat?,
        }
    })
}

async fn measure(plane: &Plane, api: &Api, beats: &AtomicU64, only: Option<&str>) -> Result<()> {
    // What was made settles first.
    tokio::time::sleep(HEARTBEAT).await;
    let wanted = |figure| only.is_none_or(|only| only == figure);
    if wanted("leases") {
        leases(plane, beats).await?;
    }
    for kind in Kind::ALL {
        let (name, count) = kind.size();
        if wanted(name) {
            let took = pods(api, kind).await?;
            println!(
                "{:<72} {:>9.0} /s",
                format!("{count} pods, {name}"),
                f64::from(count) / took.as_secs_f64()
            );
        }
    }
    if wanted("deployment") {
        let took = deployment(api).await?;
        println!(
            "{:<72} {:>9.1} s",
            format!("a Deployment of {DEPLOYED}, from create to all bound"),
            took.as_secs_f64()
        );
    }
    Ok(())
}

/// What renewing costs while nothing else happens.
async fn leases(plane: &Plane, beats: &AtomicU64) -> Result<()> {
    let (before, beaten, began) = (busy(plane)?, beats.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(3 * HEARTBEAT).await;
    let (seconds, beaten) = (began.elapsed().as_secs_f64(), beats.load(Ordering::Relaxed) - beaten);
    let share = 100.0 * (busy(plane)? - before) / seconds;
    // Fewer would be a figure of something else.
    let due = seconds * f64::from(NODES) / HEARTBEAT.as_secs_f64();
    ensure!(f64::from(u32::try_from(beaten)?) > 0.95 * due, "{beaten} leases were renewed of {due:.0}");
    println!(
        "{:<72} {share:>9.1} % of a core",
        "idle nodes that renew their leases, in the server's process"
    );
    Ok(())
}

/// Seconds of CPU time that the server's process has used.
fn busy(plane: &Plane) -> Result<f64> {
    super::idle::cpu(&[plane.pid("server")])
}

/// Shares numbers among writers, each with a connection of its own.
async fn shared<W>(api: &Api, count: u32, work: W) -> Result<()>
where
    W: Fn(u32) -> Vec<(Method, String, Value)> + Clone + Send + 'static,
{
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, work) = (api.clone(), work.clone());
        writers.spawn(async move {
            let mut connection = api.connect().await?;
            for number in (writer..count).step_by(WRITERS as usize) {
                for (method, path, body) in work(number) {
                    connection.must(method, &path, body.to_string()).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

async fn make_nodes(api: &Api) -> Result<()> {
    shared(api, NODES, |number| {
        let name = format!("node-{number}");
        let labels = json!({ HOST: name, ZONE: format!("zone-{}", number % 3) });
        let room = json!({ "cpu": "16", "memory": "64Gi", "pods": "110" });
        let ready = json!([{ "type": "Ready", "status": "True", "lastHeartbeatTime": now(), "lastTransitionTime": now() }]);
        let status = json!({ "status": { "capacity": room, "allocatable": room, "conditions": ready } });
        let node = json!({ "metadata": { "name": name, "labels": labels } });
        let lease = json!({ "metadata": { "name": name }, "spec": lease(&name) });
        let path = format!("/api/v1/nodes/{name}");
        vec![
            (Method::POST, LEASES.to_owned(), lease),
            (Method::POST, "/api/v1/nodes".to_owned(), node),
            (Method::PATCH, format!("{path}/status"), status),
            // Admission taints a node until it is ready.
            (Method::PATCH, path, json!({ "spec": { "taints": null } })),
        ]
    })
    .await
}

fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

fn lease(name: &str) -> Value {
    json!({ "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now() })
}

/// Renews every lease once in each heartbeat, evenly, and counts.
fn beating(api: &Api, beats: &Arc<AtomicU64>) -> JoinSet<Result<()>> {
    let mut hearts = JoinSet::new();
    let began = tokio::time::Instant::now();
    for heart in 0..HEARTS {
        let (api, beats) = (api.clone(), beats.clone());
        hearts.spawn(async move {
            let mut connection = api.connect().await?;
            // No two at the same time: nodes do not know of one another.
            let first = began + HEARTBEAT * heart / NODES;
            let mut tick = tokio::time::interval_at(first, HEARTBEAT * HEARTS / NODES);
            for number in (heart..NODES).step_by(HEARTS as usize).cycle() {
                tick.tick().await;
                let name = format!("node-{number}");
                let renewed = json!({ "spec": { "renewTime": now() } }).to_string();
                connection.must(Method::PATCH, &format!("{LEASES}/{name}"), renewed).await?;
                beats.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    hearts
}

async fn namespace(connection: &mut Connection, name: &str) -> Result<()> {
    let body = json!({ "metadata": { "name": name } }).to_string();
    connection.must(Method::POST, "/api/v1/namespaces", body).await?;
    // Pods are refused until it has one.
    let account = json!({ "metadata": { "name": "default" } }).to_string();
    connection.ask(Method::POST, &format!("/api/v1/namespaces/{name}/serviceaccounts"), account).await?;
    Ok(())
}

async fn pods(api: &Api, kind: Kind) -> Result<Duration> {
    let (name, count) = kind.size();
    let mut connection = api.connect().await?;
    namespace(&mut connection, name).await?;
    let began = Instant::now();
    let path = format!("/api/v1/namespaces/{name}/pods");
    shared(api, count, move |number| vec![(Method::POST, path.clone(), kind.pod(number))]).await?;
    bound(&mut connection, name, count, began).await
}

async fn deployment(api: &Api) -> Result<Duration> {
    let mut connection = api.connect().await?;
    namespace(&mut connection, "deployed").await?;
    let began = Instant::now();
    let mut template = Kind::Plain.pod(0);
    template["metadata"] = json!({ "labels": { "app": "deployed" } });
    let deployment = json!({ "metadata": { "name": "large" }, "spec": { "replicas": DEPLOYED,
        "selector": { "matchLabels": { "app": "deployed" } }, "template": template } });
    let path = "/apis/apps/v1/namespaces/deployed/deployments";
    connection.must(Method::POST, path, deployment.to_string()).await?;
    bound(&mut connection, "deployed", DEPLOYED, began).await
}

/// Waits until that many pods of a namespace are there, and none is without a node.
async fn bound(connection: &mut Connection, namespace: &str, count: u32, began: Instant) -> Result<Duration> {
    loop {
        ensure!(
            began.elapsed() < Duration::from_secs(300),
            "pods of {namespace} have no node after five minutes"
        );
        let pods = format!("/api/v1/namespaces/{namespace}/pods?limit=1");
        let all = listed(connection, &pods).await?;
        let unbound = listed(connection, &format!("{pods}&fieldSelector=spec.nodeName%3D")).await?;
        let took = began.elapsed();
        if all >= u64::from(count) && unbound == 0 {
            return Ok(took);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many there are at least, by a list of one.
async fn listed(connection: &mut Connection, path: &str) -> Result<u64> {
    let answer = connection.must(Method::GET, path, "").await?;
    let list: Value = serde_json::from_slice(&answer)?;
    let first = list["items"].as_array().context("no items")?.len() as u64;
    Ok(first + list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0))
}
