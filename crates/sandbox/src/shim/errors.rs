//! What libcontainer says when it fails. Its errors name the step ("failed to prepare rootfs"), and the cause only goes
//! to `tracing`, often from a process that it forked; so a helper listens in memory that its forks share.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How much of it is passed on.
const MAX_TEXT: usize = 1000;

/// Errors told so far by this process and its forks.
pub(crate) struct Errors(Option<Arc<File>>);

/// Listens from now on, for the rest of the process' life.
pub(crate) fn listen() -> Errors {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let Ok(memory) = rustix::fs::memfd_create("errors", flags) else { return Errors(None) };
    let memory = Arc::new(File::from(memory));
    match tracing::subscriber::set_global_default(Listener(Arc::clone(&memory))) {
        Ok(()) => Errors(Some(memory)),
        Err(_) => Errors(None),
    }
}

impl Errors {
    /// The first error told, which is nearest to the cause.
    pub(crate) fn first(&self) -> Option<String> {
        let mut bytes = vec![0; MAX_TEXT];
        let count = self.0.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        text.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
    }
}

struct Listener(Arc<File>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let line = line.0.replace('\n', " ") + "\n";
        // One write a line: the forks share the file's position.
        let _ = (&*self.0).write_all(line.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
    }
}
