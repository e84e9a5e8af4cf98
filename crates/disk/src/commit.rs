//! Group commit: the queue in front of the engine, and the thread that empties it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::bell::Bell;
use crate::shrink::{PAUSE, Shrinking};
use crate::{Batch, Engine, Error, OpenError, Options, Reader, Snapshot, Sqlite, Table};

/// Bytes that may wait in the queue before writers have to.
const QUEUE_BYTES: usize = 16 << 20;
/// What an entry of the queue counts beside its bytes: bounds the number of small batches that wait.
const ENTRY_BYTES: usize = 1024;
/// Bytes that one group takes at most, so that the first in it does not wait long for the last.
const GROUP_BYTES: usize = 4 << 20;
/// How often a full device is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// With how many a patient batch has to share its fsync for the wait to have been worth it.
const COMPANY: usize = 16;
/// For how long nobody waits for company once a wait was not: a client that writes one object after the other, and says that
/// each may wait, would never see company, and its next write only after each wait.
const ALONE: Duration = Duration::from_secs(5);

/// Called in queue order, on the writer's thread, once the batch is durable or has failed. Must be brief, and must not
/// wait for the disk.
struct Done(Option<Call>);

type Call = Box<dyn FnOnce(Result<(), Error>) + Send>;

impl Done {
    fn call(mut self, result: Result<(), Error>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Done {
    /// Left in the queue when the writer ended: it is called all the same, because somebody may wait for it.
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(Error::Closed));
        }
    }
}

enum Request {
    Commit { batch: Batch, done: Done, room: OwnedSemaphorePermit },
    Shrink(oneshot::Sender<Result<(), Error>>),
    Close(oneshot::Sender<Result<(), Error>>),
}

/// An open file. Clones are handles to the same one; when the last is dropped the queue is written out and the file
/// closed in the background. [`Disk::close`] waits for that, and only then can the file be opened again.
#[derive(Clone)]
pub struct Disk {
    queue: Sender<Request>,
    bell: Arc<Bell>,
    room: Arc<Semaphore>,
    full: watch::Receiver<bool>,
    reader: Arc<dyn Reader>,
}

impl Drop for Disk {
    /// If it was the last, the writer has to notice.
    fn drop(&mut self) {
        self.bell.ring();
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

/// Room in the queue for one batch. Batches reach the disk in the order in which reservations are turned in, whatever
/// the order they were made in, so an owner can take a reservation, decide under a lock, and submit without waiting.
#[derive(Debug)]
pub struct Reservation {
    queue: Sender<Request>,
    bell: Arc<Bell>,
    room: OwnedSemaphorePermit,
}

impl Reservation {
    /// Queues the batch. If this returns `Ok`, `done` is called exactly once, in queue order, on the writer's thread, and
    /// must be brief. It is called whether or not anybody still waits: what an owner has to do after each commit belongs
    /// there. It is never called from within this function, so a lock may be held here that it takes.
    pub fn submit(
        self,
        batch: Batch,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let patience = batch.patience();
        // Enough for a group, whoever else waits.
        let enough = self.room.semaphore().available_permits() + GROUP_BYTES <= QUEUE_BYTES;
        let request = Request::Commit { batch, done: Done(Some(Box::new(done))), room: self.room };
        let sent = self.queue.send(request).map_err(|refused| {
            if let Request::Commit { mut done, .. } = refused.0 {
                // The error that is returned says it; a lock may be held here that `done` takes.
                done.0 = None;
            }
            Error::Closed
        });
        self.bell.ring_within(if enough { Duration::ZERO } else { patience });
        sent
    }
}

impl Disk {
    /// Opens the file, or makes it, with these tables. Tables that it has beside them are left alone.
    pub fn open(options: &Options, tables: &[Table]) -> Result<Self, OpenError> {
        let engine = Sqlite::open(options, tables)?;
        Self::start(Box::new(engine)).map_err(|error| OpenError::Io {
            path: options.path.clone(),
            detail: format!("cannot start the writer's thread: {error}"),
        })
    }

    /// Puts the queue in front of an engine.
    pub fn start(engine: Box<dyn Engine>) -> std::io::Result<Self> {
        let (queue, requests) = channel();
        let reader = engine.reader();
        let (filling, full) = watch::channel(false);
        let (group, bell) = (Group::default(), Arc::new(Bell::default()));
        let writer = Writer {
            engine,
            requests,
            bell: bell.clone(),
            full: filling,
            group,
            alone_until: None,
            shrinking: None,
            failed: None,
            closing: None,
        };
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || writer.run())?;
        bell.hang(thread.thread());
        Ok(Self { queue, bell, room: Arc::new(Semaphore::new(QUEUE_BYTES)), full, reader })
    }

    /// Whether what is queued waits for room on the device. Owners whose callers had better hear of it at once than wait
    /// ask before they queue more.
    pub fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Returns once that is so.
    pub async fn filled(&self) {
        if self.full.clone().wait_for(|full| *full).await.is_err() {
            // The writer's thread has ended: whoever waits for it has been told.
            std::future::pending().await
        }
    }

    /// Waits for room in the queue for a batch of about `size` bytes.
    pub async fn reserve(&self, size: usize) -> Result<Reservation, Error> {
        // A batch greater than the whole queue waits until it has the queue for itself.
        let cost = u32::try_from((size + ENTRY_BYTES).min(QUEUE_BYTES)).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(cost).await.map_err(|_| Error::Closed)?;
        Ok(Reservation { queue: self.queue.clone(), bell: self.bell.clone(), room })
    }

    /// Writes the batch and returns when it is durable. Dropping the future does not undo it once it is queued.
    pub async fn commit(&self, batch: Batch) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        let reservation = self.reserve(batch.size()).await?;
        reservation.submit(batch, move |result| {
            // Nobody listens any more if the caller was dropped, and the batch stands all the same.
            let _ = done.send(result);
        })?;
        outcome.await.unwrap_or(Err(Error::Closed))
    }

