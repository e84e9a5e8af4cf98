//! ValidatingAdmissionPolicies: what administrators demand of requests, in CEL.
//!
//! Owns: which policies and bindings are in force ([`Policies`]), which of them a request concerns, with which parameters, and
//! what their verdicts come to. Never does: parse or run an expression; that is `expressions`' work. Whoever composes the
//! chain tells [`Policies`] of the objects as they come and go, and thereby swaps an immutable list.
//!
//! Begin with `judge.rs`.

mod judge;
mod namespace;
mod params;
mod table;

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use auth::Authorizer;
use clock::Clock;
use serde_json::Value;
use tokio::sync::watch;

use crate::Attributes;
use table::Table;

/// How long a request waits for a server that has just begun to know its policies.
const PATIENCE: Duration = Duration::from_secs(10);

/// Objects that policies are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// ValidatingAdmissionPolicies.
    Policy,
    /// ValidatingAdmissionPolicyBindings.
    Binding,
}

/// The policies in force.
pub struct Policies {
    table: Table,
    /// Whom expressions may ask what a user may do.
    authorizer: Arc<dyn Authorizer>,
    clock: Arc<dyn Clock>,
    /// Whether policies, and whether bindings, have been read once.
    read: watch::Sender<(bool, bool)>,
}

impl Policies {
    /// None yet: requests wait until policies and bindings have been read.
    pub fn new(authorizer: Arc<dyn Authorizer>, clock: Arc<dyn Clock>) -> Self {
        Self { table: Table::default(), authorizer, clock, read: watch::Sender::new((false, false)) }
    }

    /// Puts these objects in force, and no others of their kind.
    pub fn replace(&self, part: Part, objects: &[Value]) {
        self.table.replace(part, objects);
        self.read.send_if_modified(|(policies, bindings)| {
            let read = if part == Part::Policy { policies } else { bindings };
            !std::mem::replace(read, true)
        });
    }

    /// Puts one object in force as it is now.
    pub fn set(&self, part: Part, object: &Value) {
        self.table.set(part, object);
    }

    /// Puts the object of that name out of force.
    pub fn remove(&self, part: Part, name: &str) {
        self.table.remove(part, name);
    }

    /// Returns when the policies are known: nobody slips through while a server starts.
    async fn known(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let is_read = |(policies, bindings): &(bool, bool)| *policies && *bindings;
        if is_read(&self.read.borrow()) {
            return Ok(());
        }
        let mut read = self.read.subscribe();
        tokio::select! {
            biased;
            // An error would mean that the sender is gone, and it is borrowed here.
            _ = read.wait_for(is_read) => Ok(()),
            () = self.clock.sleep(PATIENCE) => Err(attributes.forbid("not yet ready to handle request")),
        }
    }
}
