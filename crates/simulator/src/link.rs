//! The network between a process and the server: requests and answers take their time, come late or never, and watches break.
//! A request that was sent is no longer the sender's: it arrives though nobody may wait for its answer any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use client::{Body, Client};
use clock::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use pki::Identity;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::process::Process;
use crate::world::World;

tokio::task_local! {
    /// The request on whose behalf the server works.
    pub static REQUEST: Arc<Sent>;
}

/// A request as the server got it, and what became of its answer.
#[derive(Debug)]
pub struct Sent {
    /// Who sent it.
    pub process: Arc<Process>,
    /// How.
    pub method: Method,
    /// To what.
    pub path: String,
    /// With what.
    pub body: Bytes,
    answer: AtomicU8,
    /// Cancelled when its sender waits no longer.
    given_up: CancellationToken,
}

const UNDER_WAY: u8 = 0;
const RECEIVED: u8 = 1;
const LOST: u8 = 2;

impl Sent {
    /// Whether its sender will never learn that it was done.
    pub fn is_lost(&self) -> bool {
        match self.answer.load(Ordering::Relaxed) {
            UNDER_WAY => self.given_up.is_cancelled(),
            answer => answer == LOST,
        }
    }

    /// Whether it asks for a change.
    pub fn is_write(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
    }
}

/// How late a request or an answer may be.
pub const LATEST: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("simulated: connection reset")]
pub struct Reset;

type Sending = Response<UnsyncBoxBody<Bytes, Failure>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One process's way to the server.
#[derive(Clone, Debug)]
pub struct Link {
    world: Arc<World>,
    process: Arc<Process>,
    identity: Identity,
    agent: &'static str,
    chance: Arc<Chance>,
}

/// A client of a process, under an identity.
pub fn client(world: &Arc<World>, process: &Arc<Process>, identity: Identity, agent: &'static str) -> Client {
    let chance = Arc::new(Chance::of(world.seed, &format!("link of {}", process.name)));
    let link = Link { world: world.clone(), process: process.clone(), identity, agent, chance };
    client::transport::in_memory(link)
}

impl tower::Service<Request<Body>> for Link {
    type Response = Sending;
    type Error = Reset;
    type Future = BoxFuture<'static, Result<Sending, Reset>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().ask(request).boxed()
    }
}

impl Link {
    async fn ask(self, request: Request<Body>) -> Result<Sending, Reset> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
        let (answer, answered) = oneshot::channel();
        let (world, process) = (self.world.clone(), self.process.clone());
        let given_up = CancellationToken::new();
        let _waits = given_up.clone().drop_guard();
        world.tasks.spawn("network", self.carry(parts, body, answer, given_up));
        let answered = answered.await;
        process.thawed().await;
        answered.unwrap_or(Err(Reset))
    }

    /// Carries a request to the server and its answer back.
    async fn carry(
        self,
        parts: Parts,
        body: Bytes,
        answer: oneshot::Sender<Result<Sending, Reset>>,
        given_up: CancellationToken,
    ) {
        let (parts, body) = self.world.tampered(&self.process, parts, body);
        let sent = Arc::new(Sent {
            process: self.process.clone(),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            body: body.clone(),
            answer: AtomicU8::new(UNDER_WAY),
            given_up,
        });
        let outcome = self.there_and_back(parts, body, &sent).await;
        // An answer that it went wrong leaves it open whether it happened.
        let is_good = outcome.as_ref().is_ok_and(|response| response.status().is_success());
        let is_received = is_good && !answer.is_closed();
        sent.answer.store(if is_received { RECEIVED } else { LOST }, Ordering::Relaxed);
        if outcome.is_err() && !answer.is_closed() {
            // Nobody hears of a loss at once.
            self.world.clock.sleep(self.chance.milliseconds(50, 5_000)).await;
        }
        // Whoever has stopped waiting does not hear of it.
        let _ = answer.send(outcome);
    }

    async fn there_and_back(
        self: &Link,
        parts: Parts,
        body: Bytes,
        sent: &Arc<Sent>,
    ) -> Result<Sending, Reset> {
        self.way(sent).await?;
        let server = self.world.server().ok_or(Reset)?;
        let connection = server.connection(&self.identity).ok_or(Reset)?;
        let mut request = Request::from_parts(parts, Full::new(body));
        let agent = HeaderValue::from_static(self.agent);
        request.headers_mut().insert(header::USER_AGENT, agent);
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let handled = REQUEST.scope(sent.clone(), server.api.handle(request, connection));
        let response = server.killed.run_until_cancelled(handled).await.ok_or(Reset)?;
        if is_watch {
            self.way(sent).await?;
            let killed = server.killed.clone();
            return Ok(response.map(|body| self.stream(body, killed, sent)));
        }
        let (head, body) = response.into_parts();
        let body = server.killed.run_until_cancelled(body.collect()).await.ok_or(Reset)?;
        let body = body.map_err(|_| Reset)?.to_bytes();
        self.world.witness.acknowledged(sent, head.status, &body);
        let body = self.world.tampered_answer(sent, body);
        self.way(sent).await?;
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        Ok(Response::from_parts(head, body))
    }

    /// One way through the network: a moment, or long, or for ever.
    async fn way(&self, sent: &Sent) -> Result<(), Reset> {
        let stormy = self.world.is_stormy();
        let takes = match self.chance.below(1000) {
            0..4 if stormy && sent.is_write() => self.chance.between(Duration::from_secs(2), LATEST),
            4..40 => self.chance.milliseconds(5, 200),
            _ => self.chance.between(Duration::from_micros(100), Duration::from_millis(3)),
        };
        self.world.clock.sleep(takes).await;
        if self.process.is_cut_off() || (stormy && self.chance.in_a_thousand(10)) {
            return Err(Reset);
        }
        Ok(())
    }

    /// What a watch tells, as it arrives.
    fn stream(
        &self,
        body: apiserver::Body,
        killed: CancellationToken,
        sent: &Arc<Sent>,
    ) -> UnsyncBoxBody<Bytes, Failure> {
        let (link, sent) = (self.clone(), sent.clone());
        let cut = self.process.connection();
        let lasts = match self.world.is_stormy() && self.chance.in_a_thousand(400) {
            true => self.chance.milliseconds(500, 60_000),
            false => Duration::MAX,
        };
        let ends = self.world.clock.monotonic() + lasts;
        let frames = futures::stream::unfold(Some(body), move |body| {
            let (link, sent, cut, killed) = (link.clone(), sent.clone(), cut.clone(), killed.clone());
            async move {
                let mut body = body?;
                let frame = tokio::select! {
                    biased;
                    () = killed.cancelled() => Some(Err(Reset.into())),
                    () = cut.cancelled() => Some(Err(Reset.into())),
                    () = link.world.clock.sleep_until(ends) => Some(Err(Reset.into())),
                    frame = body.frame() => frame,
                };
                let late = link.chance.in_a_thousand(30);
                let takes = link
                    .chance
                    .between(Duration::from_micros(50), Duration::from_millis(if late { 500 } else { 3 }));
                link.world.clock.sleep(takes).await;
                link.process.thawed().await;
                match frame? {
                    Ok(frame) => {
                        let frame = frame.map_data(|data| link.world.tampered_news(&sent, data));
                        Some((Ok(frame), Some(body)))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}
