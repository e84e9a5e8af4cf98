//! Being asked to end. The first process of a container gets no signal that it does not listen for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that images use to ask for an end.
const ASKING: [SignalKind; 6] = [
    SignalKind::terminate(),
    SignalKind::interrupt(),
    SignalKind::quit(),
    SignalKind::hangup(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// Hears the signals while it lives.
pub(super) struct Stop {
    signals: Vec<(SignalKind, Signal)>,
    /// Heard so that a peer which is gone does not end the process.
    _pipe: Signal,
}

impl Stop {
    pub(super) fn listen() -> io::Result<Self> {
        let signals = ASKING.into_iter().map(|kind| Ok((kind, signal(kind)?)));
        Ok(Self { signals: signals.collect::<io::Result<_>>()?, _pipe: signal(SignalKind::pipe())? })
    }

    /// The exit code of a program; of one that is asked to end before it has one, 128 and the signal's number. What it does
    /// is then dropped where it stands, as a signal that nobody handles ends any program.
    pub(super) async fn or(mut self, program: impl Future<Output = i32>) -> i32 {
        tokio::select! {
            code = program => code,
            signal = self.asked() => 128 + signal,
        }
    }

    /// Returns the number of the first signal that asks for an end.
    pub(super) async fn asked(&mut self) -> i32 {
        std::future::poll_fn(|cx| {
            for (kind, signal) in &mut self.signals {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(kind.as_raw_value());
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
