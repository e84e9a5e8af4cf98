//! Controllers and schedulers: the real ones, several of each, who stand for one lease. One that is killed comes back as another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Clock;
use pki::Identity;

use crate::chance::Chance;
use crate::link::client;
use crate::process::Process;
use crate::world::World;

/// What a contender runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The controllers.
    Controllers,
    /// The scheduler.
    Scheduler,
}

/// A place where a role runs, as one process after another.
#[derive(Debug)]
pub struct Contender {
    world: Arc<World>,
    role: Role,
    number: usize,
    process: Mutex<Arc<Process>>,
}

impl Contender {
    /// One whose first process starts now.
    pub fn start(world: &Arc<World>, role: Role, number: usize) -> Arc<Self> {
        let process = Mutex::new(process(world, role, number, 0));
        let contender = Arc::new(Self { world: world.clone(), role, number, process });
        world.tasks.spawn("contender", contender.clone().live());
        contender
    }

    fn slot(&self) -> MutexGuard<'_, Arc<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that runs now.
    pub fn process(&self) -> Arc<Process> {
        self.slot().clone()
    }

    /// The lease that it stands for.
    pub fn lease(&self) -> &'static str {
        match self.role {
            Role::Controllers => "kube-controller-manager",
            Role::Scheduler => "kube-scheduler",
        }
    }

    async fn live(self: Arc<Self>) {
        let chance = Chance::of(self.world.seed, &format!("{:?} {}", self.role, self.number));
        for life in 1.. {
            let process = self.process();
            run(&self.world, self.role, &process).await;
            self.world.trace.tell(format_args!("{} has ended", process.name));
            self.world.clock.sleep(chance.milliseconds(500, 15_000)).await;
            *self.slot() = self::process(&self.world, self.role, self.number, life);
        }
    }
}

fn process(world: &Arc<World>, role: Role, number: usize, life: usize) -> Arc<Process> {
    let part = match role {
        Role::Controllers => "controllers",
        Role::Scheduler => "scheduler",
    };
    let name = format!("{part}-{number}.{life}");
    Process::new(name.clone(), Some(name), world.clock.clone())
}

async fn run(world: &Arc<World>, role: Role, process: &Arc<Process>) {
    let (ambient, identity) = (process.ambient(world.seed), process.candidate.clone());
    let stop = process.killed.clone();
    let outcome = match role {
        Role::Controllers => {
            let client = client(world, process, Identity::ControllerManager, "kube-controller-manager");
            let root_ca = Some("simulated".to_owned());
            let settings = controllers::Settings { root_ca, ..controllers::Settings::default() };
            controllers::run(client, ambient, controllers::Options { identity, settings }, stop).await
        }
        Role::Scheduler => {
            let client = client(world, process, Identity::Scheduler, "kube-scheduler");
            let options = scheduler::Options { identity, ..scheduler::Options::default() };
            scheduler::run(client, ambient, options, stop).await
        }
    };
    if let Err(panicked) = outcome {
        world.witness.complain(panicked.to_string());
    }
}
