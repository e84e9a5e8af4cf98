//! Who is asking, and may they: authenticators, the RBAC and node authorizers, and the roles that every plane begins
//! with, all as functions over values.
//!
//! Owns: the meaning of a certificate's subject, of a token file, of bootstrap tokens, of roles and bindings, and upstream's bootstrap
//! policy. Never does: any I/O, verify a certificate's chain (its caller hands over verified DER), read a clock, or
//! hold a lock: the caller swaps an immutable [`rbac::Policy`] when roles change.
//!
//! Begin with [`Attributes`] and [`Authorizer`]; then [`rbac::Policy`], [`node::NodeAuthorizer`], [`edge::EdgeAuthorizer`] and [`bootstrap`].

mod attributes;
mod authorizer;
pub mod bootstrap;
pub mod bootstrap_token;
pub mod edge;
mod forbidden;
pub mod node;
pub mod rbac;
pub mod service_account;
mod token;
pub mod user;
mod x509;

pub use attributes::{Attributes, Resource, Target};
pub use authorizer::{Authorizer, Decision};
pub use forbidden::forbidden_message;
pub use token::{TokenFile, TokenFileError};
pub use user::UserInfo;
pub use x509::{CertificateError, CertifiedUser, organizations_of_request, user_of_certificate};
