//! One simulation, from its seed to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clock::Clock;

use crate::chance::Chance;
use crate::contender::{Contender, Role};
use crate::link::LATEST;
use crate::node::Machine;
use crate::plane::{Foundation, NODES};
use crate::sabotage::Sabotage;
use crate::storm::Storm;
use crate::time::SimulatedClock;
use crate::workload::User;
use crate::world::World;

/// How long a plane may take, after the storm, until all is as it should be: a node's silence, the tolerations of its pods and
/// the longest back-off fit in.
const SETTLES: Duration = Duration::from_secs(900);
/// How often it is looked.
const LOOKS: Duration = Duration::from_secs(2);
/// How long nobody may have anything to do after that.
const RESTS: Duration = Duration::from_secs(20);

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What should not have happened, if something did.
    pub violation: Option<String>,
    /// The hash of all steps: the same for the same seed.
    pub hash: String,
    /// The steps.
    pub trace: Vec<String>,
    /// How much time passed in it.
    pub simulated: Duration,
}

/// Runs the simulation of a seed, with a bug on purpose or without.
///
/// # Errors
/// When it cannot be run.
pub fn simulate(seed: u64, sabotage: Option<Sabotage>) -> Result<Outcome> {
    let foundation = Foundation::get()?;
    let world = World::new(seed, sabotage, foundation);
    block_on(&world.clock.clone(), async {
        let failed = live(&world).await.err();
        let violation = world.witness.violation().or(failed);
        let (hash, trace) = (world.trace.hash(), world.trace.lines());
        let simulated = world.clock.elapsed();
        world.kill_server().await;
        Ok(Outcome { seed, violation, hash, trace, simulated })
    })
}

/// Runs it on one thread; time goes on when nothing else does. What is left of it at the end is dropped.
pub(crate) fn block_on<T>(clock: &Arc<SimulatedClock>, future: impl Future<Output = Result<T>>) -> Result<T> {
    let jumping = clock.clone();
    let runtime =
        tokio::runtime::Builder::new_current_thread().on_thread_park(move || jumping.jump()).build()?;
    runtime.block_on(future)
}

async fn live(world: &Arc<World>) -> Result<(), String> {
    world.start_server().await;
    let machines: Vec<_> = NODES.iter().map(|name| Machine::new(world, name)).collect();
    machines.iter().take(3).for_each(|machine| machine.switch_on());
    let contenders: Vec<_> = [Role::Controllers, Role::Scheduler]
        .into_iter()
        .flat_map(|role| [0, 1].map(|number| Contender::start(world, role, number)))
        .collect();
    let user = User::new(world);
    let storm = Storm::new(world, contenders, machines);
    user.begin().await;
    let chance = Chance::of(world.seed, "run");
    let ends = world.clock.monotonic() + chance.milliseconds(25_000, 75_000);
    world.set_stormy(true);
    tokio::select! {
        biased;
        () = world.clock.sleep_until(ends) => {}
        () = storm.rage() => {}
        () = work(world, &user, &chance) => {}
    }
    world.trace.tell(format_args!("the storm is over"));
    storm.calm().await;
    // What was sent in it still arrives.
    world.clock.sleep(2 * LATEST).await;
    user.end().await;
    settle(world).await
}

async fn work(world: &World, user: &User, chance: &Chance) {
    loop {
        world.clock.sleep(chance.milliseconds(50, 3_000)).await;
        user.step().await;
        if world.witness.violation().is_some() {
            // What follows would only hide it.
            return;
        }
    }
}

/// Waits until all is as it should be, and stays so without anybody's doing.
async fn settle(world: &World) -> Result<(), String> {
    let deadline = world.clock.monotonic() + SETTLES;
    loop {
        if let Some(violation) = world.witness.violation() {
            return Err(violation);
        }
        let missing = world.witness.unsettled();
        if missing.is_empty() {
            break;
        }
        if world.clock.monotonic() > deadline {
            return Err(format!("not settled after {SETTLES:?}: {}", missing.join("; ")));
        }
        world.clock.sleep(LOOKS).await;
    }
    world.trace.tell(format_args!("all is settled"));
    rest(world).await
}

async fn rest(world: &World) -> Result<(), String> {
    // What was under way may end.
    world.clock.sleep(RESTS).await;
    let from = world.clock.elapsed();
    world.clock.sleep(RESTS).await;
    let missing = world.witness.unsettled();
    if !missing.is_empty() {
        return Err(format!("it did not stay settled: {}", missing.join("; ")));
    }
    match world.witness.last_work() {
        Some((at, work)) if at > from => Err(format!("something is done though nothing is to do: {work}")),
        _ => Ok(()),
    }
}
