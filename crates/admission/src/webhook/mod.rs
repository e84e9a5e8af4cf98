//! Admission webhooks: servers that administrators name to change and to judge requests.
//!
//! Owns: which webhooks are in force ([`Webhooks`]), which of them a request concerns, what they are sent and what their
//! answers mean. Never does: open a socket. Whoever composes the chain brings a [`Caller`], tells [`Webhooks`] of the
//! configurations as they come and go, and thereby swaps an immutable list; a request that concerns no webhook compares
//! some words and goes on. Nothing is locked while a webhook is asked.
//!
//! Begin with `dispatch.rs`; the form of a review is in `review.rs`.

mod ask;
mod dispatch;
mod hook;
mod review;

use std::sync::Arc;
use std::time::Duration;

use apimachinery::status::Status;
use async_trait::async_trait;
use auth::Authorizer;
use clock::{Clock, Random};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

pub(crate) use dispatch::Round;

use crate::Attributes;
use hook::Table;

/// How long a request waits for a server that has just begun to know its webhooks.
const PATIENCE: Duration = Duration::from_secs(10);
/// Webhooks that are being asked at the same time, all requests taken together.
const CALLS: usize = 1024;

/// Finds the way to webhooks.
pub trait Caller: Send + Sync {
    /// The webhook that a `clientConfig` describes.
    ///
    /// # Errors
    /// Why there is no way to it, for whoever is refused because of that.
    fn endpoint(&self, client_config: &Value) -> Result<Arc<dyn Endpoint>, String>;
}

/// The way to one webhook.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// Sends a review and gives what came back, bounded in size and depth. `patience` bounds all of it; the webhook is told.
    ///
    /// # Errors
    /// Why there is no answer, in the words that follow `failed to call webhook: `.
    async fn call(&self, review: &Value, patience: Duration) -> Result<Value, String>;
}

/// What a configuration's webhooks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// They change objects: those of a MutatingWebhookConfiguration.
    Mutating,
    /// They judge requests: those of a ValidatingWebhookConfiguration.
    Validating,
}

/// The webhooks in force.
pub struct Webhooks {
    mutating: Table,
    validating: Table,
    caller: Arc<dyn Caller>,
    /// Whom expressions may ask what a user may do.
    authorizer: Arc<dyn Authorizer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    calls: Semaphore,
    /// Which kinds of configurations have been read once.
    read: watch::Sender<(bool, bool)>,
}

impl Webhooks {
    /// None yet: requests wait until both kinds of configurations have been read.
    pub fn new(
        caller: Arc<dyn Caller>,
        authorizer: Arc<dyn Authorizer>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            mutating: Table::default(),
            validating: Table::default(),
            caller,
            authorizer,
            clock,
            random,
            calls: Semaphore::new(CALLS),
            read: watch::Sender::new((false, false)),
        }
    }

    fn table(&self, configured: Configured) -> &Table {
        match configured {
            Configured::Mutating => &self.mutating,
            Configured::Validating => &self.validating,
        }
    }

    /// Puts these configurations in force, and no others.
    pub fn replace(&self, configured: Configured, configurations: &[Value]) {
        self.table(configured).replace(configurations, self.caller.as_ref());
        self.read.send_if_modified(|(mutating, validating)| {
            let read = if configured == Configured::Mutating { mutating } else { validating };
            !std::mem::replace(read, true)
        });
    }

    /// Puts one configuration in force as it is now.
    pub fn set(&self, configured: Configured, configuration: &Value) {
        self.table(configured).set(configuration, self.caller.as_ref());
    }

    /// Puts the configuration of that name out of force.
    pub fn remove(&self, configured: Configured, name: &str) {
        self.table(configured).remove(name);
    }

    /// Returns when the webhooks are known: nobody slips through while a server starts.
    async fn known(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let is_read = |(mutating, validating): &(bool, bool)| *mutating && *validating;
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
