//! What the parts of one simulation share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clock::Tasks;
use http::request::Parts;

use crate::chance::Chance;
use crate::disk::Disk;
use crate::link::Sent;
use crate::plane::{Foundation, Server, beginning};
use crate::process::Process;
use crate::sabotage::Sabotage;
use crate::time::SimulatedClock;
use crate::trace::Trace;
use crate::witness::Witness;

/// One simulated plane, with all that happens to it.
#[derive(Debug)]
pub struct World {
    /// What all chance comes from.
    pub seed: u64,
    /// Time.
    pub clock: Arc<SimulatedClock>,
    /// What happened.
    pub trace: Arc<Trace>,
    /// Who looks on.
    pub witness: Arc<Witness>,
    /// The store.
    pub disk: Arc<Disk>,
    /// Everything that runs, but what processes own themselves.
    pub tasks: Tasks,
    /// What the plane began with.
    pub foundation: &'static Foundation,
    sabotage: Option<Sabotage>,
    server: Mutex<Option<Arc<Server>>>,
    stormy: AtomicBool,
}

impl World {
    /// An empty one, without a server.
    pub fn new(seed: u64, sabotage: Option<Sabotage>, foundation: &'static Foundation) -> Arc<Self> {
        let clock = Arc::new(SimulatedClock::new(beginning(), seed));
        let trace = Arc::new(Trace::new(clock.clone()));
        let memory = foundation.objects();
        let witness = Arc::new(Witness::new(clock.clone(), trace.clone(), &memory));
        let disk = Arc::new(Disk::new(memory, clock.clone(), seed, witness.clone()));
        Arc::new(Self {
            seed,
            clock,
            trace,
            witness,
            disk,
            tasks: Tasks::default(),
            foundation,
            sabotage,
            server: Mutex::default(),
            stormy: AtomicBool::new(false),
        })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Server>>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server, while there is one.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.slot().clone()
    }

    /// Starts the server; tries for as long as the store fails.
    pub async fn start_server(self: &Arc<Self>) {
        for life in 1.. {
            let random = Chance::random(self.seed, &format!("server {life} {:?}", self.clock.elapsed()));
            let started = Server::start(self.foundation, self.disk.clone(), self.clock.clone(), random).await;
            match started {
                Ok(server) => {
                    self.trace.tell(format_args!("the server is up"));
                    *self.slot() = Some(Arc::new(server));
                    return;
                }
                Err(error) => self.trace.tell(format_args!("the server does not start: {error:#}")),
            }
        }
    }

    /// Kills the server, if there is one.
    pub async fn kill_server(&self) {
        let server = self.slot().take();
        if let Some(server) = server {
            self.trace.tell(format_args!("the server is killed"));
            server.kill().await;
        }
    }

    /// Whether things go wrong now.
    pub fn is_stormy(&self) -> bool {
        self.stormy.load(Ordering::Relaxed)
    }

    /// Begins or ends the time in which things go wrong.
    pub fn set_stormy(&self, stormy: bool) {
        self.stormy.store(stormy, Ordering::Relaxed);
    }

    /// A request, as the saboteur lets it through.
    pub fn tampered(&self, process: &Process, parts: Parts, body: Bytes) -> (Parts, Bytes) {
        match self.sabotage {
            Some(sabotage) => sabotage.request(&self.witness, process, parts, body),
            None => (parts, body),
        }
    }

    /// An answer, as the saboteur lets it through.
    pub fn tampered_answer(&self, sent: &Sent, body: Bytes) -> Bytes {
        self.sabotage.map_or(body.clone(), |sabotage| sabotage.answer(sent, body))
    }

    /// What a watch tells, as the saboteur lets it through.
    pub fn tampered_news(&self, sent: &Sent, data: Bytes) -> Bytes {
        self.sabotage.map_or(data.clone(), |sabotage| sabotage.news(sent, data))
    }
}
