//! Container images: names, a content store on disk, archives, unpacked layers, and registries to pull from and push to.
//!
//! Owns the image directory of a node. The store is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) with one
//! directory beside it, `layers/`, that holds unpacked layers ready to be an overlay's lower directories. Several
//! processes may have it open at once (a node, and `monoplane image import`): writers take a lock on a file.
//!
//! [`Registries`] speaks the OCI distribution protocol, through `egress`. What it fetches is hashed on its way to the disk;
//! what came before a connection broke or a process died is not fetched again.
//!
//! An image may be a WebAssembly program alone (an OCI artifact): it is unpacked to a directory with that file, and is
//! otherwise an image like any other.
//!
//! It never runs anything, mounts nothing and knows no container. It trusts no byte of an image: digests are verified,
//! sizes and numbers of entries are limited, and no path of an archive leads out of the directory it is unpacked to.
//!
//! Begin with [`Store`]; [`ImageBuilder`] makes images from memory.

mod archive;
mod artifact;
mod builder;
mod content;
mod digest;
mod document;
mod error;
mod export;
mod import;
mod layer;
mod partial;
mod platform;
mod prune;
mod reference;
mod registry;
mod remove;
mod store;
mod unpack;
mod usage;

pub use builder::{BuiltImage, ImageBuilder};
pub use digest::Digest;
pub use error::Error;
pub use oci_spec::image::{ImageConfiguration, ImageManifest};
pub use prune::Hold;
pub use reference::{Reference, ReferenceError};
pub use registry::{
    Credential, HostConfig, InvalidCredentials, Keyring, Mirrors, Progress, Pull, Push, Registries,
    RegistryConfig, RegistryError, Step, Tls,
};
pub use remove::remove_tree;
pub use store::{Limits, Store, StoredImage};
pub use usage::{TreeUsage, tree_usage};

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
