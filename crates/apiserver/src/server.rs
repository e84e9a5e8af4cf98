//! The handler that every transport calls, and the way of a request through it: who, what, may they, then the verb.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ::instruments::Page;
use admission::Chain as Plugins;
use apimachinery::gvk::GroupResource;
use apimachinery::status::Status;
use auth::{Attributes, Decision, Resource, Target, UserInfo, forbidden_message};
use bytes::Bytes;
use clock::{Clock, Random, Tasks};
use futures::FutureExt;
use http::request::Parts;
use http::{Method, Request, Response};
use registry::{Registry, Warnings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::admission::{start_policies, start_webhooks};
use crate::aggregation::proxy::Patience;
use crate::aggregation::{self, Aggregation, Extension};
use crate::authenticate::{Authenticators, impersonate};
use crate::authorize::Authorization;
use crate::body::{Body, BodyError};
use crate::connection::{Chain, ConnectError, Connection};
use crate::dial::NodeDialer;
use crate::document::Documents;
use crate::instruments::Instruments;
use crate::outgoing::Outgoing;
use crate::query::Query;
use crate::relay::headers::ask_upgrade;
use crate::request_info::{RequestInfo, ResourceInfo, resolve};
use crate::respond::{self, Answer};
use crate::tunnels::{self, Tunnels};
use crate::{health, incoming, path, relay, verb};

/// Bounds on what clients can ask for at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Reads in flight.
    pub reads: usize,
    /// Writes in flight.
    pub writes: usize,
    /// Watches, logs and other streams.
    pub streams: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// How long a request may take that is no stream.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let time = Duration::from_secs(60);
        Self { reads: 400, writes: 200, streams: 20_000, body: 3 * 1024 * 1024, time }
    }
}

/// What a server is made of.
pub struct Options {
    /// Where the objects are.
    pub registry: Arc<Registry>,
    /// Who is asking.
    pub authenticators: Authenticators,
    /// What writes must pass beside the registry's own validation.
    pub admission: Plugins,
    /// The way to the kubelets, for logs and streams.
    pub dialer: Arc<dyn NodeDialer>,
    /// The tunnels that nodes keep.
    pub tunnels: Arc<Tunnels>,
    /// The way to webhooks and to the servers of aggregated APIs.
    pub outgoing: Arc<Outgoing>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// `host:port` under which clients outside reach the server.
    pub advertise: String,
    /// Bounds.
    pub limits: Limits,
}

/// The API server: one handler, called by every transport.
pub struct ApiServer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticators: Authenticators,
    pub(crate) authorization: Arc<Authorization>,
    pub(crate) admission: Plugins,
    pub(crate) dialer: Arc<dyn NodeDialer>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) documents: Documents,
    pub(crate) aggregation: Arc<Aggregation>,
    pub(crate) limits: Limits,
    pub(crate) instruments: Instruments,
    pub(crate) readiness: health::Readiness,
    /// Ends watches and logs, which would otherwise hold up the end of the server.
    pub(crate) stopping: CancellationToken,
    /// Streams and what else outlives the request that began it.
    pub(crate) upgraded: Tasks,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ApiServer")
    }
}

/// One request, as the verbs see it.
pub(crate) struct Call<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) query: &'a Query,
    pub(crate) user: &'a Arc<UserInfo>,
    pub(crate) now: jiff::Timestamp,
    pub(crate) body: Bytes,
    /// Where the request comes from; `None` in memory.
    pub(crate) peer: Option<std::net::SocketAddr>,
    /// What the answer warns of.
    pub(crate) warnings: Warnings,
}

impl ApiServer {
    /// Starts a server; its tasks run under `tasks` and end with them. It is not ready before
    /// [`ApiServer::install`] has run.
    pub fn start(options: Options, tasks: &Tasks) -> Arc<Self> {
        let authorization = Arc::new(Authorization::default());
        authorization.follow(&options.registry, &options.clock, tasks);
        options.outgoing.resolve_in(&options.registry, &options.tunnels);
        let (registry, clock, asked) = (&options.registry, &options.clock, authorization.clone());
        let webhooks = start_webhooks(
            registry,
            &options.outgoing,
            asked.clone(),
            (clock, options.random.clone()),
            tasks,
        );
        let policies = start_policies(registry, asked.clone(), clock, tasks);
        let admission = options.admission.with_authorizer(asked);
        let aggregation = Arc::new(Aggregation::default());
        aggregation.follow(&options.registry, &options.outgoing, &options.clock, tasks);
        Arc::new(Self {
            registry: options.registry,
            authenticators: options.authenticators,
            authorization,
            admission: admission.with_webhooks(webhooks).with_policies(policies),
            dialer: options.dialer,
            tunnels: options.tunnels,
            outgoing: options.outgoing,
            clock: options.clock,
            random: options.random,
            documents: Documents::new(options.advertise),
            aggregation,
            limits: options.limits,
            instruments: Instruments::default(),
            readiness: health::Readiness::default(),
            stopping: tasks.token().child_token(),
            upgraded: tasks.child(),
            reads: Arc::new(Semaphore::new(options.limits.reads)),
            writes: Arc::new(Semaphore::new(options.limits.writes)),
            streams: Arc::new(Semaphore::new(options.limits.streams)),
        })
    }

