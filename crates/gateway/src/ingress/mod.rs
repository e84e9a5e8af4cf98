//! Keeps what is served equal to what Ingresses say: Ingresses, their classes, Services, EndpointSlices and Secrets in;
//! routes, endpoints and certificates out.
//!
//! One task makes all of it anew after each change ([`translate`] and [`services`] are pure); what did not change stays as
//! it is, connections included. It never waits for the API: what is told of Ingresses goes through [`report`].

mod claims;
mod report;
mod services;
mod translate;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Ambient, Client, EventRecorder, Index, Informer, Informers, ObjectKey};
use clock::Tasks;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};

use crate::request::{Edge, State, Target};
use crate::routing::claims::{Claim, Claimant, Kind};
use crate::routing::{HostPattern, Route};
use crate::secrets::{Reading, Secrets};
use crate::server::tls::{Certificates, Names, certified};
use crate::upstream::Backend;
use claims::Claims;
use report::Reporter;
use translate::{BackendRef, Problem, Wanted};

pub use translate::CONTROLLER;

/// Changes that come together are taken together: a rollout touches a slice many times in a moment.
const GATHER: Duration = Duration::from_millis(10);
/// How often connections that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The index of slices by their Service.
const BY_SERVICE: &str = "service";

/// What the controller needs.
pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) ambient: Ambient,
    pub(crate) events: EventRecorder,
    pub(crate) edge: Arc<Edge>,
    pub(crate) certificates: Arc<Certificates>,
    /// Where clients reach the gateway.
    pub(crate) addresses: Vec<String>,
    pub(crate) data_dir: PathBuf,
}

/// Backends by their namespace and what names them there.
type Backends = Arc<Mutex<BTreeMap<(String, BackendRef), Arc<Backend>>>>;

/// See the module.
struct Controller {
    edge: Arc<Edge>,
    ambient: Ambient,
    certificates: Arc<Certificates>,
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    secrets: Secrets<Arc<CertifiedKey>>,
    claims: Claims,
    backends: Backends,
    reporter: Arc<Reporter>,
    changed: Arc<Notify>,
}

/// Starts to follow the API; the work is `tasks`'. What it gives turns true once all that the API says of Ingresses is
/// served.
pub(crate) async fn start(setup: Setup, tasks: &Tasks) -> watch::Receiver<bool> {
    let Setup { client, ambient, events, edge, certificates, addresses, data_dir } = setup;
    let changed = Arc::new(Notify::new());
    let informers = Informers::new(client.clone(), ambient.clone(), tasks.clone());
    let told = changed.clone();
    edge.board.tell(Kind::Ingress, move |_| told.notify_one());
    let slices = followed::<EndpointSlice>(&informers, &changed);
    slices.index_by(Index::new(BY_SERVICE, services::owner));
    let backends = Backends::default();
    let (swept, clock) = (backends.clone(), ambient.clock.clone());
    tasks.spawn("idle connections", async move {
        loop {
            clock.sleep(SWEEP).await;
            let all: Vec<_> =
                swept.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            all.iter().for_each(|backend| backend.sweep());
        }
    });
    let controller = Controller {
        edge,
        certificates,
        ingresses: followed(&informers, &changed),
        classes: followed(&informers, &changed),
        services: followed(&informers, &changed),
        slices,
        secrets: Secrets::new(client.clone(), ambient.clone(), tasks.clone(), CERTIFICATES, {
            let changed = changed.clone();
            move |_| changed.notify_one()
        }),
        claims: Claims::open(&data_dir).await,
        backends,
        reporter: Reporter::start(client, &ambient, events, &addresses, tasks),
        ambient,
        changed,
    };
    let (settled, receiver) = watch::channel(false);
    tasks.spawn("ingresses", controller.run(settled));
    receiver
}

fn followed<K>(informers: &Informers, changed: &Arc<Notify>) -> Informer<K>
where
    K: client::Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let (informer, changed) = (informers.of::<K>(), changed.clone());
    informer.on_change(move |_| changed.notify_one());
    informer
}

/// An Ingress of ours, and what it asks for.
struct Own {
    key: ObjectKey,
    ingress: Arc<Ingress>,
    wanted: Wanted,
}

impl Own {
    fn claimant(&self) -> Claimant {
        let ObjectKey { namespace, name, .. } = self.key.clone();
        Claimant { namespace, name, kind: Kind::Ingress }
    }

    fn secrets(&self) -> impl Iterator<Item = ObjectKey> {
        let names = self.wanted.encrypted.iter().map(|encrypted| encrypted.secret.clone());
        names.map(|name| ObjectKey::new(self.key.namespace.clone(), name))
    }
}

impl Controller {
    async fn run(mut self, settled: watch::Sender<bool>) {
        tokio::join!(
            self.ingresses.ready(),
            self.classes.ready(),
            self.services.ready(),
            self.slices.ready()
        );
        loop {
            self.look().await;
            if self.secrets.are_known() {
                settled.send_replace(true);
            }
            self.changed.notified().await;
            self.ambient.clock.sleep(GATHER).await;
        }
    }

    /// Makes everything as the API says now.
    async fn look(&mut self) {
        let own = self.own();
        let mut problems = self.set_backends(&own);
        self.claim(&own).await;
        self.forget_backends(&own);
        let wanted: BTreeSet<ObjectKey> = own.iter().flat_map(Own::secrets).collect();
        self.secrets.follow(&wanted).await;
        self.set_certificates(&own, &mut problems);
        for own in &own {
            let mut found = own.wanted.problems.clone();
            found.extend(problems.remove(&own.key).unwrap_or_default());
            let conflicts = self.edge.board.conflicts(&own.claimant());
            let serves = conflicts.len() < own.wanted.routes.len();
            found.extend(conflicts.into_iter().map(|conflict| Problem::new("RouteConflict", conflict)));
            self.reporter.tell(&own.key, &own.ingress, serves, found);
        }
        let keys: BTreeSet<&ObjectKey> = own.iter().map(|own| &own.key).collect();
        self.reporter.only(|key| keys.contains(key), |key| self.ingresses.store().get(key));
    }

