//! The thin part: what is watched goes into the snapshot and the queue, decisions come out, and are carried out.

mod act;
mod watch;
mod world;

use crate::config::Config;
use crate::instruments::Instruments;
use client::election::{Election, ElectionConfig};
use client::kube::Client;
use client::{Ambient, EventRecorder};
use clock::{Panicked, Tasks};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use world::World;

/// Writes under way at once.
const IN_FLIGHT: usize = 64;
/// Decisions made before others on this thread get a turn.
const BURST: usize = 16;

/// How the scheduler runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Who this process is among those that could schedule; `None` runs without a lease.
    pub identity: Option<String>,
    /// Which pods are ours, and how they are placed.
    pub config: Config,
    /// What it counts, for whoever shows it.
    pub instruments: Arc<Instruments>,
}

/// Schedules until `cancel`: as long as this process holds the lease `kube-system/kube-scheduler`, or at all times
/// without an identity.
///
/// # Errors
/// When a part of it panicked: it has given up the lease and stopped, and should be started anew with its process.
pub async fn run(
    client: Client,
    ambient: Ambient,
    options: Options,
    cancel: CancellationToken,
) -> Result<(), Panicked> {
    let Some(identity) = options.identity.clone() else {
        return lead(client, ambient, options, cancel).await;
    };
    let config = ElectionConfig::new("kube-system", "kube-scheduler", identity);
    let election = Election::new(client.clone(), config, ambient.clone());
    let (stop, failed) = (cancel.child_token(), OnceLock::new());
    let lead = |leading| async {
        if let Err(panicked) = lead(client.clone(), ambient.clone(), options.clone(), leading).await {
            // Of several the first is the cause.
            let _ = failed.set(panicked);
            stop.cancel();
        }
    };
    election.run(&stop, lead).await;
    failed.into_inner().map_or(Ok(()), Err)
}

async fn lead(
    client: Client,
    ambient: Ambient,
    options: Options,
    leading: CancellationToken,
) -> Result<(), Panicked> {
    let tasks = Tasks::under(&leading);
    let name = options.config.name().to_owned();
    let scheduler = Arc::new(Scheduler {
        world: Mutex::new(World::new(options.config, options.instruments.clone())),
        wake: Notify::new(),
        claims_changed: tokio::sync::watch::Sender::new(()),
        counts: options.instruments,
        slots: Arc::new(Semaphore::new(IN_FLIGHT)),
        recorder: EventRecorder::start(client.clone(), &name, None, ambient.clone(), &tasks),
        client,
        ambient,
    });
    let listed = watch::everything(&scheduler, &tasks);
    let owner = tasks.clone();
    tasks.spawn("scheduler", async move {
        for mut listed in listed {
            // An error would mean that nobody tells of these any more: all of this ends.
            let _ = listed.wait_for(|listed| *listed).await;
        }
        scheduler.schedule(&owner).await;
    });
    let outcome = tokio::select! {
        biased;
        () = leading.cancelled() => Ok(()),
        panicked = tasks.failed() => Err(panicked),
    };
    tasks.stop().await;
    outcome
}

struct Scheduler {
    world: Mutex<World>,
    wake: Notify,
    /// Told whenever a claim changed: for pods that wait for their volumes.
    claims_changed: tokio::sync::watch::Sender<()>,
    counts: Arc<Instruments>,
    slots: Arc<Semaphore>,
    recorder: EventRecorder,
    client: Client,
    ambient: Ambient,
}

impl Scheduler {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes something in, and sees whether there is something to do now.
    fn told(&self, tell: impl FnOnce(&mut World, clock::Instant)) {
        let now = self.ambient.clock.monotonic();
        tell(&mut self.world(), now);
        self.wake.notify_one();
    }

    async fn schedule(self: Arc<Self>, tasks: &Tasks) {
        for round in 0usize.. {
            if round % BURST == 0 {
                tokio::task::yield_now().await;
            }
            // A place for the write first: what is decided must soon be done, or it was decided on old facts.
            let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
            let (now, chance) = (self.ambient.clock.monotonic(), self.ambient.random.u64());
            let decision = self.world().decide(now, chance);
            let Some(decision) = decision else {
                drop(slot);
                self.idle().await;
                continue;
            };
            // Volumes may take minutes: nobody else should wait for them.
            let slot = if decision.waits_for_volumes() { None } else { Some(slot) };
            let scheduler = self.clone();
            tasks.spawn("bind", async move {
                scheduler.carry_out(decision).await;
                drop(slot);
            });
        }
    }

    async fn idle(&self) {
        let due = self.world().queue.due();
        match due {
            None => self.wake.notified().await,
            Some(at) => tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = self.ambient.clock.sleep_until(at) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests;
