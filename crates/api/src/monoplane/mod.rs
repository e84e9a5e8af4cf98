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
