//! A component as the program of a pod's container: it has a process, an engine and the pod's surroundings to itself.
//!
//! In two steps, because the process forks between them. [`Program::load`] compiles (once, in a child), maps the code and
//! links it, and starts no thread; it may use what the machine has. [`Program::run`] is called in the container, where
//! nothing but the container is left to use, and returns when the program has ended: a `wasi:cli` command when it is done,
//! a `wasi:http` component when it is asked to end.
//!
//! The kernel bounds what the process takes, as for any container. The host adds a bound on each instance's memory, so that
//! a component that asks for more than its container may have is told so, and is not killed for it.

mod command;
mod server;
mod signals;

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{SystemClock, SystemRandom};
use egress::{Allowance, Connector, Policy};

use crate::artifact::{self, Artifact, ArtifactCache, CacheError, MacKey};
use crate::compile::{CompileError, Compiler};
use crate::component::{Component, ComponentSpec, DeployError, Limits};
use crate::config::Pool;
use crate::engine::{self, EngineError};
use crate::gate::Gate;
use crate::host::Shared;
use crate::link::{Linkers, World};
use crate::logs::TracingLogs;
use crate::surroundings::{Directory, Surroundings};
use crate::ticker::Ticker;

/// Exit code of a program that trapped, as of one that aborted.
const TRAPPED: i32 = 134;
/// Exit code of a program that asked for more memory than it may have, as of one that was killed for it.
const OUT_OF_MEMORY: i32 = 137;
/// Exit code of a program that could not be begun.
const NOT_BEGUN: i32 = 126;
/// Instances at a time of a component that answers requests.
const INSTANCES: u32 = 256;
/// The largest memory that a 32-bit guest can address, in bytes.
const WHOLE_MEMORY: u64 = 4 << 30;
/// A bound that a pod does not have beside its own: no time is longer than this.
const UNBOUNDED: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Where compiled code is kept.
#[derive(Clone, Debug)]
pub struct Cache {
    /// A directory of the owner's alone, shared by all pods of the machine.
    pub directory: PathBuf,
    /// Holds the key that the artifacts are authenticated with; made at first use.
    pub key_file: PathBuf,
}

/// Why a program cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine cannot be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Its compiled code cannot be kept or read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It wants what this host does not have.
    #[error(transparent)]
    Link(DeployError),
    /// It exports nothing to begin with.
    #[error("it exports neither wasi:cli/run@0.2 nor wasi:http/incoming-handler@0.2")]
    NoProgram,
    /// The key for compiled code cannot be read or made.
    #[error("the key for compiled components: {0}")]
    Key(std::io::Error),
}

/// A program, loaded.
pub struct Program {
    artifact: Artifact,
    world: World,
    engine: wasmtime::Engine,
    memory: usize,
}

/// What a program is given.
#[derive(Debug, Default)]
pub struct Process {
    /// Its arguments, its own name first.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Where it begins.
    pub working_directory: String,
    /// Its directories, the outermost first.
    pub directories: Vec<Directory>,
    /// Where it answers requests, if it does.
    pub port: u16,
}

