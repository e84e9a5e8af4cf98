//! What befalls the plane while it is stormy: processes stall, are cut off or die, and so do machines, the server and its store.

use std::sync::Arc;

use clock::Clock;
use store::Store;

use crate::chance::Chance;
use crate::contender::Contender;
use crate::node::Machine;
use crate::process::Process;
use crate::world::World;

/// All that things can befall.
#[derive(Debug)]
pub struct Storm {
    world: Arc<World>,
    chance: Chance,
    contenders: Vec<Arc<Contender>>,
    machines: Vec<Arc<Machine>>,
}

impl Storm {
    /// One that has not begun.
    pub fn new(world: &Arc<World>, contenders: Vec<Arc<Contender>>, machines: Vec<Arc<Machine>>) -> Self {
        Self { world: world.clone(), chance: Chance::of(world.seed, "storm"), contenders, machines }
    }

    /// Goes on until it is dropped.
    pub async fn rage(&self) {
        loop {
            self.world.clock.sleep(self.chance.milliseconds(200, 8_000)).await;
            match self.chance.below(100) {
                0..25 => self.stall_a_leader(),
                25..32 => self.kill_a_contender(),
                32..45 => self.cut_off(),
                45..60 => self.switch_a_machine().await,
                60..66 => {
                    self.world.kill_server().await;
                    self.world.clock.sleep(self.chance.milliseconds(50, 5_000)).await;
                    self.world.start_server().await;
                }
                66..78 => {
                    self.world.trace.tell(format_args!("the store's watches break"));
                    self.world.disk.sever();
                }
                78..88 => self.compact().await,
                _ => {
                    self.world.trace.tell(format_args!("the disk fails now and then"));
                    self.world.disk.set_stormy(true);
                    self.world.clock.sleep(self.chance.milliseconds(100, 6_000)).await;
                    self.world.disk.set_stormy(false);
                }
            }
        }
    }

    /// Makes everything work again.
    pub async fn calm(&self) {
        self.world.set_stormy(false);
        self.world.disk.set_stormy(false);
        if self.world.server().is_none() {
            self.world.start_server().await;
        }
        self.machines.iter().for_each(|machine| machine.switch_on());
    }

    fn stall_a_leader(&self) {
        let contender = self.chance.pick(&self.contenders);
        let of_one_lease = self.contenders.iter().filter(|other| other.lease() == contender.lease());
        let leads = |process: &Arc<Process>| {
            self.world.witness.leads(contender.lease(), process.candidate.as_deref())
        };
        let process = of_one_lease.map(|contender| contender.process()).find(leads);
        let process = process.unwrap_or_else(|| contender.process());
        let lasts = self.chance.milliseconds(1_000, 40_000);
        self.world.trace.tell(format_args!("{} stalls for {lasts:?}", process.name));
        process.freeze(lasts);
    }

    fn kill_a_contender(&self) {
        let process = self.chance.pick(&self.contenders).process();
        self.world.trace.tell(format_args!("{} is killed", process.name));
        process.killed.cancel();
    }

    fn cut_off(&self) {
        let machines = self.machines.iter().filter_map(|machine| machine.process());
        let processes: Vec<_> =
            self.contenders.iter().map(|contender| contender.process()).chain(machines).collect();
        let process = self.chance.pick(&processes);
        let lasts = self.chance.milliseconds(500, 30_000);
        self.world.trace.tell(format_args!("{} is cut off for {lasts:?}", process.name));
        process.cut_off(lasts);
    }

    async fn switch_a_machine(&self) {
        let machine = self.chance.pick(&self.machines);
        if machine.process().is_some() {
            self.world.trace.tell(format_args!("{} loses power", machine.name()));
            machine.switch_off().await;
        } else {
            self.world.trace.tell(format_args!("{} is on again", machine.name()));
            machine.switch_on();
        }
    }

    async fn compact(&self) {
        let memory = self.world.disk.memory();
        // The store of a simulation does not fail by itself.
        let Ok(head) = memory.head().await else { return };
        let kept = u64::try_from(self.chance.below(50)).unwrap_or(0);
        self.world.trace.tell(format_args!("all but {kept} revisions are compacted"));
        let _ = memory.compact(head.saturating_sub(kept)).await;
    }
}
