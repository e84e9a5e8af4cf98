//! A `wasi:cli` command, from start to end.

use std::sync::Arc;

use super::signals::Stop;
use super::{NOT_BEGUN, ended};
use crate::component::Component;
use crate::link::World;
use crate::run;

/// Runs it, and gives its exit code: its own, 128 and the signal's number when it was asked to end, or what tells how it
/// failed.
pub(super) async fn run(component: &Arc<Component>, stop: Stop) -> i32 {
    stop.or(live(component)).await
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
        Err(error) => ended(error, store.data().limiter.refused(), component.spec.limits.memory),
    }
}
