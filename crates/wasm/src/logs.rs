//! Guests' standard output and error, as lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Longer lines are cut here, the rest of the line is dropped.
const LINE_LIMIT: usize = 16 << 10;

/// Which of the two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes guests' lines. Called on the thread that runs the guest, so it must neither block nor keep more than it can
/// hold: a sink with a full queue drops.
pub trait LogSink: Send + Sync + 'static {
    /// One line of `component` (`namespace/name`), without its end, at most 16 KiB, made valid UTF-8.
    fn line(&self, component: &str, stream: LogStream, line: &str);
}

/// Sends lines to `tracing` at info level under the target `guest`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLogs;

impl LogSink for TracingLogs {
    fn line(&self, component: &str, stream: LogStream, line: &str) {
        match stream {
            LogStream::Stdout => tracing::info!(target: "guest", component, stream = "stdout", "{line}"),
            LogStream::Stderr => tracing::info!(target: "guest", component, stream = "stderr", "{line}"),
        }
    }
}

/// One instance's stream, shared by every handle that the guest takes of it.
#[derive(Clone)]
pub(crate) struct LineStream {
    shared: Arc<Shared>,
}

struct Shared {
    component: Arc<str>,
    stream: LogStream,
    sink: Arc<dyn LogSink>,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    /// The rest of this line is dropped: it is over the limit.
    cut: bool,
}

impl LineStream {
    pub(crate) fn new(component: Arc<str>, stream: LogStream, sink: Arc<dyn LogSink>) -> Self {
        Self { shared: Arc::new(Shared { component, stream, sink, line: Mutex::default() }) }
    }
}

impl Shared {
    fn write(&self, mut bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = LINE_LIMIT.saturating_sub(line.bytes.len());
            line.cut |= part.len() > room;
            line.bytes.extend_from_slice(&part[..part.len().min(room)]);
            match end {
                Some(end) => {
                    self.emit(&mut line);
                    bytes = &bytes[end + 1..];
                }
                None => return,
            }
        }
    }

    fn emit(&self, line: &mut Line) {
        let mut text = String::from_utf8_lossy(&line.bytes).into_owned();
        if line.cut {
            text.push('…');
        }
        self.sink.line(&self.component, self.stream, &text);
        *line = Line::default();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        if !line.bytes.is_empty() {
            self.emit(&mut line);
        }
    }
}

impl IsTerminal for LineStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LineStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.shared.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[async_trait::async_trait]
impl Pollable for LineStream {
    async fn ready(&mut self) {}
}

impl tokio::io::AsyncWrite for LineStream {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.shared.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn line(&self, _: &str, _: LogStream, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    #[test]
    fn lines_are_joined_split_cut_and_flushed_at_the_end() {
        let sink = Arc::new(Kept::default());
        let stream = LineStream::new("ns/a".into(), LogStream::Stdout, sink.clone());
        stream.shared.write(b"one\ntw");
        stream.shared.write(b"o\n\n");
        stream.shared.write(&vec![b'x'; LINE_LIMIT + 5]);
        stream.shared.write(b"\nlast \xff");
        drop(stream);
        let lines = sink.0.lock().unwrap();
        assert_eq!(lines[..3], ["one", "two", ""]);
        assert_eq!(lines[3].chars().count(), LINE_LIMIT + 1);
        assert_eq!(lines[4], "last \u{fffd}");
    }
}
