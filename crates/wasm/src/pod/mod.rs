//! A component, or a core module of the kind before (`wasip1`), as the program of a pod's container: it has a process, an engine and the pod's surroundings to itself.
//!
//! In two steps, because the process forks between them. [`Program::load`] compiles (once, in a child), maps the code and
//! links it, and starts no thread; it may use what the machine has. [`Program::run`] is called in the container, where
//! nothing but the container is left to use, and returns when the program has ended: a command when it is done,
//! a `wasi:http` component when it is asked to end.
//!
//! The kernel bounds what the process takes, as for any container. The host adds a bound on each instance's memory, so that
//! a component that asks for more than its container may have is told so, and is not killed for it.

mod command;
mod module;
mod server;
mod signals;

use std::fs::File;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clock::{SystemClock, SystemRandom};
use egress::{Allowance, Connector, Policy};
use wasmtime::InstancePre;
use wasmtime_wasi::I32Exit;

use crate::artifact::{self, Artifact, ArtifactCache, CacheError, Code, MacKey};
use crate::compile::{CompileError, Compiler};
use crate::component::{Component, ComponentSpec, DeployError, Limits};
use crate::config::Pool;
use crate::engine::{self, CodeSettings, EngineError};
use crate::gate::Gate;
use crate::host::Shared;
use crate::link::{Linkers, World};
use crate::logs::TracingLogs;
use crate::run::{self, Ending};
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
    /// It is a core module that begins nowhere.
    #[error(
        "it is a core module without a function _start(): neither a command of WASI 0.1 (wasip1) nor a component"
    )]
    NoCommand,
    /// Its file cannot be read.
    #[error("{0}")]
    Read(std::io::Error),
    /// The key for compiled code cannot be read or made.
    #[error("the key for compiled components: {0}")]
    Key(std::io::Error),
}

/// A program's file.
#[derive(Debug)]
pub struct Source {
    /// The file, at its beginning.
    pub file: File,
    /// What stands for its content: as long as this is the same, so is that. `None`: the file is read to know it.
    pub identity: Option<String>,
}

/// A program, loaded.
pub struct Program {
    code: Linked,
    engine: wasmtime::Engine,
    memory: usize,
}

/// Code, with all that it imports.
enum Linked {
    Component(Artifact, Box<World>),
    Module(InstancePre<module::Guest>),
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
    /// Loads a component, or a core module of WASI 0.1, that may have `memory` bytes an instance. Takes a child's time where
    /// it was not compiled before.
    pub fn load(
        source: Source,
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
        let loading = Loading { engine: &engine, settings, code_hash: &code_hash, cache: &cache, compiler };
        let code = match loading.code(source)? {
            Code::Component(artifact) => {
                let world = link_component(&engine, &artifact, memory)?;
                Linked::Component(artifact, Box::new(world))
            }
            Code::Module(module) => Linked::Module(module::link(&engine, &module, memory)?),
        };
        Ok(Self { code, engine, memory })
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
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start: {error}"))?;
        let code = runtime.block_on(self.live(process));
        // A call into the system that does not return must not keep the container.
        runtime.shutdown_background();
        code
    }

    async fn live(self, process: Process) -> Result<i32, String> {
        let Self { code, engine, memory } = self;
        let stop = signals::Stop::listen().map_err(|error| format!("cannot hear signals: {error}"))?;
        let ticker = Ticker::start(&engine).map_err(|error| format!("cannot start: {error}"))?;
        let Process { arguments, environment, working_directory, directories, port } = process;
        let name = arguments.first().cloned().unwrap_or_default();
        let surroundings =
            Surroundings { arguments, directories, working_directory, network: true, standard_streams: true };
        match code {
            Linked::Module(module) => {
                Ok(module::run(&module, &environment, &surroundings, memory, &ticker, stop).await)
            }
            Linked::Component(artifact, world) => {
                let spec = spec(artifact, environment, memory, surroundings);
                let shared = Arc::new(shared(engine, ticker)?);
                let component = Arc::new(Component::new(&name, &name, spec, *world, shared));
                match &component.world {
                    World::Command(_) => Ok(command::run(&component, stop).await),
                    World::Http(_) => {
                        server::run(&component, (Ipv6Addr::UNSPECIFIED, port).into(), stop).await
                    }
                }
            }
        }
    }
}

