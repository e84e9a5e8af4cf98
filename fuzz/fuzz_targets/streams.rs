//! Connections of remote commands and forwarded ports, over SPDY and WebSocket: whatever a client sends, in whatever pieces, its
//! connection ends when the client does, and nothing else.

#![no_main]

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use streams::{Forward, Protocol, RemoteCommand, Terms, Wanted, port_forward, remote_command};
use tokio::sync::mpsc::Receiver;

fn protocol(choice: u8) -> Protocol {
    match choice % 8 {
        0 => Protocol::Spdy { version: 4 },
        1 => Protocol::Spdy { version: 2 },
        2 => Protocol::Tunnel,
        3 => Protocol::Channels { version: 5, base64: false },
        4 => Protocol::Channels { version: 4, base64: false },
        5 => Protocol::Channels { version: 4, base64: true },
        6 => Protocol::Channels { version: 1, base64: false },
        _ => Protocol::Channels { version: 1, base64: true },
    }
}

fn terms() -> Terms {
    let mut terms = Terms::new(Arc::new(clock::SystemClock::default()));
    terms.creation = Duration::from_millis(5);
    terms.linger = Duration::from_millis(5);
    terms
}

async fn command(streams: RemoteCommand) {
    let RemoteCommand { stdin, stdout, resizes, error, .. } = streams;
    // At once, as a container does: what nobody reads holds up what comes behind it on the same connection.
    let sizes = async {
        let Some(mut resizes) = resizes else { return };
        while resizes.next().await.is_some() {}
    };
    let echo = async {
        let Some(mut stdin) = stdin else { return };
        while let Some(piece) = stdin.next().await {
            if let Some(stdout) = &stdout
                && stdout.send(piece).await.is_err()
            {
                break;
            }
        }
    };
    tokio::join!(sizes, echo);
    let _ = error.send("over".into()).await;
    error.finish().await;
}

async fn forward(mut asked: Receiver<Forward>) {
    while let Some(Forward { mut input, output, error, .. }) = asked.recv().await {
        while let Some(piece) = input.next().await {
            if output.send(piece).await.is_err() {
                break;
            }
        }
        output.finish().await;
        error.finish().await;
    }
}

libfuzzer_sys::fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (choice, wanted, bytes) = input;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let io = tokio::io::join(Cursor::new(bytes), tokio::io::sink());
    let serving = async {
        if choice & 8 == 0 {
            let asks = |bit: u8| wanted & (1 << bit) != 0;
            let wanted = Wanted { stdin: asks(0), stdout: asks(1), stderr: asks(2), tty: asks(3) };
            remote_command(&terms(), io, protocol(choice), wanted, command).await;
        } else {
            let ports = [80, 81];
            port_forward(&terms(), io, protocol(choice), &ports[..usize::from(wanted % 3)], forward).await;
        }
    };
    let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), serving).await });
    assert!(ended.is_ok(), "the client has gone and its connection goes on");
});
