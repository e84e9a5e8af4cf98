//! The expressions of admission: conditions under which webhooks and policies are asked, and what
//! ValidatingAdmissionPolicies demand.
//!
//! Owns: what such expressions may speak of, how they are compiled and what is said of those that cannot be, how much they
//! may cost, and what their values come to. Never does: match requests, look anything up, decide. Whoever stores
//! configurations checks them here ([`Checker`]); whoever admits requests compiles them once ([`Conditions`], [`Policy`]) and
//! evaluates them on [`Inputs`]; whoever knows which kinds a policy is about tells its author what the expressions get wrong of
//! them ([`type_check`]).
//!
//! Begin with [`Policy`].

mod check;
mod conditions;
mod environment;
mod evaluate;
mod expression;
mod policy;
mod typing;

pub use check::Checker;
pub use conditions::Conditions;
pub use evaluate::Inputs;
pub use policy::{Failed, Outcome, Policy};
pub use typing::{Typed, Warning, type_check};
