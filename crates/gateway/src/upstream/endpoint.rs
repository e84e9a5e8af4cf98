//! One address behind a Service, and the connections to it that wait for their next request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2;
use tokio::time::Instant;

use super::http1::Http1;
use super::{Protocol, Ways};
use crate::request::Upload;

/// How long an endpoint that could not be reached is passed over.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(super) ways: Arc<Ways>,
    under_way: AtomicUsize,
    retired: AtomicBool,
    failed: Mutex<Option<Instant>>,
    has_failed: AtomicBool,
    /// Those of each thread.
    parked: Box<[Mutex<Parked>]>,
}

#[derive(Default)]
struct Parked {
    /// The one used last comes last.
    http1: Vec<(Http1, Instant)>,
    /// The one that all requests of the thread share, and when the last of them began.
    http2: Option<(http2::SendRequest<Upload>, Instant)>,
}

/// A request under way; counts itself out.
pub(crate) struct UnderWay(pub(crate) Arc<Endpoint>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, protocol: Protocol, ways: Arc<Ways>) -> Self {
        let parked = (0..ways.threads.max(1)).map(|_| Mutex::default()).collect();
        Self {
            address,
            protocol,
            ways,
            under_way: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            failed: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            parked,
        }
    }

    /// Counts a request in.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    pub(super) fn load(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn has_room(&self) -> bool {
        self.load() < self.ways.limits.requests
    }

    /// It could not be reached.
    pub(crate) fn failed(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.has_failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_well(&self) -> bool {
        // Nearly always: the lock and the clock are for those that have failed.
        if !self.has_failed.load(Ordering::Relaxed) {
            return true;
        }
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let well = failed.is_none_or(|when| when.elapsed() >= FAILED_FOR);
        if well {
            self.has_failed.store(false, Ordering::Relaxed);
        }
        well
    }

    /// It has left: requests under way are finished, its idle connections closed, and no connection is kept any more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.forget_all();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    fn forget_all(&self) {
        for lane in &self.parked {
            let parked = std::mem::take(&mut *lane.lock().unwrap_or_else(PoisonError::into_inner));
            drop(parked);
        }
    }

    pub(super) fn sweep(&self) {
        let kept_for = self.ways.limits.kept_for;
        let fresh = |since: Instant| since.elapsed() < kept_for;
        for lane in &self.parked {
            let mut parked = lane.lock().unwrap_or_else(PoisonError::into_inner);
            parked.http1.retain_mut(|(connection, since)| fresh(*since) && connection.is_open());
            parked.http2.take_if(|(sender, since)| sender.is_closed() || !fresh(*since));
        }
    }

    fn lane(&self, thread: usize) -> MutexGuard<'_, Parked> {
        let lane = &self.parked[thread % self.parked.len()];
        lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that has waited for less than that, if there is one.
    pub(super) fn unpark_http1(&self, thread: usize, waited: Duration) -> Option<Http1> {
        let mut lane = self.lane(thread);
        while let Some((mut connection, since)) = lane.http1.pop() {
            if !connection.is_open() {
                continue;
            }
            // Those below it have waited for longer still.
            match since.elapsed() {
                age if age >= self.ways.limits.kept_for => lane.http1.clear(),
                age if age >= waited => {
                    lane.http1.push((connection, since));
                    return None;
                }
                _ => return Some(connection),
            }
        }
        None
    }

    /// Lets a connection wait for its next request.
    pub(super) fn park_http1(&self, thread: usize, connection: Http1) {
        let mut lane = self.lane(thread);
        // Looked at under the lock, which whoever retires it takes afterwards.
        if !self.is_retired() && lane.http1.len() < self.ways.limits.kept {
            lane.http1.push((connection, Instant::now()));
        }
    }

    /// The connection of a thread.
    pub(super) fn shared_http2(&self, thread: usize) -> Option<http2::SendRequest<Upload>> {
        let mut lane = self.lane(thread);
        let (sender, used) = lane.http2.as_mut()?;
        if sender.is_closed() {
            lane.http2 = None;
            return None;
        }
        *used = Instant::now();
        Some(sender.clone())
    }

    pub(super) fn share_http2(&self, thread: usize, sender: http2::SendRequest<Upload>) {
        let mut lane = self.lane(thread);
        if !self.is_retired() {
            lane.http2 = Some((sender, Instant::now()));
        }
    }

    /// Forgets the connections of a thread: one of them was found dead, and the others are as old.
    pub(super) fn forget(&self, thread: usize) {
        *self.lane(thread) = Parked::default();
    }
}
