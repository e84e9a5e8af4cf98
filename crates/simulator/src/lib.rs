//! The control plane from one seed: the real API server, controllers and scheduler in one thread, with simulated time, over a
//! store, a network and machines that fail as the seed says; and a witness who says when something happened that must not.
//!
//! Owns: the clock ([`time`]), the store ([`disk`]), the network ([`link`]), the machines ([`node`]), what goes wrong
//! ([`storm`]), what people do ([`workload`]) and what must hold ([`witness`]). Never does: look into what it runs. The code
//! under test is the shipped code; whatever is simulated comes through the seams that it has anyway.
//!
//! Begin with [`simulate`]; docs/simulator.md tells how to replay a seed.

mod chance;
mod contender;
mod disk;
mod link;
mod node;
mod plane;
mod process;
mod run;
mod sabotage;
mod storm;
mod time;
mod trace;
mod witness;
mod workload;
mod world;

pub use run::{Outcome, simulate};
pub use sabotage::Sabotage;
