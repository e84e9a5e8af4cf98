//! The engine: how components are compiled and where their instances live.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;

use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::config::Pool;

/// A guest's stack of compiled code.
const WASM_STACK: usize = 512 << 10;
/// The host's frames above it.
const HOST_STACK: usize = 512 << 10;
/// Core modules, memories and tables of one component: enough for composed ones, a bound for hostile ones.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 8;
const TABLES_PER_COMPONENT: u32 = 16;
const TABLE_ELEMENTS: usize = 64 << 10;
/// Slots beyond the number of places: a place is free a moment before its slot is.
const SLACK: u32 = 32;

/// The engine cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the component engine: {0}")]
pub enum EngineError {
    /// The allocator or the compiler refused; the text says why.
    Engine(String),
    /// The directory of compiled artifacts cannot be used.
    Cache(#[from] crate::artifact::CacheError),
}

/// What compiled code depends on, besides wasmtime itself and the processor: both the serving process and the compiling
/// child make their engines from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeSettings {
    /// Address space of each linear memory.
    pub(crate) reservation: u64,
}

impl CodeSettings {
    fn config(self) -> wasmtime::Config {
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(WASM_STACK + HOST_STACK)
            .memory_reservation(self.reservation)
            .memory_init_cow(true)
            .guard_before_linear_memory(false)
            // Names of the innermost frames are enough to tell where a guest trapped; tables that map every instruction
            // to its place would make artifacts half as large again.
            .wasm_backtrace_max_frames(NonZeroUsize::new(8))
            .generate_address_map(false)
            .native_unwind_info(false);
        config
    }

    /// An engine that compiles and runs nothing.
    pub(crate) fn compiling(self) -> Result<Engine, EngineError> {
        Engine::new(&self.config()).map_err(|error| EngineError::Engine(format!("{error:#}")))
    }
}

/// Names the code that an engine makes and accepts: equal in two processes exactly if artifacts pass between them.
pub(crate) fn code_hash(engine: &Engine) -> String {
    // The standard hasher with its fixed keys: the same in every process of one build, which is what is asked of it.
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Makes the serving engine. Where address space is short (a limit on it, a small machine), it takes smaller
/// reservations, then fewer slots, and in the end allocates each instance by itself.
pub(crate) fn serving(pool: &Pool) -> Result<(Engine, CodeSettings), EngineError> {
    let whole = CodeSettings { reservation: pool.reservation.max(pool.memory as u64) };
    let short = CodeSettings { reservation: pool.memory as u64 };
    let mut attempts = vec![(whole, pool.instances), (short, pool.instances)];
    let mut instances = pool.instances;
    while instances > 16 {
        instances /= 4;
        attempts.push((short, instances.max(1)));
    }
    for (settings, instances) in attempts {
        let mut config = settings.config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool, instances)));
        match Engine::new(&config) {
            Ok(engine) => {
                if instances < pool.instances {
                    tracing::warn!(
                        instances,
                        wanted = pool.instances,
                        "address space is short: smaller instance pool"
                    );
                }
                if pool.pagemap && !PoolingAllocationConfig::is_pagemap_scan_available() {
                    tracing::info!(
                        "no PAGEMAP_SCAN (Linux 6.7, /proc/self/pagemap): instances are reset more slowly"
                    );
                }
                return Ok((engine, settings));
            }
            Err(error) => tracing::debug!(%error, instances, "instance pool not possible"),
        }
    }
    tracing::warn!("address space is short: instances are allocated one by one");
    let settings = CodeSettings { reservation: 0 };
    let engine =
        Engine::new(&settings.config()).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
    Ok((engine, settings))
}

fn pooling(pool: &Pool, instances: u32) -> PoolingAllocationConfig {
    let instances = instances.saturating_add(SLACK);
    let mut config = PoolingAllocationConfig::new();
    config
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(4)
        .max_memories_per_module(1)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(pool.memory)
        .linear_memory_keep_resident(pool.keep_resident)
        .table_keep_resident(pool.table_keep_resident)
        .pagemap_scan(if pool.pagemap { Enabled::Auto } else { Enabled::No });
    config
}
