//! Registries: pull and push by the OCI distribution protocol.
//!
//! Begin with [`Registries`]. `session` says who asks and tries again, `blob` fetches one blob, `pull` and `push` are the
//! two directions. Why it is ours, and no library's: docs/decisions.

mod blob;
mod challenge;
mod config;
mod credential;
mod error;
mod flight;
mod http;
mod manifest;
mod pull;
pub(crate) mod push;
mod session;
mod url;

use std::sync::Arc;
use std::time::Duration;

use egress::Policy;

pub use config::{HostConfig, Mirrors, RegistryConfig, Tls};
pub use credential::{Credential, InvalidCredentials, Keyring};
pub use error::RegistryError;
pub use pull::Pull;
pub use push::Push;

use crate::{Digest, Error, Result};
use config::{Endpoint, Hosts};
use flight::Flights;
use http::Http;
use session::{Patience, Session};

/// How long nothing may happen on a connection.
const STALL: Duration = Duration::from_secs(60);
/// The first wait before something is tried again.
const FIRST: Duration = Duration::from_millis(500);

/// What becomes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was there already.
    Exists,
    /// So many bytes of it have come.
    Fetching(u64),
    /// All of it has come, and is what it should be.
    Fetched,
    /// It is unpacked.
    Unpacked,
    /// So many bytes of it have gone out.
    Sending(u64),
    /// The registry has it.
    Sent,
}

/// Who wants to know how far a pull or push is.
pub trait Progress: Send + Sync {
    /// Something happened to a blob of so many bytes.
    fn blob(&self, digest: Digest, size: u64, step: Step);
}

/// Nobody does.
impl Progress for () {
    fn blob(&self, _: Digest, _: u64, _: Step) {}
}

/// All registries, as far as an administrator's rules let them be reached.
#[derive(Debug)]
pub struct Registries {
    hosts: Arc<Hosts>,
    flights: Flights,
    patience: Patience,
}

impl Registries {
    /// Registries under a configuration. Hosts that it names are reached wherever they are; where others may be,
    /// `policy` says.
    ///
    /// # Errors
    /// When the configuration is wrong; the message names the field.
    pub fn new(config: RegistryConfig, policy: Policy) -> Result<Self, RegistryError> {
        let hosts = Arc::new(Hosts::new(config, policy)?);
        Ok(Self { hosts, flights: Flights::default(), patience: Patience { stall: STALL, first: FIRST } })
    }

    /// The same with other limits: how long nothing may happen on a connection, and the first wait before something is
    /// tried again, which doubles.
    #[must_use]
    pub fn patient(mut self, stall: Duration, first: Duration) -> Self {
        self.patience = Patience { stall, first };
        self
    }

    fn session(
        &self,
        endpoint: Endpoint,
        repository: &str,
        credential: Option<Credential>,
        actions: &str,
        others: &[String],
    ) -> Session {
        let http = Http::new(self.hosts.clone(), self.patience.stall);
        Session::new(http, endpoint, repository, credential, actions, others, self.patience)
    }

    /// Who one is to an endpoint: what is given is for the registry itself, and no mirror gets to see it.
    fn asker(&self, endpoint: &Endpoint, registry: &str, given: Option<&Credential>) -> Option<Credential> {
        let given = given.filter(|_| endpoint.mirrors.is_none());
        given.or_else(|| self.hosts.credential(endpoint, registry)).cloned()
    }
}

/// Does what waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::invalid(error)))
}
