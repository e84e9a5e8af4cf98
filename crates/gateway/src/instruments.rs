//! What the gateway counts of its work, and where Prometheus reads it: a listener of its own, for clients have no business there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clock::Tasks;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use instruments::{Histogram, Kind, Page, TEXT};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Who asks at a time, and for how long each may.
const READERS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);
/// Nanoseconds: what Prometheus' own libraries take.
const BOUNDS: &[u64] = &[
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// What has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    Service,
    Component,
    Durable,
    /// The gateway itself: nothing has a route, or none that could answer.
    None,
}

const ANSWERERS: [(Answerer, &str); 4] = [
    (Answerer::Service, "service"),
    (Answerer::Component, "component"),
    (Answerer::Durable, "durable"),
    (Answerer::None, "none"),
];
const CLASSES: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The whole: until the head of the answer, by what has answered and the class of its code.
#[derive(Debug)]
pub(crate) struct Instruments([[Histogram; CLASSES.len()]; ANSWERERS.len()]);

impl Default for Instruments {
    fn default() -> Self {
        Self([(); ANSWERERS.len()].map(|()| [(); CLASSES.len()].map(|()| Histogram::new(BOUNDS))))
    }
}

impl Instruments {
    /// A request has been answered.
    pub(crate) fn note(&self, answerer: Answerer, status: StatusCode, took: Duration) {
        // What a Service makes up beyond 599 is its failure.
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.0[answerer as usize][class].observe(took);
    }

    fn page(&self) -> String {
        let each = || {
            ANSWERERS.into_iter().flat_map(|(answerer, name)| {
                let classes = CLASSES.iter().zip(&self.0[answerer as usize]);
                classes.map(move |(class, took)| ([("backend", name), ("code", *class)], took))
            })
        };
        let mut page = Page::default();
        page.family(
            "monoplane_ingress_requests_total",
            Kind::Counter,
            "Requests, by what has answered and how.",
        );
        each().for_each(|(labels, took)| page.sample(&labels, took.count()));
        page.family(
            "monoplane_ingress_request_duration_seconds",
            Kind::Histogram,
            "How long it took until the head of the answer was there.",
        );
        each().filter(|(_, took)| took.count() > 0).for_each(|(labels, took)| page.histogram(&labels, took));
        instruments::process(&mut page);
        page.finish()
    }
}

/// Answers Prometheus on a listener, for as long as the tasks run.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    instruments: Arc<Instruments>,
    tasks: &Tasks,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (room, owner) = (Arc::new(Semaphore::new(READERS)), tasks.clone());
    tasks.spawn("metrics", async move {
        loop {
            let Ok(place) = room.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let instruments = instruments.clone();
            owner.spawn("metrics connection", async move {
                // Whoever takes longer is let go.
                let _ = timeout(PATIENCE, answer(stream, &instruments)).await;
                drop(place);
            });
        }
    });
    Ok(())
}

async fn answer(stream: TcpStream, instruments: &Instruments) {
    let reply = |request: Request<Incoming>| {
        let asked = request.method() == Method::GET && request.uri().path() == "/metrics";
        let text = if asked { instruments.page() } else { String::new() };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        if asked {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
        } else {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        std::future::ready(Ok::<_, Infallible>(response))
    };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).keep_alive(false);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service_fn(reply)).await {
        tracing::debug!(%error, "a reader of metrics went away");
    }
}