    /// A fixed view of everything that was durable when this was called, or later. Costs microseconds, as do its point
    /// reads of what the page cache holds; what is not there is read from the disk on the calling thread.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.reader.snapshot()
    }

    /// Gives space that is free in the file back to the file system, down to what the next writes are likely to need
    /// ([`Options::spare_bytes`]), and shortens the write-ahead log. Returns at once where there is little to give back or
    /// another call is at it. Otherwise it goes in steps of a few milliseconds between groups, for a minute at most: the
    /// next call goes on. A kill at any moment leaves the file whole.
    ///
    /// # Errors
    /// [`Error::NoRoom`] changes nothing, and writing goes on; after [`Error::Failed`] nothing more is written.
    pub async fn shrink(&self) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        self.queue.send(Request::Shrink(done)).map_err(|_| Error::Closed)?;
        self.bell.ring();
        outcome.await.unwrap_or(Err(Error::Closed))
    }

    /// Writes out what is queued and closes the file. Batches queued later fail with [`Error::Closed`].
    pub async fn close(&self) -> Result<(), Error> {
        self.room.close();
        let (done, outcome) = oneshot::channel();
        if self.queue.send(Request::Close(done)).is_err() {
            return Ok(());
        }
        self.bell.ring();
        outcome.await.unwrap_or(Ok(()))
    }
}

