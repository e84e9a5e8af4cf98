//! Answers to load balancers that ask whether this node has endpoints of a Service: one port of the node for each Service
//! with `healthCheckNodePort`.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Ambient;
use clock::Tasks;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::translate::HealthCheck;

/// Connections to one port at once; others wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long a connection may stay, which is for one question.
const STAY: Duration = Duration::from_secs(10);
/// How long to wait before a port that somebody else has is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A port's server; it ends with this value.
struct Server {
    tasks: Tasks,
    says: watch::Sender<HealthCheck>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

/// The servers of all such ports.
pub(crate) struct HealthChecks {
    address: IpAddr,
    ambient: Ambient,
    tasks: Tasks,
    servers: Mutex<BTreeMap<u16, Server>>,
}

impl HealthChecks {
    pub(crate) fn new(address: IpAddr, ambient: &Ambient, tasks: &Tasks) -> Self {
        Self { address, ambient: ambient.clone(), tasks: tasks.clone(), servers: Mutex::default() }
    }

    /// Answers so from now on, on these ports and no others.
    pub(crate) fn keep(&self, checks: &BTreeMap<u16, HealthCheck>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: BTreeSet<u16> = checks.keys().copied().collect();
        servers.retain(|port, _| wanted.contains(port));
        for (port, check) in checks {
            let server = servers.entry(*port).or_insert_with(|| self.start(*port, check.clone()));
            server.says.send_replace(check.clone());
        }
    }

    fn start(&self, port: u16, check: HealthCheck) -> Server {
        let (says, said) = watch::channel(check);
        let tasks = self.tasks.child();
        let (at, ambient, own) = (SocketAddr::new(self.address, port), self.ambient.clone(), tasks.clone());
        tasks.spawn("health checks", async move {
            loop {
                match TcpListener::bind(at).await {
                    Ok(listener) => serve(&listener, &said, &ambient, &own).await,
                    Err(error) => {
                        tracing::warn!(%at, %error, "health checks of a Service cannot be answered");
                        ambient.clock.sleep(RETRY).await;
                    }
                }
            }
        });
        Server { tasks, says }
    }
}

async fn serve(
    listener: &TcpListener,
    said: &watch::Receiver<HealthCheck>,
    ambient: &Ambient,
    tasks: &Tasks,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            ambient.clock.sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (said, clock) = (said.clone(), ambient.clock.clone());
        tasks.spawn("health check", async move {
            tokio::select! {
                () = answer(stream, said) => {}
                () = clock.sleep(STAY) => {}
            }
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, said: watch::Receiver<HealthCheck>) {
    let service = service_fn(move |_: Request<Incoming>| {
        let answer = response(&said.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut connection = hyper::server::conn::http1::Builder::new();
    // A load balancer that goes away in the midst is its own affair.
    let _ = connection.keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}

/// In the form of upstream's proxies.
fn response(check: &HealthCheck) -> Response<Full<Bytes>> {
    let body = json!({
        "service": {"namespace": check.namespace, "name": check.name},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    if check.local_endpoints == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", hyper::header::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", check.local_endpoints.into());
    response
}
