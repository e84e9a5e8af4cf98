//! Monoplane's own kinds. They are CRDs like anybody's: no server has code for them, and these types only serve those
//! who read and write such objects.

mod shape;
pub mod v1alpha1;

pub use v1alpha1::crds;

/// The API group of every kind here.
pub const GROUP: &str = "monoplane.dev";

/// The manifests of `contracts/crds`, as YAML: what the server installs when it starts.
pub const CRD_MANIFESTS: &[&str] = &[
    include_str!("../../../../contracts/crds/components.monoplane.dev.yaml"),
    include_str!("../../../../contracts/crds/keyvaluestores.monoplane.dev.yaml"),
];

/// The policies of `contracts/policies`, as YAML: what those who write such objects must be allowed besides. The server
/// installs each, bound to every namespace.
pub const POLICY_MANIFESTS: &[&str] = &[
    include_str!("../../../../contracts/policies/components.yaml"),
    include_str!("../../../../contracts/policies/keyvaluestores.yaml"),
];
