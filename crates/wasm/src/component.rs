//! A component made ready to run: what it may use, within which limits.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capabilities::Store;
use http::Uri;
use sha2::{Digest as _, Sha256};

use crate::artifact::Artifact;
use crate::gate::{Gate, Place};
use crate::host::Shared;
use crate::link::World;
use crate::surroundings::Surroundings;

/// What a component is given. Nothing is granted that is not named here.
#[derive(Clone, Debug)]
pub struct ComponentSpec {
    /// Its compiled code.
    pub artifact: Artifact,
    /// What it sees as its environment, and through `wasi:config`.
    pub environment: Vec<(String, String)>,
    /// Key-value stores by the name that the guest opens.
    pub key_value: BTreeMap<String, Store>,
    /// Where its HTTP requests may go, on top of what `egress` allows.
    pub allowed_outbound_hosts: Vec<AllowedHost>,
    /// Its limits.
    pub limits: Limits,
    /// Whether it runs only through [`effects::Invoker`], its host calls recorded.
    pub durable: bool,
    /// What it gets of the machine it runs on. Nothing, except in a pod of its own.
    pub surroundings: Surroundings,
}

impl ComponentSpec {
    /// `artifact` with nothing granted and the default limits.
    pub fn new(artifact: Artifact) -> Self {
        Self {
            artifact,
            environment: Vec::new(),
            key_value: BTreeMap::new(),
            allowed_outbound_hosts: Vec::new(),
            limits: Limits::default(),
            durable: false,
            surroundings: Surroundings::default(),
        }
    }
}

/// What one instance may use, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes over all its memories and tables.
    pub memory: usize,
    /// From the request's head to the end of the guest's work.
    pub wall_time: Duration,
    /// Time on a CPU.
    pub cpu_time: Duration,
    /// Instances at a time, within a component's share of the pool ([`crate::Pool`]). As many may wait for a second; the
    /// rest is refused.
    pub concurrency: u32,
    /// Bytes of a request's body.
    pub request_body: u64,
    /// Bytes of a reply's body, and of bodies received from others, where they are held whole: in durable components.
    pub buffered_body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 128 << 20,
            wall_time: Duration::from_secs(30),
            cpu_time: Duration::from_secs(10),
            concurrency: 1_000,
            request_body: 1 << 20,
            buffered_body: 4 << 20,
        }
    }
}

/// A place that a component's HTTP requests may go to: `http://host`, `https://host:port`, `http://*.suffix:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AllowedHost {
    https: bool,
    /// Lower case; a leading dot stands for every name below it.
    host: String,
    port: u16,
}

/// Why a string is not an [`AllowedHost`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form http[s]://host[:port]")]
pub struct InvalidHost(String);

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        // A star is no character of an authority's host in `http::Uri`'s eyes everywhere; it is taken off first.
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        let wildcard = rest.strip_prefix("*.");
        let uri: Uri = format!("{scheme}://{}", wildcard.unwrap_or(rest)).parse().map_err(|_| invalid())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if !bare || authority.host().is_empty() || authority.host().contains('*') {
            return Err(invalid());
        }
        let dot = if wildcard.is_some() { "." } else { "" };
        Ok(Self {
            https,
            host: format!("{dot}{}", authority.host().to_ascii_lowercase()),
            port: authority.port_u16().unwrap_or(if https { 443 } else { 80 }),
        })
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.host.starts_with('.') { "*" } else { "" };
        write!(f, "{}://{star}{}:{}", if self.https { "https" } else { "http" }, self.host, self.port)
    }
}

impl AllowedHost {
    pub(crate) fn admits(&self, https: bool, host: &str, port: u16) -> bool {
        let named = if self.host.starts_with('.') {
            host.len() > self.host.len() && host.ends_with(&self.host)
        } else {
            host == self.host
        };
        named && self.https == https && self.port == port
    }
}

