//! Role-based access control: roles, bindings, and an index of them that answers a request without looking at any
//! binding that is not the user's.

mod covers;
mod object;
mod policy;
mod rule;

pub use covers::uncovered;
pub use object::{Binding, Named, Role, RoleRef, Subject};
pub use policy::{Objects, Policy};
pub use rule::PolicyRule;
