//! The seam between components and durability: what a host function may do to the world, who records it, and who
//! invokes a component. No implementation lives here, and no async runtime, socket, file or clock.
//!
//! Every host function that a component can import declares a [`Class`]. `wasm` passes each call of a durable
//! component through one choke point that asks a [`Recorder`] whether to perform it or to hand back what was recorded;
//! `durable` implements the recorder over its journal and drives components through an [`Invoker`], which `wasm`
//! implements. The two crates know only this one.
//!
//! Begin with [`Recorder`].

mod class;
mod invoke;
mod record;

pub use class::Class;
pub use invoke::{InvokeError, Invoker, Reply, Request};
pub use record::{Decision, Halt, Operation, Recorder, Ticket};
