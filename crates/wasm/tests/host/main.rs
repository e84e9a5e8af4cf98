//! The host against real components: those of `examples/`, whose artifacts are checked in.

mod compile;
mod deploy;
mod durable;
mod fixture;
mod journal;
mod limits;
mod serve;
