//! Watching.
//!
//! A watch is a stream of its own. It outlives the connection that carries it: when that breaks, or others leave it, the
//! watch goes on over another from the revision that it told last. Its reader sets the pace; etcd keeps what it has not read,
//! and ends the watch where compaction comes past it.
//!
//! What is told carries the revision up to which it is everything. That must get to any revision there is, though others
//! write keys that are not watched. Where members' word on progress can be relied on, they are asked for it. Where it cannot,
//! all keys are watched and ours are picked out: then every revision has an event.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Tasks;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::channel::Connection;
use super::messages::{self, Changed, Told, WATCH, end_of};
use super::stream::{Failure, Incoming, Outgoing, framed};
use super::{Inner, read_failed, unavailable};
use crate::{Changes, Error, Event, Revision, Watch};

/// Messages that may wait for a watcher: etcd's are of some hundred events.
const QUEUE: usize = 64;
/// How long etcd may take to begin a watch.
const BEGIN_WITHIN: Duration = Duration::from_secs(4);
/// Events mostly come by themselves so soon after a revision was heard of.
const EVENTS_FIRST: Duration = Duration::from_millis(5);
/// How often progress is asked for while it is wanted: upstream's number.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Pauses between attempts to go on.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// For so long a watch looks for a way to go on. Then its reader is told that it sees nothing.
const SILENT_FOR: Duration = Duration::from_secs(20);

type Batch = Result<Changes, Error>;

pub(super) async fn start(
    inner: &Arc<Inner>,
    tasks: &Tasks,
    prefix: Bytes,
    after: Revision,
) -> Result<Watch, Error> {
    inner.readable(after).await?;
    let mut watcher = Watcher { inner: inner.clone(), prefix, told: after, held: Vec::new() };
    let running = match watcher.begin().await {
        Ok(running) => Some(running),
        Err(Ended::Broken(failure)) => {
            tracing::debug!(%failure, "a watch of etcd begins again");
            None
        }
        Err(Ended::Final(error)) => return Err(error),
    };
    let (queue, events) = mpsc::channel(QUEUE);
    tasks.spawn("etcd watch", async move {
        let gone = queue.clone();
        tokio::select! {
            () = gone.closed() => {}
            error = watcher.follow(running, &queue) => {
                // If the watcher is gone there is nobody to tell.
                let _ = queue.send(Err(error)).await;
            }
        }
    });
    Ok(Watch { events })
}

/// The oldest revision that etcd can still tell of, by its own count.
impl Inner {
    pub(super) async fn oldest(&self) -> Result<Revision, Failure> {
        let mut connection = self.channel.connection().await?;
        let key = self.offset_key();
        let (body, _open) = Outgoing::open(&messages::watch(&key, &[], 1));
        let silent = |_| Failure::Lost("etcd does not say where its history begins".into());
        let asking = async {
            let mut incoming = connection.stream(WATCH, body).await?;
            loop {
                let told = Told::decode(incoming.message().await?)?;
                if told.canceled || told.compacted > 0 {
                    return Ok(told.compacted);
                }
                if !told.created {
                    // It tells of events from the beginning: nothing has been compacted.
                    return Ok(1);
                }
            }
        };
        timeout(BEGIN_WITHIN, asking).await.map_err(silent)?
    }
}

/// Why a stream is over.
enum Ended {
    /// The watch goes on over another.
    Broken(Failure),
    /// The watch is over.
    Final(Error),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Broken(failure)
    }
}

/// A stream that carries the watch.
struct Running {
    incoming: Incoming,
    outgoing: mpsc::Sender<Bytes>,
    /// Whether to ask for progress.
    asks: bool,
    left: CancellationToken,
}

struct Watcher {
    inner: Arc<Inner>,
    prefix: Bytes,
    /// Everything up to here was told.
    told: Revision,
    /// Events of the revision behind, of which more may come.
    held: Vec<Event>,
}

