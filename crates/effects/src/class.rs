//! The four classes of host functions.

/// What a host function does to the world outside the instance. An interface without a class does not link into a
/// durable component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Reads something of this host (a clock, randomness, the environment). Recorded, may be buffered.
    LocalRead,
    /// Reads something of another system (a key-value get, an HTTP GET). Recorded, may be buffered.
    RemoteRead,
    /// Changes something outside. Its intent is on disk before it is performed, and its result before anybody sees it.
    Write,
    /// Cannot be replayed (a raw socket, say): the call fails in a durable component.
    Refused,
}
