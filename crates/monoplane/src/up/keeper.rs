//! Keeps one role running: starts it, learns when it is ready, starts it again when it ends, stops it when asked.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::child::Recipe;
use crate::notify;

/// A first restart happens at once; one that fails soon again waits longer and longer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A role that ran so long is taken to have been well.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// How long a role may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How a role is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its process, while there is one.
    pub pid: Option<u32>,
    /// Whether it has said that it serves.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
}

/// Runs the role until `stop`; `state` tells others how it is doing.
pub async fn keep(recipe: Recipe, state: watch::Sender<State>, stop: CancellationToken) -> Result<()> {
    let (socket, name) = notify::listen(recipe.role).context("making a readiness socket")?;
    let socket = UnixDatagram::from_std(socket).context("making a readiness socket")?;
    let mut delay = Duration::ZERO;
    loop {
        let started = Instant::now();
        let ended = match recipe.start(&name) {
            Ok(mut child) => {
                state.send_modify(|s| *s = State { pid: child.id(), ready: false, restarts: s.restarts });
                attend(&mut child, &socket, &state, &stop).await
            }
            // The machine may lack processes or memory just now; the rest of the plane goes on meanwhile.
            Err(error) => format!("{error:#}"),
        };
        state.send_modify(|s| *s = State { pid: None, ready: false, restarts: s.restarts + 1 });
        if stop.is_cancelled() {
            recipe.retire();
            return Ok(());
        }
        let wait = if started.elapsed() >= WELL_AFTER { Duration::ZERO } else { delay };
        delay = next(wait);
        tracing::warn!(role = recipe.role, status = %ended, restart_in = ?wait, "role ended");
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => {
                recipe.retire();
                return Ok(());
            }
        }
    }
}

fn next(delay: Duration) -> Duration {
    (delay * 2).clamp(BACKOFF.0, BACKOFF.1)
}

/// Until the child has ended; asks it to when `stop` comes.
async fn attend(
    child: &mut Child,
    socket: &UnixDatagram,
    state: &watch::Sender<State>,
    stop: &CancellationToken,
) -> String {
    let mut message = [0; 256];
    loop {
        tokio::select! {
            status = child.wait() => return match status {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            received = socket.recv(&mut message) => {
                if received.is_ok_and(|n| message[..n] == *notify::READY) {
                    state.send_modify(|s| s.ready = true);
                }
            }
            () = stop.cancelled() => return end(child).await,
        }
    }
}

async fn end(child: &mut Child) -> String {
    signal(child, Signal::TERM);
    if let Ok(status) = tokio::time::timeout(STOP_WITHIN, child.wait()).await {
        return status.map_or_else(|error| error.to_string(), |status| status.to_string());
    }
    signal(child, Signal::KILL);
    child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string())
}

fn signal(child: &Child, signal: Signal) {
    // The child is not waited for yet, so its id cannot belong to another process.
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process(pid, signal);
    }
}