impl Watcher {
    /// Tells until the watch is over, for the reason that it returns.
    async fn follow(&mut self, mut running: Option<Running>, queue: &mpsc::Sender<Batch>) -> Error {
        let (mut pause, mut broken) = (PAUSE, None);
        loop {
            let ended = match running.take() {
                None => match self.again().await {
                    Ok(begun) => {
                        running = Some(begun);
                        continue;
                    }
                    Err(ended) => ended,
                },
                Some(mut running) => {
                    (pause, broken) = (PAUSE, None);
                    self.carry(&mut running, queue).await
                }
            };
            match ended {
                Ended::Final(error) => return error,
                Ended::Broken(failure) => {
                    if broken.get_or_insert_with(Instant::now).elapsed() > SILENT_FOR {
                        return read_failed(failure);
                    }
                    tracing::debug!(%failure, "a watch of etcd is to go on");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Begins another stream, if what was told is still a part of the cluster's history.
    async fn again(&mut self) -> Result<Running, Ended> {
        match self.inner.readable(self.told).await {
            Ok(()) => self.begin().await,
            Err(Error::Unavailable(why)) => Err(Ended::Broken(Failure::Unsent(why))),
            Err(error) => Err(Ended::Final(error)),
        }
    }

    async fn begin(&mut self) -> Result<Running, Ended> {
        let mut connection = self.inner.channel.connection().await?;
        let begun = timeout(BEGIN_WITHIN, self.open(&mut connection)).await;
        let begun = begun.unwrap_or_else(|_| Err(Failure::Lost("etcd begins no watch".into()).into()));
        if let Err(Ended::Broken(_)) = &begun {
            connection.left.cancel();
        }
        begun
    }

    async fn open(&mut self, connection: &mut Connection) -> Result<Running, Ended> {
        self.held.clear();
        let asks = connection.tells_progress;
        let first = self.inner.theirs(self.told).unwrap_or(0) + 1;
        let request = if asks {
            let key = self.inner.key(&self.prefix);
            messages::watch(&key, &end_of(&key), first)
        } else {
            messages::watch(b"\0", b"\0", first)
        };
        let (body, outgoing) = Outgoing::open(&request);
        let mut incoming = connection.stream(WATCH, body).await?;
        let told = Told::decode(incoming.message().await?).map_err(Failure::from)?;
        self.check(&told)?;
        if !told.created {
            return Err(Ended::Broken(Failure::Lost("etcd begins a watch with something else".into())));
        }
        Ok(Running { incoming, outgoing, asks, left: connection.left.clone() })
    }

    async fn carry(&mut self, running: &mut Running, queue: &mpsc::Sender<Batch>) -> Ended {
        let mut wanted = self.inner.wanted.subscribe();
        // What was wanted before has not been looked at.
        wanted.mark_changed();
        let mut ask_at: Option<Instant> = None;
        loop {
            let ask = async {
                match ask_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = running.incoming.message() => {
                    match message.and_then(|message| Ok(Told::decode(message)?)) {
                        Err(failure) => return Ended::Broken(failure),
                        Ok(told) => match self.take(told) {
                            Err(ended) => return ended,
                            Ok(None) => {}
                            Ok(Some(changes)) => {
                                if queue.send(Ok(changes)).await.is_err() {
                                    return Ended::Final(unavailable("nobody watches any more"));
                                }
                            }
                        }
                    }
                }
                () = running.left.cancelled() => {
                    return Ended::Broken(Failure::Lost("its connection was left".into()));
                }
                Ok(()) = wanted.changed(), if running.asks => {
                    if ask_at.is_none() && *wanted.borrow() > self.told {
                        ask_at = Some(Instant::now() + EVENTS_FIRST);
                    }
                }
                () = ask => {
                    ask_at = None;
                    if *wanted.borrow() > self.told {
                        // A queue that is full has one of these in it.
                        let _ = running.outgoing.try_send(framed(&messages::progress()));
                        ask_at = Some(Instant::now() + ASK_EVERY);
                    }
                }
            }
        }
    }

    fn check(&self, told: &Told) -> Result<(), Ended> {
        if told.compacted > 0 {
            let oldest = self.inner.ours(told.compacted);
            return Err(Ended::Final(Error::Compacted { requested: self.told, oldest }));
        }
        if !told.canceled {
            return Ok(());
        }
        let failure = Failure::Lost(format!("etcd ends the watch: {}", told.reason));
        match told.reason.contains("permission denied") {
            true => Err(Ended::Final(read_failed(failure))),
            false => Err(Ended::Broken(failure)),
        }
    }

    /// What a message has to tell.
    fn take(&mut self, told: Told) -> Result<Option<Changes>, Ended> {
        self.check(&told)?;
        if told.created {
            return Ok(None);
        }
        if told.events.is_empty() && !told.fragment {
            let revision = self.inner.ours(told.revision);
            let further = self.held.is_empty() && revision > self.told;
            return Ok(further.then(|| self.tell(Vec::new(), revision)));
        }
        if told.events.is_empty() {
            return Ok(None);
        }
        let mut last = told.events.last().map_or(0, |changed| changed.now.mod_revision);
        for changed in told.events {
            if let Some(event) = self.event(changed)? {
                self.held.push(event);
            }
        }
        let mut events = std::mem::take(&mut self.held);
        if told.fragment {
            // Of the last revision there may be more: it is told whole.
            let first = events.partition_point(|event| event.revision < self.inner.ours(last));
            self.held = events.split_off(first);
            last -= 1;
        }
        let revision = self.inner.ours(last);
        Ok((revision > self.told).then(|| self.tell(events, revision)))
    }

    fn tell(&mut self, events: Vec<Event>, revision: Revision) -> Changes {
        self.told = revision;
        Changes { events, revision }
    }

    /// `None`: it is of a key that is not watched.
    fn event(&self, changed: Changed) -> Result<Option<Event>, Ended> {
        let Changed { deleted, now, before } = changed;
        let theirs = now.key.strip_prefix(&*self.inner.prefix);
        if !theirs.is_some_and(|key| key.starts_with(&self.prefix)) {
            return Ok(None);
        }
        let revision = self.inner.ours(now.mod_revision);
        if before.is_none() && (deleted || now.version > 1) {
            // Compaction came past while it was on its way, and took what it replaced.
            return Err(Ended::Final(Error::Compacted { requested: self.told, oldest: revision }));
        }
        let key = now.key.slice(self.inner.prefix.len()..);
        let previous = before.and_then(|stored| self.inner.entry(stored));
        let entry = if deleted { None } else { self.inner.entry(now) };
        Ok(Some(Event { key, revision, entry, previous }))
    }
}