    /// Has a part of this process serve a group version, as long as its APIService names nobody else.
    pub fn extend(&self, extension: Extension) {
        self.aggregation.extend(extension);
    }

    /// Has a part of this process add to `/metrics` what it counts, under names of its own.
    pub fn measure(&self, part: impl Fn(&mut Page) + Send + Sync + 'static) {
        self.instruments.add(part);
    }

    /// Reads, writes and streams that are being served.
    pub(crate) fn in_flight(&self) -> (usize, usize, usize) {
        let taken = |most: usize, places: &Semaphore| most.saturating_sub(places.available_permits());
        let Limits { reads, writes, streams, .. } = self.limits;
        (taken(reads, &self.reads), taken(writes, &self.writes), taken(streams, &self.streams))
    }

    /// A connection on which a client presented these certificates (none: it will be anonymous, or send tokens).
    ///
    /// # Errors
    /// When the certificates do not verify, or name no user.
    pub fn connect(
        &self,
        chain: Chain<'_>,
        peer: Option<std::net::SocketAddr>,
    ) -> Result<Connection, ConnectError> {
        let certified = self.authenticators.certified(chain, self.clock.now())?;
        Ok(Connection::new(peer, certified))
    }

    /// Ends every stream and says on `/readyz` that the server is about to stop. Other requests are still answered.
    pub fn begin_to_stop(&self) {
        self.readiness.is_stopping();
        self.stopping.cancel();
    }