    fn own(&self) -> Vec<Own> {
        let classes = self.classes.store().list();
        let all = self.ingresses.store().list();
        let mut own: Vec<Own> = all
            .into_iter()
            .filter(|ingress| translate::is_ours(ingress, &classes))
            .map(|ingress| Own {
                key: ObjectKey::of(&*ingress),
                wanted: translate::wanted(&ingress),
                ingress,
            })
            .collect();
        own.sort_by(|a, b| a.key.cmp(&b.key));
        own
    }

    /// Brings the endpoints behind all backends up to date.
    fn set_backends(&self, own: &[Own]) -> BTreeMap<ObjectKey, Vec<Problem>> {
        let mut problems: BTreeMap<ObjectKey, Vec<Problem>> = BTreeMap::new();
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        for own in own {
            for (_, _, wanted) in &own.wanted.routes {
                let namespace = &own.key.namespace;
                let service = ObjectKey::new(namespace.clone(), wanted.service.clone());
                let slices = self.slices.store().by_index(BY_SERVICE, &service.to_string());
                let found =
                    services::endpoints(wanted, self.services.store().get(&service).as_deref(), &slices);
                let known = (namespace.clone(), wanted.clone());
                let backend = backends
                    .entry(known)
                    .or_insert_with(|| Arc::new(Backend::new(format!("{service}:{}", wanted.port))));
                backend.set(&found.addresses, found.protocol, &found.why_none, &self.edge.ways);
                let told = problems.entry(own.key.clone()).or_default();
                told.extend(found.problem.filter(|problem| !told.contains(problem)));
            }
        }
        problems
    }

    /// Lets go of backends that nobody names any more: after the routes, which led to them until now.
    fn forget_backends(&self, own: &[Own]) {
        let routes = own.iter().flat_map(|own| {
            own.wanted.routes.iter().map(|(_, _, wanted)| (own.key.namespace.clone(), wanted.clone()))
        });
        let named: BTreeSet<(String, BackendRef)> = routes.collect();
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.retain(|key, backend| {
            let stays = named.contains(key);
            if !stays {
                backend.retire();
            }
            stays
        });
    }

    /// Says which hosts and paths are claimed, since when, and where they lead.
    async fn claim(&mut self, own: &[Own]) {
        let now = self.ambient.clock.now();
        let mut made = Vec::new();
        for own in own {
            let hosts: BTreeSet<HostPattern> =
                own.wanted.routes.iter().map(|(host, ..)| host.clone()).collect();
            let namespace = &own.key.namespace;
            let board = &self.edge.board;
            let since = self.claims.since(&own.ingress, hosts, |host| board.since(namespace, host), now);
            let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
            let route = |(host, path, wanted): &(HostPattern, _, BackendRef)| {
                let backend = backends.get(&(namespace.clone(), wanted.clone()))?.clone();
                let target = Target { name: backend.name.clone(), state: State::Service(backend) };
                Some(Route { host: host.clone(), path: Clone::clone(path), target: Arc::new(target) })
            };
            let created = own.ingress.metadata.creation_timestamp.as_ref().map(|time| time.0);
            made.push(Claim {
                claimant: own.claimant(),
                created: created.unwrap_or(now),
                since,
                routes: own.wanted.routes.iter().filter_map(route).collect(),
            });
        }
        self.edge.board.set(Kind::Ingress, made);
        let keys: BTreeSet<String> = own.iter().map(|own| own.key.to_string()).collect();
        self.claims.keep(|key| keys.contains(key)).await;
    }

    /// Shows the certificates of hosts that are the Ingress's namespace's, or nobody's.
    fn set_certificates(&mut self, own: &[Own], problems: &mut BTreeMap<ObjectKey, Vec<Problem>>) {
        let owners = self.edge.board.owners();
        let mut names = Names::default();
        // The elder counts where two have one for the same host.
        let mut sorted: Vec<&Own> = own.iter().collect();
        sorted.sort_by_key(|own| own.ingress.metadata.creation_timestamp.as_ref().map(|time| time.0));
        for own in sorted {
            for encrypted in &own.wanted.encrypted {
                let key = ObjectKey::new(own.key.namespace.clone(), encrypted.secret.clone());
                let mut tell = |message: String| {
                    let problem = Problem::new("CertificateInvalid", message);
                    problems.entry(own.key.clone()).or_default().push(problem);
                };
                match self.secrets.get(&key) {
                    None => {}
                    Some(Err(why)) => tell(format!("Secret {}: {why}", encrypted.secret)),
                    Some(Ok(certificate)) => {
                        for host in &encrypted.hosts {
                            match owners.conflict(host, &own.key.namespace) {
                                None => names.add(host.clone(), certificate.clone()),
                                Some(conflict) => tell(format!("Secret {}: {conflict}", encrypted.secret)),
                            }
                        }
                    }
                }
            }
        }
        self.certificates.set(names);
    }
}

/// How the Secrets that Ingresses name for TLS are read.
const CERTIFICATES: Reading<Arc<CertifiedKey>> =
    Reading { entries: &["tls.crt", "tls.key"], read: certificate };

fn certificate(secret: &Secret) -> Result<Arc<CertifiedKey>, String> {
    let part = |name: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(name));
        found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("it has no data[{name}]"))
    };
    certified(part("tls.crt")?, part("tls.key")?).map_err(|error| error.to_string())
}
