//! A core module of WASI 0.1 (`wasip1`), from start to end: it begins at `_start`, and ends with the code that it says.

use wasmtime::{Engine, InstancePre, Linker, Module, Store, UpdateDeadline};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::{I32Exit, WasiCtx};

use super::LoadError;
use super::signals::Stop;
use crate::component::DeployError;
use crate::limiter::Limiter;
use crate::link::check_size;
use crate::run::CALL_BYTES;
use crate::surroundings::Surroundings;
use crate::ticker::{Running, Ticker};

/// The one module that there is to import from.
const WASI: &str = "wasi_snapshot_preview1";
/// Where a command begins.
const START: &str = "_start";

/// A running module's state.
pub(super) struct Guest {
    wasi: WasiP1Ctx,
    limiter: Limiter,
    _running: Running,
}

/// Links a module, or says what it lacks to be a command of WASI 0.1.
pub(super) fn link(engine: &Engine, module: &Module, memory: usize) -> Result<InstancePre<Guest>, LoadError> {
    let start = module.get_export(START);
    let is_command = start
        .as_ref()
        .and_then(wasmtime::ExternType::func)
        .is_some_and(|start| start.params().len() == 0 && start.results().len() == 0);
    if !is_command {
        return Err(LoadError::NoCommand);
    }
    let foreign = module.imports().filter(|import| import.module() != WASI);
    let missing: Vec<String> =
        foreign.map(|import| format!("{}::{}", import.module(), import.name())).collect();
    if !missing.is_empty() {
        return Err(LoadError::Link(DeployError::ImportsUnsatisfied { missing }));
    }
    check_size(&module.resources_required(), memory).map_err(LoadError::Link)?;
    let mut linker = Linker::new(engine);
    let linked = p1::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi).and_then(|()| {
        // Upstream's own ends a program that exits with 126 or more as if it had failed.
        linker.allow_shadowing(true);
        linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code).into())
        })?;
        linker.instantiate_pre(module)
    });
    // It imports nothing from elsewhere: what remains is a function that is not there, or differs.
    linked.map_err(|error| {
        LoadError::Link(DeployError::ImportsUnsatisfied { missing: vec![format!("{error:#}")] })
    })
}

/// Runs it, and gives its exit code: its own, 128 and the signal's number when it was asked to end, or what tells how it
/// failed.
pub(super) async fn run(
    module: &InstancePre<Guest>,
    environment: &[(String, String)],
    surroundings: &Surroundings,
    memory: usize,
    ticker: &Ticker,
    stop: Stop,
) -> i32 {
    let mut builder = WasiCtx::builder();
    builder.envs(environment);
    surroundings.grant(&mut builder);
    let guest = Guest { wasi: builder.build_p1(), limiter: Limiter::new(memory), _running: ticker.run() };
    let mut store = Store::new(module.module().engine(), guest);
    store.limiter(|guest| &mut guest.limiter);
    store.set_hostcall_fuel(CALL_BYTES);
    // At each tick of the epoch it gives its thread back, so that being asked to end is heard.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    stop.or(async {
        let outcome = async {
            let instance = module.instantiate_async(&mut store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut store, START)?;
            start.call_async(&mut store, ()).await
        }
        .await;
        match outcome {
            Ok(()) => 0,
            Err(error) => super::ended(error, store.data().limiter.refused(), memory),
        }
    })
    .await
}