impl Program {
    /// Loads a component that may have `memory` bytes an instance. Takes a child's time where it was not compiled before.
    pub fn load(
        component: Bytes,
        memory: Option<u64>,
        cache: &Cache,
        compiler: &Compiler,
    ) -> Result<Self, LoadError> {
        let memory = usize::try_from(memory.unwrap_or(WHOLE_MEMORY).min(WHOLE_MEMORY)).unwrap_or(usize::MAX);
        let pool = Pool {
            instances: INSTANCES,
            memory: usize::try_from(WHOLE_MEMORY).unwrap_or(usize::MAX),
            keep_resident: 0,
            table_keep_resident: 0,
            pagemap: false,
            ..Pool::default()
        };
        let (engine, settings) = engine::serving(&pool)?;
        let code_hash = engine::code_hash(&engine);
        let key = MacKey::load_or_create(&cache.key_file).map_err(LoadError::Key)?;
        let cache = ArtifactCache::open(&cache.directory, key, &code_hash)?;
        let digest = artifact::digest(&component);
        let artifact = match cache.get(&engine, &digest)? {
            Some(artifact) => artifact,
            None => {
                let _turn = cache.turn(&digest)?;
                // Somebody else may have had the turn before.
                match cache.get(&engine, &digest)? {
                    Some(artifact) => artifact,
                    None => {
                        let code = compiler.compile_waiting(&component, settings, &code_hash)?;
                        cache.put(&digest, &code)?;
                        let missing = || CompileError::Failed("the compiled code does not load".into());
                        cache.get(&engine, &digest)?.ok_or_else(missing)?
                    }
                }
            }
        };
        let failed = |error: wasmtime::Error| EngineError::Engine(format!("{error:#}"));
        let linkers = Linkers::new(&engine).map_err(failed)?;
        let world = linkers.link(&artifact.component, false, memory).map_err(|error| match error {
            DeployError::NotHttp => LoadError::NoProgram,
            error => LoadError::Link(error),
        })?;
        Ok(Self { artifact, world, engine, memory })
    }

    /// Runs it to its end, and returns its exit code. What goes wrong is said on standard error.
    pub fn run(self, process: Process) -> i32 {
        match self.try_run(process) {
            Ok(code) => code,
            Err(why) => {
                complain(&why);
                NOT_BEGUN
            }
        }
    }

    fn try_run(self, process: Process) -> Result<i32, String> {
        for directory in &process.directories {
            directory.try_open().map_err(|error| format!("{}: {error}", directory.guest))?;
        }
        let port = process.port;
        let component = Arc::new(self.component(process)?);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let code = runtime.block_on(async {
            let stop = signals::Stop::listen().map_err(|error| format!("cannot hear signals: {error}"))?;
            match &component.world {
                World::Command(_) => Ok(command::run(&component, stop).await),
                World::Http(_) => server::run(&component, (Ipv6Addr::UNSPECIFIED, port).into(), stop).await,
            }
        });
        // A call into the system that does not return must not keep the container.
        runtime.shutdown_background();
        code
    }

    fn component(self, process: Process) -> Result<Component, String> {
        // The pod's own network is the bound, as for any container.
        let allow: Result<Vec<Allowance>, _> = ["0.0.0.0/0", "::/0"].iter().map(|all| all.parse()).collect();
        let allow = allow.map_err(|error| error.to_string())?;
        let ticker = Ticker::start(&self.engine).map_err(|error| format!("cannot start: {error}"))?;
        let shared = Shared {
            engine: self.engine,
            egress: Connector::new(Policy { allow, ..Policy::default() }),
            logs: Arc::new(TracingLogs),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(SystemRandom::default()),
            gate: Gate::new(INSTANCES, INSTANCES * 4),
            share: INSTANCES,
            ticker,
        };
        let name = process.arguments.first().cloned().unwrap_or_default();
        let spec = ComponentSpec {
            environment: process.environment,
            limits: Limits {
                memory: self.memory,
                wall_time: UNBOUNDED,
                cpu_time: UNBOUNDED,
                concurrency: INSTANCES,
                request_body: u64::MAX,
                buffered_body: 0,
            },
            surroundings: Surroundings {
                arguments: process.arguments,
                directories: process.directories,
                working_directory: process.working_directory,
                network: true,
                standard_streams: true,
            },
            ..ComponentSpec::new(self.artifact)
        };
        Ok(Component::new(&name, &name, spec, self.world, Arc::new(shared)))
    }
}

/// Removes compiled code that no pod has begun with for so long.
///
/// # Errors
/// When a directory cannot be read or a file not removed.
pub fn forget_unused(cache: &Path, longer_than: Duration) -> std::io::Result<()> {
    artifact::forget_unused(cache, longer_than)
}

/// Says on standard error what the component cannot say itself.
fn complain(why: &str) {
    use std::io::Write;
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{why}");
}