/// Why a component cannot be made ready.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeployError {
    /// It imports what this host does not have.
    #[error("imports not satisfied: {}", missing.join(", "))]
    ImportsUnsatisfied {
        /// The interfaces or functions by their full names.
        missing: Vec<String>,
    },
    /// It is durable and imports what has no class of effect.
    #[error("not available to durable components: {}", interfaces.join(", "))]
    Unclassified {
        /// The interfaces or functions by their full names.
        interfaces: Vec<String>,
    },
    /// It does not export `wasi:http/incoming-handler@0.2`.
    #[error("the component does not export wasi:http/incoming-handler@0.2")]
    NotHttp,
    /// Its code asks for more than a slot of the pool or its limits give.
    #[error("the component does not fit: {0}")]
    TooLarge(String),
    /// Anything else that is wrong with it.
    #[error("{0}")]
    Invalid(String),
}

/// A component made ready: linked, with what it was given. Cheap to share; a new spec makes a new one, and requests that
/// run on the old one finish there.
pub struct Component {
    pub(crate) name: Arc<str>,
    pub(crate) revision: String,
    pub(crate) spec: ComponentSpec,
    pub(crate) world: World,
    pub(crate) gate: Gate,
    pub(crate) host: Arc<Shared>,
}

impl Component {
    pub(crate) fn new(
        name: &str,
        revision: &str,
        spec: ComponentSpec,
        world: World,
        host: Arc<Shared>,
    ) -> Self {
        let gate = Gate::new(host.places(&spec.limits), spec.limits.concurrency);
        Self { name: name.into(), revision: revision.to_owned(), spec, world, gate, host }
    }

    /// `namespace/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of its bytes, `sha256:…`.
    pub fn digest(&self) -> &str {
        self.spec.artifact.digest()
    }

    /// `namespace/name@sha256:…`, and for a durable one a `+` and a hash of what it was given: what an invocation is pinned
    /// to.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Places for one more instance, its own and the pool's; `None`: there were none in time.
    pub(crate) async fn enter(&self) -> Option<[Place; 2]> {
        Some([self.gate.enter().await?, self.host.gate.enter().await?])
    }

    /// How long it takes to make an instance and to let it go again, for benchmarks.
    #[doc(hidden)]
    pub async fn time_instantiation(self: &Arc<Self>) -> Result<Duration, DeployError> {
        let failed = |error: wasmtime::Error| DeployError::Invalid(format!("{error:#}"));
        let places = self.enter().await.ok_or_else(|| DeployError::Invalid("no instance is free".into()))?;
        let started = Instant::now();
        let mut store = crate::run::store(self.clone(), None, places);
        match &self.world {
            World::Http(proxy) => {
                proxy.instantiate_async(&mut store).await.map_err(failed)?;
            }
            World::Command(command) => {
                command.instantiate_async(&mut store).await.map_err(failed)?;
            }
        }
        drop(store);
        Ok(started.elapsed())
    }

    /// What it was given.
    pub fn spec(&self) -> &ComponentSpec {
        &self.spec
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

/// Names the code together with everything that a durable guest sees without its being recorded: the environment (and
/// so `wasi:config`) and which stores there are under which names.
pub(crate) fn revision(name: &str, spec: &ComponentSpec) -> String {
    let digest = spec.artifact.digest();
    if !spec.durable {
        return format!("{name}@{digest}");
    }
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&spec.environment.len().to_string());
    for (name, value) in &spec.environment {
        part(name);
        part(value);
    }
    for (name, store) in &spec.key_value {
        part(name);
        part(store.name());
    }
    let given: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}@{digest}+{given}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_hosts_parse_and_match() {
        let admits = |pattern: &str, https, host, port| {
            pattern.parse::<AllowedHost>().unwrap().admits(https, host, port)
        };
        assert!(admits("http://example.com", false, "example.com", 80));
        assert!(admits("https://Example.com", true, "example.com", 443));
        assert!(admits("https://*.example.com", true, "a.b.example.com", 443));
        assert!(admits("http://[::1]:8080", false, "[::1]", 8080));
        assert!(!admits("https://*.example.com", true, "example.com", 443));
        assert!(!admits("https://*.example.com", true, "badexample.com", 443));
        assert!(!admits("http://example.com", true, "example.com", 80));
        assert!(!admits("http://example.com:81", false, "example.com", 80));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in
            ["example.com", "ftp://a", "http://", "http://a/b", "http://u@a", "http://a?b", "*", "http://a.*"]
        {
            assert!(text.parse::<AllowedHost>().is_err(), "{text}");
        }
    }
}