    /// Answers one request. Never fails: what goes wrong is an answer, too.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>, connection: &Connection) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (parts, body) = request.into_parts();
        // A bug in one request must not end the others: the unwinding ends here. What it was working on is dropped.
        match AssertUnwindSafe(self.answer(&parts, body, connection)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => respond::failure(&status),
            Err(_) => {
                tracing::error!(method = %parts.method, path = parts.uri.path(), "a request panicked");
                let why = "This request caused apiserver to panic. Look in the logs for details.";
                let mut status = Status::internal_error(why);
                why.clone_into(&mut status.message);
                respond::failure(&status)
            }
        }
    }

    async fn answer<B>(self: &Arc<Self>, parts: &Parts, body: B, connection: &Connection) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (now, began) = (self.clock.now(), self.clock.monotonic());
        let query = Query::parse(parts.uri.query());
        let info = resolve(&parts.method, parts.uri.path(), &query);
        let answered = self.serve(parts, body, connection, &query, info.clone(), now).await;
        let code = answered.as_ref().map_or_else(|status| status.code, |answer| answer.status().as_u16());
        let goes_on = matches!(&info, RequestInfo::Resource(info) if info.is_long_running());
        let took = (!goes_on).then(|| self.clock.monotonic().since(began));
        self.instruments.note(&parts.method, &info, code, took, |info| {
            self.registry.kinds().lookup(&info.group, &info.version, &info.resource).is_some()
                || self.aggregation.table().serves(&info.group, &info.version, &info.resource)
        });
        answered
    }

    async fn serve<B>(
        self: &Arc<Self>,
        parts: &Parts,
        body: B,
        connection: &Connection,
        query: &Query,
        info: RequestInfo<'_>,
        now: jiff::Timestamp,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let user = self.authenticators.user(connection, &parts.headers, now)?;
        if !user.is_in(auth::user::UNAUTHENTICATED) {
            connection.is_known_now();
        }
        let user = impersonate(&parts.headers, user, &*self.authorization)?;
        let aggregated = self.aggregation.table();
        let remote = aggregated.of_path(parts.uri.path());
        let upgrades = remote.is_some() && ask_upgrade(&parts.headers);
        let long = match &info {
            _ if upgrades => true,
            RequestInfo::Resource(info) => info.is_long_running(),
            RequestInfo::Path { .. } => tunnels::is_asked_for(parts.uri.path()),
        };
        let permit = self.admit_in_flight(&parts.method, long)?;
        self.authorize(&user, &info, parts, query).await?;
        let warnings = Warnings::default();
        let call = Call {
            parts,
            query,
            user: &user,
            now,
            body: Bytes::new(),
            peer: connection.peer(),
            warnings: warnings.clone(),
        };
        let answered = if let Some(remote) = remote {
            let patience = if long { Patience::Stream } else { Patience::Request(self.time_of(query)?) };
            let body = relay::onward(self, body);
            aggregation::proxy::serve(self, &call, remote, body, (patience, permit)).boxed().await
        } else if long {
            self.stream(call, info, body, (connection, permit)).await
        } else {
            let lasts = self.time_of(query)?;
            let answered = self.work_within(lasts, call, body, info).await;
            // A large answer is in memory until the client has taken it.
            answered.map(|response| response.map(|body| body.holding(permit)))
        };
        respond::with_warnings(answered, warnings.take())
    }

    async fn work_within<B>(
        self: &Arc<Self>,
        lasts: Duration,
        call: Call<'_>,
        body: B,
        info: RequestInfo<'_>,
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        let work = self.work(call, body, info);
        tokio::select! {
            biased;
            answer = work => answer,
            () = self.clock.sleep(lasts) => Err(took_too_long(lasts)),
        }
    }

    /// A request that ends by itself.
    async fn work<B>(self: &Arc<Self>, mut call: Call<'_>, body: B, info: RequestInfo<'_>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<BodyError>,
    {
        if matches!(call.parts.method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            call.body = incoming::read(body, &call.parts.headers, self.limits.body).await?;
        }
        match info {
            RequestInfo::Resource(info) => verb::dispatch(self, call, info).boxed().await,
            RequestInfo::Path { .. } => path::serve(self, &call).await,
        }
    }

    /// A request that goes on until one side ends it. Its place is held for as long as its body lives.
    async fn stream<B>(
        self: &Arc<Self>,
        call: Call<'_>,
        info: RequestInfo<'_>,
        body: B,
        (connection, permit): (&Connection, OwnedSemaphorePermit),
    ) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        match info {
            RequestInfo::Resource(info) if info.subresource == verb::PROXY => {
                let body = relay::onward(self, body);
                verb::proxied(self, call, info, body, permit).boxed().await
            }
            RequestInfo::Resource(info) => verb::dispatch_stream(self, call, info, permit).boxed().await,
            RequestInfo::Path { .. } => tunnels::serve(self, &call, connection.certified_until(), permit),
        }
    }

    fn admit_in_flight(&self, method: &Method, long: bool) -> Result<OwnedSemaphorePermit, Status> {
        let places = match *method {
            _ if long => &self.streams,
            Method::GET | Method::HEAD | Method::OPTIONS => &self.reads,
            _ => &self.writes,
        };
        let too_many = || Status::too_many_requests("Too many requests, please try again later.", 1);
        places.clone().try_acquire_owned().map_err(|_| too_many())
    }

    pub(crate) async fn authorize(
        &self,
        user: &UserInfo,
        info: &RequestInfo<'_>,
        parts: &Parts,
        query: &Query,
    ) -> Result<(), Status> {
        let (verb, target) = match info {
            RequestInfo::Path { verb } => (*verb, Target::Path(parts.uri.path())),
            RequestInfo::Resource(info) => (info.verb, Target::Resource(target_of(info, query))),
        };
        let attributes = Attributes { user, verb, target };
        match self.authorization.decide(&attributes, &self.registry).await {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(&attributes, &reason)),
        }
    }

    /// How long the request may take: the server's bound, or less where the client says so.
    fn time_of(&self, query: &Query) -> Result<Duration, Status> {
        let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else {
            return Ok(self.limits.time);
        };
        let bad = || Status::bad_request(format!("invalid timeout specified in the request URL: {text:?}"));
        let wanted: jiff::SignedDuration = match text.parse::<u64>() {
            Ok(seconds) => jiff::SignedDuration::from_secs(i64::try_from(seconds).map_err(|_| bad())?),
            Err(_) => text.parse().map_err(|_| bad())?,
        };
        let wanted = Duration::try_from(wanted).map_err(|_| bad())?;
        Ok(if wanted.is_zero() { self.limits.time } else { wanted.min(self.limits.time) })
    }
}

pub(crate) fn took_too_long(lasts: Duration) -> Status {
    let seconds = lasts.as_secs();
    Status::timeout(format!("request did not complete within the allotted timeout ({seconds}s)"), 0)
}

pub(crate) fn target_of<'a>(info: &'a ResourceInfo<'_>, query: &'a Query) -> Resource<'a> {
    Resource {
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        field_selector: query.get("fieldSelector").unwrap_or_default(),
    }
}

pub(crate) fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let message = forbidden_message(attributes, reason);
    match attributes.resource() {
        None => Status::forbidden(&GroupResource::of("", ""), "", message),
        Some(target) => {
            let resource = GroupResource::new(target.group.to_owned(), target.resource.to_owned());
            Status::forbidden(&resource, target.name, message)
        }
    }
}
