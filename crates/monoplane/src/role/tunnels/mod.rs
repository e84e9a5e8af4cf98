//! The tunnels that a node which has joined keeps to its servers: over them they reach its kubelet and its pods, whether or not
//! they could reach the machine.
//!
//! Begin with [`keep`].

mod connect;
mod reach;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Ambient, Backoff, Servers};
use clock::Tasks;
use http::Uri;
use tokio_util::sync::CancellationToken;

pub use connect::Door;
pub use reach::Reach;

/// How often it is looked which servers there are.
const EVERY: Duration = Duration::from_secs(5);
/// How soon a tunnel that has ended is tried again, and how late.
const SOON: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_secs(15);
/// One that lived for so long is begun again soon.
const LIVED: Duration = Duration::from_secs(10);

/// What tunnels are made of.
pub struct Parts {
    /// The servers that there are.
    pub servers: Servers,
    /// How the node proves to servers who it is.
    pub door: Door,
    /// What leads through a tunnel.
    pub reach: Reach,
    /// Clock and randomness.
    pub ambient: Ambient,
}

/// Keeps a tunnel to each server that there is.
pub async fn keep(parts: Parts, tasks: Tasks) {
    let parts = Arc::new(parts);
    let mut kept: HashMap<Uri, CancellationToken> = HashMap::new();
    loop {
        let servers = parts.servers.all();
        kept.retain(|server, end| {
            let stays = servers.contains(server);
            if !stays {
                end.cancel();
            }
            stays
        });
        for server in servers {
            if kept.contains_key(&server) {
                continue;
            }
            let (parts, end) = (parts.clone(), tasks.token().child_token());
            kept.insert(server.clone(), end.clone());
            tasks.spawn("tunnel", async move {
                end.run_until_cancelled(keep_one(&parts, &server)).await;
            });
        }
        parts.ambient.clock.sleep(EVERY).await;
    }
}

/// One after the other, to one server.
async fn keep_one(parts: &Parts, server: &Uri) {
    let Ambient { clock, random } = &parts.ambient;
    let mut backoff = Backoff::new(SOON, LATE);
    loop {
        let began = clock.monotonic();
        let why = match parts.door.connect(server, &parts.ambient).await {
            Ok(connection) => {
                tracing::info!(%server, "there is a tunnel to the server");
                let ended = tunnel::answer(connection, clock.clone(), |to| parts.reach.dial(to, clock)).await;
                ended.err().map_or_else(|| "the server ended it".to_owned(), |error| error.to_string())
            }
            Err(error) => format!("{error:#}"),
        };
        if clock.monotonic().since(began) >= LIVED {
            backoff.reset();
        }
        if backoff.failures() == 0 {
            tracing::info!(%server, why, "there is no tunnel to the server; trying again");
        }
        clock.sleep(backoff.next(random.u64())).await;
    }
}