/// What code is found or made with.
struct Loading<'a> {
    engine: &'a wasmtime::Engine,
    settings: CodeSettings,
    code_hash: &'a str,
    cache: &'a ArtifactCache,
    compiler: &'a Compiler,
}

impl Loading<'_> {
    /// The compiled code of a file, which is read only where nothing is known of it yet.
    fn code(&self, source: Source) -> Result<Code, LoadError> {
        let Source { file, identity } = source;
        if let Some(digest) = identity.as_ref().and_then(|identity| self.cache.noted(identity))
            && let Some(code) = self.cache.get_code(self.engine, &digest)?
        {
            return Ok(code);
        }
        let mut program = Vec::new();
        // One byte more than may be, for the compiler to refuse.
        file.take(self.compiler.largest() as u64 + 1).read_to_end(&mut program).map_err(LoadError::Read)?;
        let digest = artifact::digest(&program);
        let code = self.compiled(&program, &digest)?;
        if let Some(identity) = identity {
            self.cache.note(&identity, &digest)?;
        }
        Ok(code)
    }

    fn compiled(&self, program: &[u8], digest: &str) -> Result<Code, LoadError> {
        let cached = || self.cache.get_code(self.engine, digest);
        if let Some(code) = cached()? {
            return Ok(code);
        }
        let _turn = self.cache.turn(digest)?;
        // Somebody else may have had the turn before.
        if let Some(code) = cached()? {
            return Ok(code);
        }
        let code = self.compiler.compile_waiting(program, self.settings, self.code_hash)?;
        self.cache.put(digest, &code)?;
        let missing = || CompileError::Failed("the compiled code does not load".into());
        Ok(cached()?.ok_or_else(missing)?)
    }
}

fn link_component(engine: &wasmtime::Engine, artifact: &Artifact, memory: usize) -> Result<World, LoadError> {
    let failed = |error: wasmtime::Error| EngineError::Engine(format!("{error:#}"));
    let linkers = Linkers::new(engine).map_err(failed)?;
    linkers.link(&artifact.component, false, memory).map_err(|error| match error {
        DeployError::NotHttp => LoadError::NoProgram,
        error => LoadError::Link(error),
    })
}

fn shared(engine: wasmtime::Engine, ticker: Ticker) -> Result<Shared, String> {
    // The pod's own network is the bound, as for any container.
    let allow: Result<Vec<Allowance>, _> = ["0.0.0.0/0", "::/0"].iter().map(|all| all.parse()).collect();
    let allow = allow.map_err(|error| error.to_string())?;
    Ok(Shared {
        engine,
        egress: Connector::new(Policy { allow, ..Policy::default() }),
        logs: Arc::new(TracingLogs),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(SystemRandom::default()),
        gate: Gate::new(INSTANCES, INSTANCES * 4),
        share: INSTANCES,
        ticker,
    })
}

fn spec(
    artifact: Artifact,
    environment: Vec<(String, String)>,
    memory: usize,
    surroundings: Surroundings,
) -> ComponentSpec {
    ComponentSpec {
        environment,
        limits: Limits {
            memory,
            wall_time: UNBOUNDED,
            cpu_time: UNBOUNDED,
            concurrency: INSTANCES,
            request_body: u64::MAX,
            buffered_body: 0,
        },
        surroundings,
        ..ComponentSpec::new(artifact)
    }
}

/// The exit code of a program that did not come to its end by itself; its own, or one that tells how it failed, which is
/// said on standard error too. `out_of_memory`: it was refused some of the `memory` bytes that it may have.
fn ended(error: wasmtime::Error, out_of_memory: bool, memory: usize) -> i32 {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return exit.0;
    }
    let (code, why) = match run::ending(error, out_of_memory) {
        Ending::Limit("memory") => {
            (OUT_OF_MEMORY, format!("the program needs more than its limit of {memory} bytes of memory"))
        }
        Ending::Limit(limit) => (TRAPPED, format!("the program exceeded its limit of {limit}")),
        Ending::Failed(why) => (TRAPPED, format!("the program failed: {why}")),
        Ending::Halted(halt) => (TRAPPED, halt.to_string()),
        Ending::Busy => (NOT_BEGUN, "no instance is free".to_owned()),
    };
    complain(&why);
    code
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
