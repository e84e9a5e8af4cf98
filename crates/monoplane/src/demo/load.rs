//! Requests that never stop while something is broken under them, and what their senders saw.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::http::{self, Ask};

/// What a crowd of clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Requests answered as they should be.
    pub answered: u64,
    /// Requests whose connection broke before the answer: those that the killed process held.
    pub broken: u64,
    /// Requests answered, but not as they should be.
    pub wrong: u64,
    /// The longest that anybody waited for an answer.
    pub longest: Duration,
}

/// Sends `ask` from `clients` clients, one after another each, until `until`.
pub async fn crowd(address: SocketAddr, ask: &Ask, wanted: u16, clients: usize, until: Instant) -> Seen {
    let mut crowd = JoinSet::new();
    for _ in 0..clients {
        let ask = ask.clone();
        crowd.spawn(async move {
            let mut seen = Seen::default();
            while Instant::now() < until {
                let sent = Instant::now();
                match http::send(address, &ask).await {
                    Ok(answer) if answer.status == wanted => seen.answered += 1,
                    Ok(_) => seen.wrong += 1,
                    Err(_) => seen.broken += 1,
                }
                seen.longest = seen.longest.max(sent.elapsed());
            }
            seen
        });
    }
    let mut all = Seen::default();
    while let Some(seen) = crowd.join_next().await {
        let Ok(seen) = seen else { continue };
        all.answered += seen.answered;
        all.broken += seen.broken;
        all.wrong += seen.wrong;
        all.longest = all.longest.max(seen.longest);
    }
    all
}
