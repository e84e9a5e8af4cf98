//! The choke point: the one place through which a guest's calls reach the world.
//!
//! Without a recorder the call is performed, and nothing else happens. With one, the recorder is asked first: it hands
//! back what was recorded, or has the call performed under a ticket and is given the result.
//!
//! A write that is in doubt (its intent is in the journal, its result is not) is performed again under the same
//! idempotency key. Setting and deleting keys may be repeated as they are; an increment leaves a marker with its key
//! beside the value until its result is recorded, so that it happens once; an HTTP request carries the key in
//! `Idempotency-Key`, and it is for its receiver to recognise it.

use std::future::Future;
use std::sync::Arc;

use effects::{Class, Decision, Halt, Operation, Recorder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::class;
use crate::hold::Hold;

/// Who records, if anybody does.
pub(crate) type Recording = Option<Arc<Hold>>;

/// A host function by its names in WIT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    /// Without its version.
    pub(crate) interface: &'static str,
    /// As linked: `[method]bucket.get`.
    pub(crate) name: &'static str,
}

impl Function {
    pub(crate) const fn new(interface: &'static str, name: &'static str) -> Self {
        Self { interface, name }
    }

    fn operation(self, class: Class, arguments: Vec<u8>) -> Operation {
        let function = self.name.strip_prefix("[method]").unwrap_or(self.name);
        Operation { interface: self.interface, function, class, arguments: arguments.into() }
    }
}

/// What a performed call came to: recorded for good, unless it says why that would be wrong.
pub(crate) trait Outcome {
    /// Why this is no outcome but the lack of one, which another attempt need not meet.
    fn unavailable(&self) -> Option<&str> {
        None
    }
}

impl Outcome for u64 {}
impl Outcome for i128 {}
impl Outcome for (u64, u64) {}
impl Outcome for Vec<u8> {}

impl<T, E: Outcome> Outcome for Result<T, E> {
    fn unavailable(&self) -> Option<&str> {
        self.as_ref().err()?.unavailable()
    }
}

/// Takes a call through, its class being the table's. `perform` gets the idempotency key of the ticket, if there is one.
pub(crate) async fn through<A, R, F>(
    recording: &Recording,
    function: Function,
    arguments: &A,
    perform: impl FnOnce(Option<String>) -> F + Send,
) -> wasmtime::Result<R>
where
    A: Serialize + Sync,
    R: Outcome + Serialize + DeserializeOwned + Send,
    F: Future<Output = R> + Send,
{
    let Some(recorder) = recording else { return Ok(perform(None).await) };
    let class = class::class(function.interface, function.name).ok_or_else(|| {
        wasmtime::format_err!("{}#{} has no class of effect", function.interface, function.name)
    })?;
    through_as(recorder, class, function, arguments, perform).await
}

/// Takes a recorded call through under a class that the caller found out.
pub(crate) async fn through_as<A, R, F>(
    recorder: &Hold,
    class: Class,
    function: Function,
    arguments: &A,
    perform: impl FnOnce(Option<String>) -> F + Send,
) -> wasmtime::Result<R>
where
    A: Serialize + Sync,
    R: Outcome + Serialize + DeserializeOwned + Send,
    F: Future<Output = R> + Send,
{
    let arguments = postcard::to_allocvec(arguments).map_err(wasmtime::Error::new)?;
    match recorder.start(function.operation(class, arguments)).await.map_err(halted)? {
        Decision::Replay(recorded) => postcard::from_bytes(&recorded).map_err(|_| unreadable(function)),
        Decision::Perform(ticket) => {
            let result = perform(Some(ticket.idempotency_key.clone())).await;
            if let Some(why) = result.unavailable() {
                // The guest would take it for the answer, in every life that it has. A write stays in doubt.
                return Err(halted(Halt::Unavailable(why.to_owned())));
            }
            let encoded = postcard::to_allocvec(&result).map_err(wasmtime::Error::new)?;
            recorder.finish(ticket, encoded.into()).await.map_err(halted)?;
            Ok(result)
        }
    }
}

/// A trap that ends the instance and carries why, for [`crate::run`] to find. The guest never sees it.
pub(crate) fn halted(halt: Halt) -> wasmtime::Error {
    wasmtime::Error::new(halt)
}

fn unreadable(function: Function) -> wasmtime::Error {
    wasmtime::format_err!("the recorded result of {}#{} cannot be read", function.interface, function.name)
}
