//! The watch cache: what the store holds, as readers and watchers take it.
//!
//! One [`feed`] follows the store and applies its events in revision order to each [`Resource`](crate::resource::Resource):
//! a persistent ordered map (so that a list keeps the map it started with), a bounded window of recent changes (so that a
//! watch can begin a little in the past) and the watchers.

mod applied;
mod feed;
mod hub;
mod item;
mod pending;
mod stream;

pub(crate) use applied::Applied;
pub(crate) use feed::{Command, Feed, ROOT};
pub(crate) use hub::{Change, ChangeKind, Hub, Start, View};
pub(crate) use item::{Extract, Field, Item};
pub(crate) use pending::Pending;
pub use stream::WatchStream;