/// Empties the queue until it is closed: everything that came in while one group was being synced is the next group, and so is
/// what comes while all that is in it may wait.
struct Writer {
    engine: Box<dyn Engine>,
    requests: Receiver<Request>,
    bell: Arc<Bell>,
    full: watch::Sender<bool>,
    group: Group,
    /// Until when nobody waits for company.
    alone_until: Option<Instant>,
    /// Space is being given back.
    shrinking: Option<Shrinking>,
    /// Why nothing is written any more.
    failed: Option<Error>,
    /// Who waits for the end.
    closing: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Writer {
    fn run(mut self) {
        let mut abandoned = false;
        while self.closing.is_none() && !abandoned {
            match self.next() {
                Ok(first) => self.take(first),
                Err(RecvTimeoutError::Timeout) => self.count_company(),
                Err(RecvTimeoutError::Disconnected) => abandoned = true,
            }
            while self.closing.is_none() && self.group.bytes < GROUP_BYTES {
                let Ok(next) = self.requests.try_recv() else { break };
                self.take(next);
            }
            if !abandoned && self.may_wait() {
                continue;
            }
            let is_idle = self.group.batches.is_empty();
            if self.failed.is_none()
                && !is_idle
                && let Err(error) = self.apply()
            {
                self.fail(error);
            }
            self.group.finish(&self.failed.clone().map_or(Ok(()), Err));
            self.shrink(is_idle);
        }
        let closed = self.engine.close();
        if let Err(error) = &closed {
            tracing::warn!(%error, "closing the engine failed; nothing that was acknowledged is lost");
        }
        if let Some(done) = self.closing {
            let _ = done.send(self.failed.map_or(closed, Err));
        }
    }

    /// Waits for a request; while space is being given back or somebody waits for company, only for a while.
    fn next(&self) -> Result<Request, RecvTimeoutError> {
        match (self.group.due, &self.shrinking) {
            (Some(due), _) => self.bell.sleep(due, &self.requests),
            (None, Some(_)) => self.requests.recv_timeout(PAUSE),
            (None, None) => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Whether nobody in the group minds if more come first, and more are likely to.
    fn may_wait(&self) -> bool {
        let has_room = self.closing.is_none() && self.failed.is_none() && self.group.bytes < GROUP_BYTES;
        let now = Instant::now();
        let has_company = self.alone_until.is_none_or(|until| until <= now);
        has_room && has_company && self.group.due.is_some_and(|due| due > now)
    }

    /// Learns from a wait that has ended.
    fn count_company(&mut self) {
        let count = self.group.batches.len();
        if count > 0 {
            self.alone_until = (count < COMPANY).then(|| Instant::now() + ALONE);
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Close(done) => self.closing = Some(done),
            Request::Shrink(done) if self.shrinking.is_none() => self.shrinking = Some(Shrinking::new(done)),
            Request::Shrink(done) => {
                let _ = done.send(Ok(()));
            }
            Request::Commit { batch, done, room } => self.group.push(batch, done, room, &*self.engine),
        }
    }

    /// Makes a step of giving space back, if one is due.
    fn shrink(&mut self, is_idle: bool) {
        if self.closing.is_some() {
            return;
        }
        let Some(shrinking) = self.shrinking.take() else { return };
        match &self.failed {
            Some(failed) => shrinking.end(Err(failed.clone())),
            None => match shrinking.step(is_idle, &mut *self.engine) {
                Ok(shrinking) => self.shrinking = shrinking,
                Err(error) => self.fail(error),
            },
        }
    }

    fn fail(&mut self, error: Error) {
        tracing::error!(%error, "the engine failed; nothing more is written until it is opened again");
        self.failed = Some(error);
    }

    /// Applies the group. While there is no room on the device it waits, and takes what comes meanwhile into the group,
    /// which the queue bounds; the end of the queue is not waited beyond.
    fn apply(&mut self) -> Result<(), Error> {
        let mut last = self.closing.is_some();
        loop {
            let applied = self.engine.apply(&self.group.batches);
            let full = matches!(applied, Err(Error::NoRoom(_)));
            match (&applied, self.full.send_replace(full)) {
                (Err(error), false) if full => tracing::error!(%error, "waiting until there is room again"),
                (Ok(()), true) => tracing::info!("there is room on the device again"),
                _ => {}
            }
            if !full || last {
                return applied;
            }
            match self.requests.recv_timeout(AGAIN) {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => last = true,
            }
            last |= self.closing.is_some();
        }
    }
}

#[derive(Default)]
struct Group {
    batches: Vec<Batch>,
    waiting: Vec<(Done, OwnedSemaphorePermit)>,
    bytes: usize,
    /// When the first of them has waited for as long as it may.
    due: Option<Instant>,
}

impl Group {
    fn push(&mut self, batch: Batch, done: Done, room: OwnedSemaphorePermit, engine: &dyn Engine) {
        // Its writer's mistake: the others in the group must not pay for it.
        if let Some(stray) = batch.tables().find(|table| !engine.knows(*table)) {
            done.call(Err(Error::NoTable(stray.name())));
            return;
        }
        self.bytes += batch.size();
        let due = Instant::now() + batch.patience();
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        self.batches.push(batch);
        self.waiting.push((done, room));
    }

    fn finish(&mut self, result: &Result<(), Error>) {
        (self.bytes, self.due) = (0, None);
        self.batches.clear();
        for (done, room) in self.waiting.drain(..) {
            drop(room);
            done.call(result.clone());
        }
    }
}
