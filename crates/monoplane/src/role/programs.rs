//! Wasm programs in pods: the component host put into the shim. `sandbox` and `wasm` do not know each other: they meet
//! here.

use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use sandbox::WorkloadConfig;
use sandbox::shim::{Loaded, Process, Program, Workload, Workloads};
use serde::{Deserialize, Serialize};
use wasm::pod::{self, Cache};
use wasm::{CompileLimits, Compiler, Directory};

use super::confine;
use crate::layout::Layout;

/// The handler of the RuntimeClass for Wasm, and the workload's name.
pub const HANDLER: &str = "wasm";
/// What this program's shims bring along.
pub const WORKLOADS: Workloads = &[(HANDLER, &Wasm)];
/// Where a component answers requests if neither the pod nor its environment says.
const PORT: u16 = 8080;
/// Compiled code that nobody has begun for so long goes.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// How every Wasm file begins.
const MAGIC: &[u8] = b"\0asm";
/// What follows in a component, and in a module of the kind before components.
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const MODULE: [u8; 4] = [1, 0, 0, 0];

/// What the shim is told of the machine.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    artifacts: PathBuf,
    key: PathBuf,
}

/// How the node asks for the workload. What compiled code has not been used for long is removed.
///
/// # Errors
/// When the folder of compiled code cannot be read.
pub fn config(layout: &Layout) -> Result<WorkloadConfig> {
    let artifacts = layout.node().join("artifacts");
    pod::forget_unused(&artifacts, KEPT).with_context(|| format!("reading {}", artifacts.display()))?;
    let settings = Settings { artifacts, key: layout.node().join("artifacts.key") };
    Ok(WorkloadConfig { name: HANDLER.to_owned(), settings: serde_json::to_value(settings)? })
}

struct Wasm;

impl Workload for Wasm {
    fn load(&self, program: &Program<'_>) -> Result<Option<Box<dyn Loaded>>, String> {
        let name = program.arguments.first().map_or("", String::as_str);
        let broken = |error: std::io::Error| format!("{name}: {error}");
        let Some(mut file) = program.open().map_err(broken)? else { return Ok(None) };
        let mut head = Vec::new();
        file.by_ref().take(8).read_to_end(&mut head).map_err(broken)?;
        if !head.starts_with(MAGIC) {
            return Ok(None);
        }
        if ![COMPONENT, MODULE].iter().any(|version| head.ends_with(version)) {
            return Err(format!("{name} is of an unknown version of WebAssembly"));
        }
        file.rewind().map_err(broken)?;
        let source = pod::Source { identity: program.identity(&file), file };
        let Settings { artifacts, key } =
            Settings::deserialize(program.settings).map_err(|error| error.to_string())?;
        let cache = Cache { directory: artifacts, key_file: key };
        // The shim's own program, whichever release the node is by now: the code has to fit the engine that runs it.
        let compiler = Compiler::new("/proc/self/exe", ["compile-component"], CompileLimits::default());
        let loaded = pod::Program::load(source, program.memory_limit, &cache, &compiler);
        Ok(Some(Box::new(Ready(loaded.map_err(|error| format!("{name}: {error}"))?))))
    }
}

struct Ready(pod::Program);

impl Loaded for Ready {
    fn run(self: Box<Self>, process: Process) -> i32 {
        // Best effort, as at the edge: a kernel without seccomp runs containers without it, too.
        let _ = confine::give_up();
        let root = Directory {
            host: format!("/proc/self/fd/{}", process.root.as_raw_fd()).into(),
            guest: "/".to_owned(),
            readonly: process.readonly_root,
        };
        let volumes = process.volumes.iter().map(|(path, readonly)| Directory {
            host: path.into(),
            guest: path.clone(),
            readonly: *readonly,
        });
        // A volume may be a single file, which is no directory to open.
        let volumes = volumes.filter(|volume| volume.host.is_dir());
        let port = port(&process);
        self.0.run(pod::Process {
            directories: std::iter::once(root).chain(volumes).collect(),
            working_directory: process.working_directory.to_string_lossy().into_owned(),
            arguments: process.arguments,
            environment: process.environment,
            port,
        })
    }
}

/// The variable `PORT`, as web programs take it; else the first port that the pod says it listens on.
fn port(process: &Process) -> u16 {
    let named = process.environment.iter().rev().find(|(name, _)| name == "PORT");
    let named = named.and_then(|(_, value)| value.parse().ok());
    named.or(process.ports.first().copied()).unwrap_or(PORT)
}
