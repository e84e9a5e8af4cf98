//! The one loop that every controller lives in.

use crate::World;
use crate::actor::{ActError, Actor};
use crate::instruments::Work;
use crate::plan::{Failure, Plan};
use async_trait::async_trait;
use client::write::is_conflict;
use client::{EventRecorder, WorkQueue, kube};
use jiff::Timestamp;
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many keys of one controller are worked on at once.
const WORKERS: usize = 4;
/// A plan that asks for a time that has passed by the time it is carried out must not spin.
const SOONEST: Duration = Duration::from_millis(20);

/// One controller: how it is woken, what it looks at, and what it thinks. What it does is a value, and the runner's.
#[async_trait]
pub trait Controller: Send + Sync + Sized + 'static {
    /// The source of its events, as upstream names it.
    const NAME: &'static str;
    /// What it is woken for.
    type Key: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static;
    /// What it looks at for one key.
    type View: Send + Sync;
    /// What it must remember of a key and cannot read from the API; lost with the process or the lease.
    type Memory: Default + Send + Sync + 'static;

    /// Takes its readers from the world and puts keys into the queue when they change.
    fn wire(world: &World, queue: &Arc<WorkQueue<Self::Key>>) -> Self;

    /// What the informers hold for the key, with our own writes in flight laid over it.
    fn view(&self, key: &Self::Key) -> Self::View;

    /// What must be asked of the server each time, because no informer holds it.
    async fn observe(&self, _key: &Self::Key, _view: &mut Self::View) -> Result<(), kube::Error> {
        Ok(())
    }

    /// Returns once what it looks at besides the world's readers is complete.
    async fn ready(&self) {}

    /// Decides. Pure: the same arguments give the same plan.
    fn plan(key: &Self::Key, view: &Self::View, memory: &Self::Memory, now: Timestamp) -> Plan<Self::Memory>;

    /// Notes in the memory for the next plan that a write of this one failed.
    fn failed(_memory: &mut Self::Memory, _failure: &Failure) {}
}

