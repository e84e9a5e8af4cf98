//! A `wasi:cli` command, from start to end.

use std::sync::Arc;

use wasmtime_wasi::I32Exit;

use super::signals::Stop;
use super::{NOT_BEGUN, OUT_OF_MEMORY, TRAPPED, complain};
use crate::component::Component;
use crate::link::World;
use crate::run::{self, Ending};

/// Runs it, and gives its exit code: its own, 128 and the signal's number when it was asked to end, or what tells how it
/// failed.
pub(super) async fn run(component: &Arc<Component>, mut stop: Stop) -> i32 {
    tokio::select! {
        code = live(component) => code,
        // What it does is dropped where it stands, as a signal that nobody handles ends any program.
        signal = stop.asked() => 128 + signal,
    }
}

async fn live(component: &Arc<Component>) -> i32 {
    let World::Command(command) = &component.world else { return NOT_BEGUN };
    let Some(places) = component.enter().await else { return NOT_BEGUN };
    let mut store = run::store(component.clone(), None, places);
    let outcome = async {
        let command = command.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    }
    .await;
    match outcome {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => exit.0,
            None => {
                let (code, why) = told(run::ending(error, store.data()), component.spec.limits.memory);
                complain(&why);
                code
            }
        },
    }
}

fn told(ending: Ending, memory: usize) -> (i32, String) {
    match ending {
        Ending::Limit("memory") => {
            (OUT_OF_MEMORY, format!("the program needs more than its limit of {memory} bytes of memory"))
        }
        Ending::Limit(limit) => (TRAPPED, format!("the program exceeded its limit of {limit}")),
        Ending::Failed(why) => (TRAPPED, format!("the program failed: {why}")),
        Ending::Halted(halt) => (TRAPPED, halt.to_string()),
        Ending::Busy => (NOT_BEGUN, "no instance is free".to_owned()),
    }
}
