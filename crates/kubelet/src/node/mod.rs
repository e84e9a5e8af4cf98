//! The Node object, and the Lease that says it is alive.

mod heartbeat;
mod images;
mod introduce;
pub(crate) mod machine;
mod object;
pub(crate) mod reserved;

pub(crate) use heartbeat::Heartbeat;
pub use introduce::introduce;
pub(crate) use machine::Machine;
pub(crate) use object::Description;
