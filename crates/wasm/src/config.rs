//! What a host is made of.

use std::path::PathBuf;
use std::sync::Arc;

use clock::{Clock, Random, SystemClock, SystemRandom};
use egress::Connector;

use crate::artifact::MacKey;
use crate::compile::Compiler;
use crate::logs::{LogSink, TracingLogs};

/// Everything a [`crate::Host`] needs from whoever starts it.
pub struct Config {
    /// Where compiled artifacts are kept. Made if absent, readable by the owner only.
    pub cache_dir: PathBuf,
    /// Authenticates artifacts: nothing in the cache is loaded as machine code without a tag made with it.
    pub key: MacKey,
    /// How to start the child process that compiles.
    pub compiler: Compiler,
    /// The way out for guests' HTTP requests.
    pub egress: Connector,
    /// Where guests' standard output and error go.
    pub logs: Arc<dyn LogSink>,
    /// Sizes of the instance pool.
    pub pool: Pool,
    /// What durable guests read as the time. The others read the machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// Where durable guests' randomness comes from. The others' comes from the machine.
    pub random: Arc<dyn Random>,
}

impl Config {
    /// A configuration with a pool sized to this machine and logs sent to `tracing`.
    pub fn new(cache_dir: impl Into<PathBuf>, key: MacKey, compiler: Compiler, egress: Connector) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            key,
            compiler,
            egress,
            logs: Arc::new(TracingLogs),
            pool: Pool::for_this_machine(),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom::default()),
        }
    }
}

/// How many instances can live at a time, and what the pool keeps warm. Slots are address space, not memory: a thousand
/// idle ones cost about 22 MB, most of it the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Component instances at a time, over all components.
    pub instances: u32,
    /// The largest linear memory that any component may be given, in bytes. A component's own limit lies below.
    pub memory: usize,
    /// Address space set aside for each linear memory. At 4 GiB bounds checks cost nothing; less makes the host fit into
    /// a short address space at the price of checks in compiled code.
    pub reservation: u64,
    /// Bytes of a slot's memory that are reset by copying instead of being given back to the system.
    pub keep_resident: usize,
    /// Bytes of a slot's table treated likewise.
    pub table_keep_resident: usize,
    /// Whether the kernel may be asked which pages an instance has written (it is where it can be). Not for a pool that is
    /// made before its process forks: the answer would be about the wrong process.
    pub pagemap: bool,
}

impl Pool {
    /// 4 GiB of address space a memory: no bounds checks in compiled code.
    pub const FULL_RESERVATION: u64 = 4 << 30;

    /// A pool for the cores that this process may use: 500 instances a core, 1,000 at least and 4,000 at most.
    pub fn for_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            instances: u32::try_from(cores.saturating_mul(500)).unwrap_or(u32::MAX).clamp(1_000, 4_000),
            ..Self::default()
        }
    }

    /// The most instances that one component gets at a time: three in four, so that one whose guests all wait leaves
    /// room for the others.
    pub(crate) fn share(&self) -> u32 {
        self.instances - self.instances / 4
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            instances: 1_000,
            memory: 1 << 30,
            reservation: Self::FULL_RESERVATION,
            keep_resident: 4 << 20,
            table_keep_resident: 64 << 10,
            pagemap: true,
        }
    }
}
