//! A watch as a body: frames of JSON lines, ended by time, by the server or by the registry.

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use bytes::Bytes;
use clock::Clock;
use futures::FutureExt;
use http::StatusCode;
use jiff::Timestamp;
use registry::{Kind, Registry, WatchEvent, WatchStream};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::negotiate::Shape;
use crate::respond::{self, Answer};
use crate::shape::{self, Include};

/// What one watch needs to go on by itself.
pub(crate) struct Watching {
    pub(crate) registry: Arc<Registry>,
    pub(crate) kind: Arc<Kind>,
    pub(crate) events: WatchStream,
    pub(crate) shape: Shape,
    pub(crate) include: Include,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
    /// Its place among the streams, given back when the watch ends.
    pub(crate) _permit: tokio::sync::OwnedSemaphorePermit,
}

/// A frame is sent when it holds this much, or nothing more is waiting.
const FRAME: usize = 64 * 1024;

/// How long a watch lasts that does not say: between half an hour and an hour, so that clients do not all come back at
/// once.
pub(crate) fn duration(timeout_seconds: Option<i64>, now: Timestamp) -> Duration {
    let seconds =
        timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let spread = now.subsec_nanosecond().unsigned_abs() % 1800;
    Duration::from_secs(seconds.unwrap_or(1800 + u64::from(spread)))
}

/// The answer to a watch.
pub(crate) fn answer(watching: Watching, lasts: Duration) -> Answer {
    let deadline = watching.clock.monotonic() + lasts;
    let (clock, stop) = (watching.clock.clone(), watching.stop.clone());
    // Waited for throughout by one future: a new one for each frame would cost more than the frame.
    let end = async move {
        tokio::select! {
            biased;
            () = clock.sleep_until(deadline) => {}
            () = stop.cancelled() => {}
        }
    };
    let state = (watching, end.boxed(), false);
    let frames = futures::stream::unfold(Some(state), move |state| async move {
        let (mut watching, mut end, mut had_columns) = state?;
        let first = tokio::select! {
            biased;
            () = &mut end => return None,
            event = watching.events.next() => event?,
        };
        let mut frame = Vec::new();
        let mut next = Some(first);
        while let Some(event) = next {
            if let Err(status) = watching.write(&event, &mut had_columns, &mut frame) {
                write_error(&status, &mut frame);
                return Some((Ok(Bytes::from(frame)), None));
            }
            next = if frame.len() < FRAME { watching.events.try_next() } else { None };
        }
        Some((Ok(Bytes::from(frame)), Some((watching, end, had_columns))))
    });
    Ok(respond::json(StatusCode::OK, Body::stream(frames)))
}

/// The answer to a watch that cannot begin where its client wants: one event that says so.
pub(crate) fn error(status: &Status) -> Answer {
    let mut frame = Vec::new();
    write_error(status, &mut frame);
    Ok(respond::json(StatusCode::OK, Body::whole(frame)))
}

impl Watching {
    fn write(&self, event: &WatchEvent, had_columns: &mut bool, frame: &mut Vec<u8>) -> Result<(), Status> {
        if self.shape == Shape::Whole {
            event.write_to(frame);
            return Ok(());
        }
        let shaped = match (self.shape, event) {
            (Shape::Table, WatchEvent::Bookmark { revision, initial_events_end, .. }) => {
                shape::table_of_bookmark(*revision, *initial_events_end)?
            }
            (_, WatchEvent::Bookmark { revision, initial_events_end, .. }) => {
                partial_bookmark(*revision, *initial_events_end)
            }
            (_, WatchEvent::Failed(status)) => return Err(Status::clone(status)),
            (
                shape,
                WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object),
            ) => {
                if shape == Shape::Table {
                    let with_columns = !std::mem::replace(had_columns, true);
                    let (object, now) = (object.clone(), self.clock.now());
                    shape::table_of_object(
                        &self.registry,
                        &self.kind,
                        object,
                        self.include,
                        with_columns,
                        now,
                    )?
                } else {
                    shape::partial(object)?
                }
            }
        };
        line(event.type_name(), &shaped, frame);
        Ok(())
    }
}

fn partial_bookmark(revision: u64, initial_events_end: bool) -> Vec<u8> {
    let annotations =
        if initial_events_end { r#""annotations":{"k8s.io/initial-events-end":"true"},"# } else { "" };
    format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{{annotations}"resourceVersion":"{revision}"}}}}"#
    )
    .into_bytes()
}

fn write_error(status: &Status, frame: &mut Vec<u8>) {
    line("ERROR", &status.to_json(), frame);
}

fn line(kind: &str, object: &[u8], frame: &mut Vec<u8>) {
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
}
