//! The host: everything that components share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use clock::{Clock, Random};
use egress::Connector;
use wasmtime::Engine;

use crate::artifact::{self, Artifact, ArtifactCache};
use crate::compile::{CompileError, Compiler};
use crate::component::{Component, ComponentSpec, DeployError, Limits, revision};
use crate::config::Config;
use crate::engine::{self, CodeSettings, EngineError};
use crate::gate::Gate;
use crate::link::{Linkers, World};
use crate::logs::LogSink;
use crate::ticker::Ticker;

/// Compiles, keeps and runs components. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
    builder: Arc<Builder>,
    /// Deployed components by revision, for the durable worker.
    revisions: Arc<RwLock<HashMap<String, Arc<Component>>>>,
}

/// The bytes of a component with their digest.
#[derive(Clone, Debug)]
pub struct Binary {
    digest: String,
    bytes: Bytes,
}

impl Binary {
    /// Computes the digest, where it holds up nobody.
    pub async fn new(bytes: Bytes) -> Result<Self, CompileError> {
        let (digest, bytes) = blocking(move || (artifact::digest(&bytes), bytes)).await?;
        Ok(Self { digest, bytes })
    }

    /// `sha256:…`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// What running components use.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) egress: Connector,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// The slots of the pool.
    pub(crate) gate: Gate,
    /// The most of them that one component gets.
    pub(crate) share: u32,
    pub(crate) ticker: Ticker,
}

impl Shared {
    /// How many instances a component with these limits may have at a time.
    pub(crate) fn places(&self, limits: &Limits) -> u32 {
        limits.concurrency.min(self.share)
    }
}

/// What makes components.
struct Builder {
    cache: Arc<ArtifactCache>,
    compiler: Compiler,
    settings: CodeSettings,
    code_hash: String,
    linkers: Linkers,
    /// Held by digest while one is compiled, so that nobody compiles it a second time meanwhile.
    compiling: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Host {
    /// Makes a host. The pool's address space is set aside here.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let (engine, settings) = engine::serving(&config.pool)?;
        let code_hash = engine::code_hash(&engine);
        let cache = Arc::new(ArtifactCache::open(&config.cache_dir, config.key, &code_hash)?);
        cache.sweep()?;
        let failed = |error: &dyn fmt::Display| EngineError::Engine(error.to_string());
        let linkers = Linkers::new(&engine).map_err(|error| failed(&format!("{error:#}")))?;
        let ticker = Ticker::start(&engine).map_err(|error| failed(&error))?;
        let shared = Shared {
            engine,
            egress: config.egress,
            logs: config.logs,
            clock: config.clock,
            random: config.random,
            gate: Gate::new(config.pool.instances, config.pool.instances),
            share: config.pool.share(),
            ticker,
        };
        let compiling = Mutex::default();
        Ok(Self {
            shared: Arc::new(shared),
            builder: Arc::new(Builder {
                cache,
                compiler: config.compiler,
                settings,
                code_hash,
                linkers,
                compiling,
            }),
            revisions: Arc::default(),
        })
    }

    /// Compiles a component, unless that was done before; never on this process's own account. Dropping the future stops
    /// the compiling.
    pub async fn compile(&self, component: Bytes) -> Result<Artifact, CompileError> {
        self.compile_binary(Binary::new(component).await?).await
    }

    /// [`Host::compile`], where the digest is known already.
    pub async fn compile_binary(&self, binary: Binary) -> Result<Artifact, CompileError> {
        let Binary { digest, bytes: component } = binary;
        let turn = self.builder.turn(&digest);
        let _turn = turn.lock().await;
        if let Some(artifact) = self.cached(&digest).await? {
            return Ok(artifact);
        }
        let builder = &self.builder;
        let code = builder.compiler.compile(&component, builder.settings, &builder.code_hash).await?;
        let (cache, key) = (builder.cache.clone(), digest.clone());
        blocking(move || cache.put(&key, &code)).await??;
        tracing::info!(%digest, bytes = component.len(), "component compiled");
        self.cached(&digest)
            .await?
            .ok_or_else(|| CompileError::Failed("the compiled code does not load".into()))
    }

    /// The artifact of the component with that digest (`sha256:…`), if it was compiled here before.
    pub async fn cached(&self, digest: &str) -> Result<Option<Artifact>, CompileError> {
        let (cache, engine, digest) =
            (self.builder.cache.clone(), self.shared.engine.clone(), digest.to_owned());
        Ok(blocking(move || cache.get(&engine, &digest)).await??)
    }

    /// Makes a component ready to run under `name` (`namespace/name`). Cheap: the same artifact may be deployed again with
    /// other bindings or limits at any time. The result serves requests; durable invocations find it by its
    /// [revision](Component::revision), where it takes the place of an earlier one. Other revisions of the name stay until
    /// they are retired.
    pub fn deploy(&self, name: &str, spec: ComponentSpec) -> Result<Arc<Component>, DeployError> {
        self.deploy_as(&revision(name, &spec), spec)
    }

    /// [`Host::deploy`] under the revision that invocations are pinned to already, whatever its name was made of.
    pub fn deploy_as(&self, revision: &str, spec: ComponentSpec) -> Result<Arc<Component>, DeployError> {
        let name = revision.split_once('@').map_or(revision, |(name, _)| name);
        let world = self.builder.linkers.link(&spec.artifact.component, spec.durable, spec.limits.memory)?;
        if !matches!(world, World::Http(_)) {
            return Err(DeployError::NotHttp);
        }
        let component = Arc::new(Component::new(name, revision, spec, world, self.shared.clone()));
        let mut revisions = self.revisions.write().unwrap_or_else(PoisonError::into_inner);
        revisions.insert(revision.to_owned(), component.clone());
        Ok(component)
    }

    /// Forgets a revision; no new durable invocation of it runs. What runs, goes on.
    pub fn retire(&self, revision: &str) {
        self.revisions.write().unwrap_or_else(PoisonError::into_inner).remove(revision);
    }

    /// The component deployed under that revision.
    pub fn deployed(&self, revision: &str) -> Option<Arc<Component>> {
        self.revisions.read().unwrap_or_else(PoisonError::into_inner).get(revision).cloned()
    }
}

impl Builder {
    fn turn(&self, digest: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds any more go when the next one comes.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(digest.to_owned()).or_default().clone()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CompileError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| CompileError::Failed(error.to_string()))
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("code_hash", &self.builder.code_hash).finish_non_exhaustive()
    }
}
