//! Whether the other end is still there.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clock::Clock;
use h2::{Ping, PingPong};

use crate::{Error, SILENCE};

/// How often it is asked: often enough that no router in between forgets the connection.
const EVERY: Duration = Duration::from_secs(SILENCE.as_secs() / 2);

/// Asks again and again; returns when there is no answer in time.
pub(crate) async fn beat(pings: Option<PingPong>, clock: Arc<dyn Clock>) -> Error {
    // There is always one: it is taken once a connection.
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        clock.sleep(EVERY).await;
        match within(EVERY, &*clock, pings.ping(Ping::opaque())).await {
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// What comes of something that the other end has a part in; too late is never.
pub(crate) async fn within<T>(
    patience: Duration,
    clock: &dyn Clock,
    work: impl Future<Output = Result<T, h2::Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        done = work => Ok(done?),
        () = clock.sleep(patience) => Err(Error::Silent),
    }
}
