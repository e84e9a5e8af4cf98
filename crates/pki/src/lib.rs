//! The plane's own certificates: an authority made at first start, the certificates of every role under its upstream
//! identity, serving certificates that follow a change of address, the kubeconfig files that carry them, those of others who
//! ask by a signing request, the keys that sign service accounts' tokens, and those that keep values secret at rest.
//!
//! Owns: the files of the directory it is given, each written whole or not at all, so that a process killed at any
//! moment finds a usable directory at its next start. Never does: read the clock (time is an argument), open a socket,
//! or decide what an identity may do (that is `auth`).
//!
//! Begin with [`Authority::open`], then [`Authority::client`] and [`Authority::serving`].

mod account_key;
mod authority;
mod cluster_info;
mod credential;
mod error;
mod file;
mod held;
mod identity;
mod issue;
mod kubeconfig;
mod master_keys;
mod request;
mod signing;
mod token_keys;

pub use account_key::AccountKey;
pub use authority::Authority;
pub use cluster_info::detached_signature;
pub use credential::Credential;
pub use error::Error;
pub use file::write_atomically;
pub use held::{Application, Held, pin};
pub use identity::Identity;
pub use issue::{api_server_names, kubelet_names};
pub use kubeconfig::kubeconfig;
pub use master_keys::MasterKeys;
pub use request::{SigningRequest, expiry};
pub use signing::Signer;
pub use token_keys::{TokenKeys, TokenSigner};
