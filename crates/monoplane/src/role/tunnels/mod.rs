//! The tunnels that a node which has joined keeps to its servers: over them they reach its kubelet and its pods, whether or not
//! they could reach the machine.
//!
//! Begin with [`keep`].

mod connect;
mod reach;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use api::k8s::api::core::v1::Endpoints;
use client::{Ambient, Api, Backoff, Client};
use clock::Tasks;
use tokio_util::sync::CancellationToken;

pub use connect::Door;
pub use reach::Reach;

/// How often it is looked which servers there are.
const EVERY: Duration = Duration::from_secs(15);
/// How soon a tunnel that has ended is tried again, and how late.
const SOON: Duration = Duration::from_millis(250);
const LATE: Duration = Duration::from_secs(15);
/// One that lived for so long is begun again soon.
const LIVED: Duration = Duration::from_secs(10);

/// What tunnels are made of.
pub struct Parts {
    /// The API, as the node.
    pub client: Client,
    /// The server that was joined.
    pub server: String,
    /// How the node proves to servers who it is.
    pub door: Door,
    /// What leads through a tunnel.
    pub reach: Reach,
    /// Clock and randomness.
    pub ambient: Ambient,
}

/// Keeps a tunnel to each server that there is: the one that was joined, and those that the API knows of.
pub async fn keep(parts: Parts, tasks: Tasks) {
    let parts = Arc::new(parts);
    let mut running: BTreeMap<String, CancellationToken> = BTreeMap::new();
    let mut known = BTreeSet::new();
    loop {
        match others(&parts.client).await {
            Ok(others) => known = others,
            Err(error) => tracing::debug!(%error, "it is not known which servers there are"),
        }
        known.insert(parts.server.clone());
        running.retain(|server, end| {
            let stays = known.contains(server);
            if !stays {
                end.cancel();
            }
            stays
        });
        for server in &known {
            if running.contains_key(server) {
                continue;
            }
            let end = tasks.token().child_token();
            running.insert(server.clone(), end.clone());
            let (parts, server) = (parts.clone(), server.clone());
            tasks.spawn("tunnel", async move {
                end.run_until_cancelled(keep_one(&parts, &server)).await;
            });
        }
        parts.ambient.clock.sleep(EVERY).await;
    }
}

/// Servers, as the endpoints of the API name them.
async fn others(client: &Client) -> Result<BTreeSet<String>, client::Error> {
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    Ok(endpoints.get_opt("kubernetes").await?.map(|found| urls(&found)).unwrap_or_default())
}

fn urls(endpoints: &Endpoints) -> BTreeSet<String> {
    let mut urls = BTreeSet::new();
    for subset in endpoints.subsets.iter().flatten() {
        for port in subset.ports.iter().flatten() {
            for address in subset.addresses.iter().flatten() {
                let ip = &address.ip;
                let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
                urls.insert(format!("https://{host}:{}", port.port));
            }
        }
    }
    urls
}

/// One after the other, to one server.
async fn keep_one(parts: &Parts, server: &str) {
    let Ambient { clock, random } = &parts.ambient;
    let mut backoff = Backoff::new(SOON, LATE);
    loop {
        let began = clock.monotonic();
        let why = match parts.door.connect(server, &parts.ambient).await {
            Ok(connection) => {
                tracing::info!(server, "there is a tunnel to the server");
                let ended = tunnel::answer(connection, clock.clone(), |to| parts.reach.dial(to, clock)).await;
                ended.err().map_or_else(|| "the server ended it".to_owned(), |error| error.to_string())
            }
            Err(error) => format!("{error:#}"),
        };
        if clock.monotonic().since(began) >= LIVED {
            backoff.reset();
        }
        if backoff.failures() == 0 {
            tracing::info!(server, why, "there is no tunnel to the server; trying again");
        }
        clock.sleep(backoff.next(random.u64())).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn servers_are_read_off_the_endpoints() {
        let found = json!({"subsets": [
            {"addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}], "ports": [{"name": "https", "port": 6443}]},
            {"addresses": [{"ip": "2001:db8::1"}], "ports": [{"port": 7}]},
            {"notReadyAddresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 7}]},
        ]});
        let urls: Vec<String> = urls(&from_value(found).expect("endpoints")).into_iter().collect();
        assert_eq!(urls, ["https://192.0.2.1:6443", "https://192.0.2.2:6443", "https://[2001:db8::1]:7"]);
    }
}
