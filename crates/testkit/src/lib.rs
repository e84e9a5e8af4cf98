//! Development only: what tests of several rooms need and no room ships.
//!
//! Owns: [`FakeApi`], an API server of a few hundred lines for tests of API clients. It keeps trees, numbers revisions,
//! streams watches, pages lists, honours selectors, preconditions, finalizers and generated names, and knows nothing of what a kind means: no
//! validation, no defaults, no authorisation. Never does: stand in for the real server where its behaviour is the question.
//!
//! Begin with [`FakeApi::new`] and [`FakeApi::client`].

mod fake;
mod route;
mod state;

pub use fake::FakeApi;
pub use route::Kind;
pub use state::merge;
