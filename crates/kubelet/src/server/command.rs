//! exec and attach: a process's streams to a client's, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Clock;
use futures::{AsyncReadExt, AsyncWriteExt};
use http::{Response, StatusCode};
use runtime::{Error, ReadStream, Resize, Session, StreamOptions, WriteStream};
use serde_json::{Value, json};
use streams::{Input, Output, Purpose, RemoteCommand, Resizes, Wanted, remote_command};
use tokio::sync::watch;

use super::find;
use super::query;
use super::route::Refusal;
use super::upgrade::Upgrade;

/// How long the outputs of a process that has ended are read on although nothing comes: what it left running may hold
/// them open for ever.
const DRAIN: Duration = Duration::from_secs(2);

/// The parameters of both.
fn wanted(query: &str) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted::default();
    for (name, value) in query::pairs(query) {
        let is_set = value == "1";
        match name.as_str() {
            "input" => wanted.stdin = is_set,
            "output" => wanted.stdout = is_set,
            "error" => wanted.stderr = is_set,
            "tty" => wanted.tty = is_set,
            _ => {}
        }
    }
    // A terminal has one output.
    wanted.stderr &= !wanted.tty;
    if wanted.stdin || wanted.stdout || wanted.stderr {
        return Ok(wanted);
    }
    Err(Refusal::new(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"))
}

fn options(wanted: Wanted) -> StreamOptions {
    StreamOptions { stdin: wanted.stdin, stdout: wanted.stdout, stderr: wanted.stderr, tty: wanted.tty }
}

/// Runs a command in a container.
pub(super) async fn exec(
    upgrade: Upgrade<'_>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Result<Response<()>, Refusal> {
    let wanted = wanted(query)?;
    let command: Vec<String> =
        query::pairs(query).filter(|(name, _)| name == "command").map(|(_, value)| value).collect();
    let (runtime, id) = find::running(&upgrade.cx, namespace, pod, container).await?;
    upgrade.begin(Purpose::RemoteCommand, move |terms, io, protocol| async move {
        let clock = terms.clock.clone();
        remote_command(&terms, io, protocol, wanted, async |streams: RemoteCommand| {
            let what = format!("error executing command [{}], exit code", command.join(" "));
            let session = runtime.exec(&id, command, options(wanted)).await;
            let session = session.map_err(|error| format!("error executing command in container: {error}"));
            let end = |code: i32| match code {
                0 => success(),
                code => exited(code, &format!("{what} {code}")),
            };
            serve(streams, session, protocol.version(), &clock, end).await;
        })
        .await;
    })
}

/// Joins a container.
pub(super) async fn attach(
    upgrade: Upgrade<'_>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &str,
) -> Result<Response<()>, Refusal> {
    let wanted = wanted(query)?;
    let (runtime, id) = find::running(&upgrade.cx, namespace, pod, container).await?;
    upgrade.begin(Purpose::RemoteCommand, move |terms, io, protocol| async move {
        let clock = terms.clock.clone();
        remote_command(&terms, io, protocol, wanted, async |streams: RemoteCommand| {
            let session = runtime.attach(&id, options(wanted)).await;
            let session = session.map_err(|error| format!("error attaching to container: {error}"));
            // How the container ended is told by the pod's status.
            serve(streams, session, protocol.version(), &clock, |_| success()).await;
        })
        .await;
    })
}

/// Copies until the process has ended and all that it wrote has been sent; then tells how it ended.
async fn serve(
    streams: RemoteCommand,
    session: Result<Session, String>,
    version: u8,
    clock: &Arc<dyn Clock>,
    end: impl Fn(i32) -> Value,
) {
    let RemoteCommand { stdin, stdout, stderr, resizes, error } = streams;
    let status = match session {
        Err(why) => internal(&why),
        Ok(session) => {
            let over = watch::Sender::new(false);
            let outputs = async {
                tokio::join!(
                    copy_out(session.stdout, stdout, over.subscribe(), clock),
                    copy_out(session.stderr, stderr, over.subscribe(), clock),
                )
            };
            let ended = async {
                let ended = session.ended.await;
                over.send_replace(true);
                ended
            };
            let work = async { tokio::join!(outputs, ended).1 };
            let inputs = async {
                tokio::join!(copy_in(stdin, session.stdin), resize(resizes, session.resize));
                std::future::pending::<()>().await;
            };
            let ended: Result<i32, Error> = tokio::select! {
                ended = work => ended,
                () = inputs => return,
            };
            ended.map_or_else(|error| internal(&error.to_string()), end)
        }
    };
    tell(error, &status, version).await;
}

/// Passes on what a process writes, until nobody can write it any more or nobody wants it.
async fn copy_out(
    from: Option<ReadStream>,
    to: Option<Output>,
    mut over: watch::Receiver<bool>,
    clock: &Arc<dyn Clock>,
) {
    let Some(to) = to else { return };
    if let Some(mut from) = from {
        let mut piece = BytesMut::zeroed(streams::PIECE);
        loop {
            let late = async {
                // An error would mean that nobody can tell of the end any more.
                if over.wait_for(|over| *over).await.is_ok() {
                    clock.sleep(DRAIN).await;
                }
            };
            let count = tokio::select! {
                biased;
                read = from.read(&mut piece) => read.unwrap_or(0),
                () = late => 0,
            };
            let sent = bytes::Bytes::copy_from_slice(&piece[..count]);
            if count == 0 || to.send(sent).await.is_err() {
                break;
            }
        }
    }
    to.finish().await;
}

/// Passes on what a client sends. When either side has enough, both are let go of: the process sees the end, and what
/// the client still sends is thrown away.
async fn copy_in(from: Option<Input>, to: Option<WriteStream>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Some(piece) = from.next().await {
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = to.close().await;
}

async fn resize(resizes: Option<Resizes>, terminal: Option<Resize>) {
    let (Some(mut resizes), Some(terminal)) = (resizes, terminal) else { return };
    while let Some(size) = resizes.next().await {
        if let Err(error) = terminal(size.width, size.height) {
            tracing::debug!(%error, "a terminal did not take its size");
        }
    }
}

/// How it ended, in the form that the client reads: a `Status` from version 4 on, before that a text of what failed.
async fn tell(to: Output, status: &Value, version: u8) {
    let text = match version {
        4.. => status.to_string(),
        _ => status["message"].as_str().unwrap_or_default().to_owned(),
    };
    if !text.is_empty() {
        // A client that has gone needs no answer.
        let _ = to.send(text.into()).await;
    }
    to.finish().await;
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn exited(code: i32, why: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: {why}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn internal(why: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_as_upstream_reads_it() {
        let read = |query| wanted(query).map_err(|refusal| refusal.message);
        let all = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
        assert_eq!(read("command=x&input=1&output=1&error=1"), Ok(all));
        let terminal = Wanted { stdin: true, stdout: true, stderr: false, tty: true };
        assert_eq!(read("input=1&output=1&error=1&tty=1"), Ok(terminal));
        for none in ["", "tty=1&error=1", "input=true"] {
            assert_eq!(read(none), Err("you must specify at least 1 of stdin, stdout, stderr".to_owned()));
        }
    }
}
