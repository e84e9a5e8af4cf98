//! Which webhooks are asked, what they are told, and what becomes of their answers. The webhooks are functions here; how
//! they are reached over the network is tested where the sockets are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod answers;
mod asked;
mod hostile;
mod world;
