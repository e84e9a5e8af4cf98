//! One connection from its first stream to its end.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clock::{Clock, Instant};

use crate::channel::{Outbox, Outgoing};

/// What holds for every connection.
#[derive(Clone)]
pub struct Terms {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// A connection on which nothing has gone either way for so long is ended (upstream's kubelet: 4 hours).
    pub idle: Duration,
    /// How long the peer may take to create the streams that it asked for (upstream's kubelet: 30 seconds).
    pub creation: Duration,
    /// How long the peer may take to read what was sent last, and to close. Closing first could lose it: bytes that arrive
    /// at a closed socket make the system throw away what has not been delivered yet.
    pub linger: Duration,
}

impl Terms {
    /// Upstream's.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            idle: Duration::from_secs(4 * 3600),
            creation: Duration::from_secs(30),
            linger: Duration::from_secs(15 * 60),
        }
    }
}

/// When something went over a connection last.
pub(crate) struct Activity {
    clock: Arc<dyn Clock>,
    last: Mutex<Instant>,
}

impl Activity {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: clock.clone(), last: Mutex::new(clock.monotonic()) }
    }

    pub(crate) fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
    }

    async fn rested(&self, period: Duration) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if self.clock.monotonic() >= last + period {
                return;
            }
            self.clock.sleep_until(last + period).await;
        }
    }
}

/// Drives a connection's reader and writer while its streams are served, and then until the peer has it all.
pub(crate) async fn drive(
    terms: &Terms,
    activity: &Activity,
    outbox: Outbox,
    reader: impl Future<Output = io::Result<()>>,
    writer: impl Future<Output = io::Result<()>>,
    serve: impl Future<Output = ()>,
) {
    let serve = async {
        serve.await;
        // An error would mean that the writer has failed, which ends it all anyway.
        let _ = outbox.send(Outgoing::End).await;
    };
    let (mut reader, mut writer, mut serve) =
        (std::pin::pin!(reader), std::pin::pin!(writer), std::pin::pin!(serve));
    let ended = |error: io::Result<()>| {
        if let Err(error) = error {
            tracing::debug!(%error, "a connection of streams ended");
        }
    };
    tokio::select! {
        () = serve.as_mut() => {}
        // The peer has gone: nobody is left to serve.
        result = reader.as_mut() => return ended(result),
        result = writer.as_mut() => return ended(result),
        () = activity.rested(terms.idle) => return,
    }
    let over = async {
        tokio::select! {
            result = reader.as_mut() => return ended(result),
            result = writer => ended(result),
        }
        ended(reader.await);
    };
    tokio::select! {
        () = over => {}
        () = terms.clock.sleep(terms.linger) => {}
    }
}
