//! The kinds: what Kubernetes 1.36 and Monoplane call things and what these look like.
//!
//! **Owns**: the plain facts of the built-in kinds ([`kinds`]: names, scope), their schemas ([`schemas`]: a compact table,
//! parsed definition by definition when first used), what is said of them ([`descriptions`]), the typed forms where code needs types ([`k8s`], from k8s-openapi),
//! and Monoplane's own kinds ([`monoplane`]: Rust types from which `contracts/crds` is generated), and what several rooms must
//! understand alike ([`taints`], [`quota`], [`local_volumes`]).
//!
//! **Never does**: say how a kind behaves. Defaults that depend on meaning, validation and columns of built-in kinds are
//! `registry`'s strategies.
//!
//! **Begin** with [`kinds`] and [`schemas::builtin`].

pub mod descriptions;
mod enumerations;
pub mod kinds;
pub mod local_volumes;
pub mod monoplane;
pub mod node_selector;
pub mod quota;
pub mod schemas;
pub mod taints;

/// Kubernetes' typed objects.
pub use k8s_openapi as k8s;