#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("observe: {0}")]
    Observe(#[source] kube::Error),
    #[error(transparent)]
    Act(#[from] ActError),
    #[error(transparent)]
    Panicked(#[from] clock::Panicked),
}

pub(crate) struct Runner<C: Controller> {
    controller: C,
    queue: Arc<WorkQueue<C::Key>>,
    memories: Mutex<HashMap<C::Key, C::Memory>>,
    actor: Actor,
    work: Arc<Work>,
    world: World,
}

impl<C: Controller> Runner<C> {
    /// Wires the controller; its informers start.
    pub(crate) fn new(world: &World) -> Arc<Self> {
        let queue = WorkQueue::new(world.ambient().clone());
        let recorder = EventRecorder::start(
            world.client().clone(),
            C::NAME,
            None,
            world.ambient().clone(),
            world.tasks(),
        );
        Arc::new(Self {
            controller: C::wire(world, &queue),
            queue,
            memories: Mutex::default(),
            actor: Actor::new(world.clone(), recorder),
            work: world.settings().instruments.of(C::NAME),
            world: world.clone(),
        })
    }

    /// Starts the workers; they begin once what the controller reads is complete.
    pub(crate) fn start(self: Arc<Self>) {
        for _ in 0..WORKERS {
            let runner = self.clone();
            self.world.tasks().spawn(C::NAME, async move {
                runner.world.ready().await;
                runner.controller.ready().await;
                while let Some(working) = runner.queue.next().await {
                    runner.work(working.key()).await;
                }
            });
        }
    }

    async fn work(&self, key: &C::Key) {
        let _under_way = self.work.begin(self.queue.len(), self.world.ambient());
        // What one key makes panic must not keep the others from being worked on.
        let outcome = clock::caught(C::NAME, self.reconcile(key)).await;
        match outcome.unwrap_or_else(|panicked| Err(panicked.into())) {
            Ok(requeue_at) => {
                self.queue.forget(key);
                if let Some(at) = requeue_at {
                    let wait = at.duration_since(self.world.ambient().clock.now());
                    let wait: Duration = wait.try_into().unwrap_or_default();
                    self.queue.add_after(key.clone(), wait.max(SOONEST));
                }
            }
            Err(error) => {
                match &error {
                    ReconcileError::Act(act) if is_conflict(&act.error) => {
                        tracing::debug!(controller = C::NAME, %key, %error, "planned on an older version");
                    }
                    ReconcileError::Panicked(panicked) => {
                        tracing::error!(controller = C::NAME, %key, %panicked, "will try again");
                    }
                    _ => tracing::info!(controller = C::NAME, %key, %error, "will try again"),
                }
                self.work.failed();
                self.queue.add_failed(key.clone());
            }
        }
    }

    async fn reconcile(&self, key: &C::Key) -> Result<Option<Timestamp>, ReconcileError> {
        let mut view = self.controller.view(key);
        self.controller.observe(key, &mut view).await.map_err(ReconcileError::Observe)?;
        let memory = self.memories().remove(key).unwrap_or_default();
        let plan = C::plan(key, &view, &memory, self.world.ambient().clock.now());
        drop(view);
        if !plan.actions.is_empty() {
            tracing::debug!(controller = C::NAME, %key, actions = plan.actions.len(), "acts");
        }
        let outcome = match plan.independent {
            true => self.actor.perform_independently(plan.actions).await,
            false => self.actor.perform(plan.actions).await,
        };
        let mut memory = plan.memory;
        if let Err(error) = &outcome
            && !is_conflict(&error.error)
        {
            C::failed(memory.get_or_insert_default(), &error.failure);
        }
        if let Some(memory) = memory {
            self.memories().insert(key.clone(), memory);
        }
        outcome?;
        Ok(plan.requeue_at)
    }

    fn memories(&self) -> MutexGuard<'_, HashMap<C::Key, C::Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use client::Ambient;
    use clock::{ManualClock, SeededRandom, Tasks};
    use testkit::FakeApi;
    use tokio::sync::mpsc;

    /// Tells which keys it looks at; panics over `bad`.
    struct Fragile(mpsc::UnboundedSender<String>);

    impl Controller for Fragile {
        const NAME: &'static str = "fragile";
        type Key = String;
        type View = mpsc::UnboundedSender<String>;
        type Memory = ();

        fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
            let (told, mut looked_at) = mpsc::unbounded_channel();
            let (queue, over) = (queue.clone(), world.tasks().token().clone());
            queue.add("bad".to_owned());
            world.tasks().spawn("test", async move {
                // Once it has been tried again it is another key's turn, until all workers had their chance to die.
                for turn in 0.. {
                    let Some(key) = looked_at.recv().await else { return };
                    if turn == 2 * WORKERS {
                        queue.add("good".to_owned());
                    }
                    if key == "good" {
                        return over.cancel();
                    }
                }
            });
            Self(told)
        }

        fn view(&self, _key: &String) -> Self::View {
            self.0.clone()
        }

        fn plan(key: &String, told: &Self::View, (): &(), _now: Timestamp) -> Plan<()> {
            told.send(key.clone()).unwrap();
            assert_ne!(key, "bad", "a mistake in a plan");
            Plan::default()
        }
    }

    #[tokio::test]
    async fn a_key_that_panics_is_tried_again_and_keeps_no_other_waiting() {
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap()));
        let ambient = Ambient { clock: clock.clone(), random: Arc::new(SeededRandom::new(1)) };
        let tasks = Tasks::default();
        let client = FakeApi::new(ambient.clone()).client();
        let world = World::new(client, ambient, Settings::default(), tasks.clone());
        Runner::<Fragile>::new(&world).start();
        while !tasks.token().is_cancelled() {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        }
        tasks.stop().await;
    }
}
