//! The recorder: what stands between a durable component's host calls and the world.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Class;

/// One host call, as the recorder sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The WIT interface without its version, `wasi:keyvalue/store` for instance.
    pub interface: &'static str,
    /// The function within it, `bucket.set` for instance.
    pub function: &'static str,
    /// What it does to the world.
    pub class: Class,
    /// The arguments in a canonical encoding of the host function's choice. Compared on replay: another value at the
    /// same place means that the code took another path ([`Halt::Diverged`]).
    pub arguments: Bytes,
}

/// A call that was let through and whose result the recorder waits for.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the result of a performed call must be recorded with Recorder::finish"]
pub struct Ticket {
    /// The call's place in the journal.
    pub sequence: u64,
    /// The same in every replay of this call and different for every other call of the plane: what a write sends along
    /// so that its receiver can recognise a repetition.
    pub idempotency_key: String,
    /// The journal holds the intent of this write from an earlier life of the process, but no result: it may have
    /// happened. The host function applies its interface's policy (perform again under the same key, or fail).
    pub in_doubt: bool,
}

/// The recorder's answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The journal holds this call's result: return it and touch nothing.
    Replay(Bytes),
    /// Perform the call, then give its result to [`Recorder::finish`].
    Perform(Ticket),
}

/// Why a durable invocation cannot go on in this instance. The instance is dropped; the guest never sees this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// It waits for a timer or an event, which is on disk; it will be replayed when that comes.
    #[error("suspended")]
    Suspended,
    /// It took another path than its journal says.
    #[error("diverged from its journal at entry {sequence}: recorded {recorded}, now {found}")]
    Diverged {
        /// The journal entry where the paths part.
        sequence: u64,
        /// `interface#function` of the journal.
        recorded: String,
        /// `interface#function` of the running code.
        found: String,
    },
    /// The function cannot be called from a durable component.
    #[error("{0} cannot be called from a durable component")]
    Refused(String),
    /// The journal cannot be written now.
    #[error("journal unavailable: {0}")]
    Unavailable(String),
}

/// Records the effects of one invocation, in order. One invocation has one recorder; a component's calls reach it one
/// at a time.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// Announces a call. For a [`Class::Write`] that is to be performed, the intent is durable when this returns.
    async fn start(&self, operation: Operation) -> Result<Decision, Halt>;

    /// Hands in the result of a performed call. A write's result is durable when this returns; a read's result at the
    /// latest when the next write, suspension or the reply is.
    async fn finish(&self, ticket: Ticket, result: Bytes) -> Result<(), Halt>;

    /// Waits until `nanoseconds` have passed since this call was first made. Short waits happen here; a long one leaves
    /// a timer on disk and ends the instance with [`Halt::Suspended`].
    async fn sleep(&self, nanoseconds: u64) -> Result<(), Halt>;
}
