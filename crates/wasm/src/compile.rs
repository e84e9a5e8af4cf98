//! Compiling, in a short-lived child process with limits.
//!
//! The compiler is the largest piece of code that hostile bytes reach, and the hungriest: it runs in a child that is
//! this same binary with a hidden subcommand, gets the component on its standard input, answers the code on its standard
//! output, and can harm nobody by crashing, looping or asking for memory.

use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use crate::engine::{CodeSettings, code_hash};

/// First word of the line that parent and child exchange before the bytes; changes with the protocol.
const GREETING: &str = "monoplane-compile/1";
/// Exit code of a child that found the component to be invalid.
const EXIT_INVALID: u8 = 65;
/// Exit code of a child that could not do its work.
const EXIT_FAILED: u8 = 70;
/// The user and group that own nothing.
const NOBODY: u32 = 65_534;
/// How much of a child's complaint is kept.
const MESSAGE_LIMIT: u64 = 16 << 10;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not a valid component.
    #[error("not a valid component: {0}")]
    Invalid(String),
    /// It is larger than components may be.
    #[error("the component is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The compiler hit one of its limits, which the text names.
    #[error("compiling exceeded its limit of {0}")]
    LimitExceeded(&'static str),
    /// The compiler failed.
    #[error("compiling failed: {0}")]
    Failed(String),
    /// Its result could not be kept.
    #[error(transparent)]
    Cache(#[from] crate::artifact::CacheError),
}

/// What a compiling child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of address space.
    pub address_space: u64,
    /// Time on a CPU.
    pub cpu_time: Duration,
    /// Time by the clock.
    pub wall_time: Duration,
    /// Bytes of a component.
    pub component: usize,
    /// Bytes of the code made from it.
    pub code: u64,
    /// Children at a time; the others wait.
    pub concurrency: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            address_space: 3 << 30,
            cpu_time: Duration::from_secs(60),
            wall_time: Duration::from_secs(120),
            component: 64 << 20,
            code: 512 << 20,
            concurrency: 1,
        }
    }
}

/// Starts compiling children.
#[derive(Debug)]
pub struct Compiler {
    executable: PathBuf,
    arguments: Vec<String>,
    limits: CompileLimits,
    places: Semaphore,
}

impl Compiler {
    /// Children are `executable` with `arguments`; what runs there must call [`compile_child_main`].
    pub fn new(
        executable: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<String>>,
        limits: CompileLimits,
    ) -> Self {
        Self {
            executable: executable.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            limits,
            places: Semaphore::new(limits.concurrency.max(1)),
        }
    }

    /// Bytes of the largest component that it compiles.
    pub(crate) fn largest(&self) -> usize {
        self.limits.component
    }

    /// Compiles `component` for an engine with `settings` and `code_hash`. Dropping the future kills the child.
    pub(crate) async fn compile(
        &self,
        component: &[u8],
        settings: CodeSettings,
        code_hash: &str,
    ) -> Result<Vec<u8>, CompileError> {
        if component.len() > self.limits.component {
            return Err(CompileError::TooLarge { limit: self.limits.component });
        }
        if is_module(component) {
            return Err(CompileError::Invalid(
                "it is a core module: make it a component with `wasm-tools component new`".to_owned(),
            ));
        }
        let Ok(_place) = self.places.acquire().await else {
            return Err(CompileError::Failed("the compiler is shut down".into()));
        };
        let child = self
            .spawn()
            .map_err(|error| CompileError::Failed(format!("cannot start the compiler: {error}")))?;
        let greeting = self.greeting(settings);
        match tokio::time::timeout(self.limits.wall_time, self.converse(child, &greeting, component)).await {
            Err(_) => Err(CompileError::LimitExceeded("wall time")),
            Ok(Err(error)) => Err(CompileError::Failed(error.to_string())),
            Ok(Ok(Answer { status, output, message })) => judge(status, output, &message, code_hash),
        }
    }

    /// [`Compiler::compile`], also for core modules, for a process that has one thread and is to keep it so. The child's own
    /// limits end it; so does the end of this process. As root it makes the child nobody.
    pub(crate) fn compile_waiting(
        &self,
        component: &[u8],
        settings: CodeSettings,
        code_hash: &str,
    ) -> Result<Vec<u8>, CompileError> {
        if component.len() > self.limits.component {
            return Err(CompileError::TooLarge { limit: self.limits.component });
        }
        let failed = |error: std::io::Error| CompileError::Failed(error.to_string());
        let Answer { status, output, message } =
            self.converse_waiting(&self.greeting(settings), component).map_err(failed)?;
        judge(status, output, &message, code_hash)
    }

    fn converse_waiting(&self, greeting: &str, component: &[u8]) -> std::io::Result<Answer> {
        use std::os::unix::process::CommandExt;
        // All of it before the child begins, in memory that it inherits: nobody has to write while another reads.
        let input = rustix::fs::memfd_create("component", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut input = std::fs::File::from(input);
        input.write_all(greeting.as_bytes())?;
        input.write_all(component)?;
        input.rewind()?;
        let mut command = std::process::Command::new(&self.executable);
        command.args(&self.arguments).env_clear();
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn()?;
        let closed = || std::io::Error::other("a pipe to the compiler is missing");
        let stdout = child.stdout.take().ok_or_else(closed)?;
        let stderr = child.stderr.take().ok_or_else(closed)?;
        let (mut output, mut message) = (Vec::new(), Vec::new());
        // Its complaint is one line written at the end, which a pipe holds until it is read.
        let read = stdout.take(self.limits.code).read_to_end(&mut output);
        let read = read.and_then(|_| stderr.take(MESSAGE_LIMIT).read_to_end(&mut message));
        if read.is_err() {
            let _ = child.kill();
        }
        let status = child.wait()?;
        read?;
        Ok(Answer { status, output, message: String::from_utf8_lossy(&message).trim().to_owned() })
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.executable)
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    fn greeting(&self, settings: CodeSettings) -> String {
        let CompileLimits { address_space, cpu_time, .. } = self.limits;
        format!("{GREETING} {} {address_space} {}\n", settings.reservation, cpu_time.as_secs().max(1))
    }

    async fn converse(&self, mut child: Child, greeting: &str, component: &[u8]) -> std::io::Result<Answer> {
        let closed = || std::io::Error::other("a pipe to the compiler is missing");
        let mut stdin = child.stdin.take().ok_or_else(closed)?;
        let stdout = child.stdout.take().ok_or_else(closed)?;
        let stderr = child.stderr.take().ok_or_else(closed)?;
        let send = async {
            // A child that gives up early closes its input: what it says matters, not that we could not go on writing.
            if stdin.write_all(greeting.as_bytes()).await.is_ok() && stdin.write_all(component).await.is_ok()
            {
                let _ = stdin.shutdown().await;
            }
            drop(stdin);
        };
        let (mut output, mut message) = (Vec::new(), Vec::new());
        let mut stdout = stdout.take(self.limits.code);
        let mut stderr = stderr.take(MESSAGE_LIMIT);
        let ((), read, said) =
            tokio::join!(send, stdout.read_to_end(&mut output), stderr.read_to_end(&mut message));
        read?;
        said?;
        // With its pipes at an end (or over the limit) there is nothing more to wait for but its exit.
        drop((stdout, stderr));
        let status = child.wait().await?;
        Ok(Answer { status, output, message: String::from_utf8_lossy(&message).trim().to_owned() })
    }
}

struct Answer {
    status: ExitStatus,
    output: Vec<u8>,
    message: String,
}

fn judge(
    status: ExitStatus,
    mut output: Vec<u8>,
    message: &str,
    code_hash: &str,
) -> Result<Vec<u8>, CompileError> {
    const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
    const KILL: i32 = rustix::process::Signal::KILL.as_raw();
    const ABORT: i32 = rustix::process::Signal::ABORT.as_raw();
    match (status.code(), status.signal()) {
        (Some(0), _) => {
            let line = format!("{GREETING} {code_hash}\n");
            if !output.starts_with(line.as_bytes()) {
                let why = "the compiler is of another version than this process";
                return Err(CompileError::Failed(why.into()));
            }
            output.drain(..line.len());
            Ok(output)
        }
        (Some(code), _) if code == i32::from(EXIT_INVALID) => Err(CompileError::Invalid(message.to_owned())),
        (None, Some(XCPU | KILL)) => Err(CompileError::LimitExceeded("cpu time")),
        // Rust aborts when an allocation fails.
        (None, Some(ABORT)) if message.contains("memory allocation") => {
            Err(CompileError::LimitExceeded("memory"))
        }
        _ => Err(CompileError::Failed(format!("{status}: {message}"))),
    }
}

/// What the hidden subcommand runs: reads a component from standard input, writes code to standard output. The process
/// must not have started other threads, and ends with the code returned.
pub fn compile_child_main() -> ExitCode {
    let (code, message) = match compile_here() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(ChildError::Invalid(message)) => (EXIT_INVALID, message),
        Err(ChildError::Failed(message)) => (EXIT_FAILED, message),
    };
    // Nobody is left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(code)
}

/// Whether it begins as a core module, the kind before components.
fn is_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

enum ChildError {
    Invalid(String),
    Failed(String),
}

fn compile_here() -> Result<(), ChildError> {
    let failed = |error: &dyn std::fmt::Display| ChildError::Failed(error.to_string());
    // Nobody waits for the result of a child whose parent is gone.
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal).map_err(|error| failed(&error))?;
    let mut input = Vec::new();
    std::io::stdin().lock().read_to_end(&mut input).map_err(|error| failed(&error))?;
    let (settings, address_space, cpu_seconds, component) = parse_greeting(&input)
        .ok_or_else(|| failed(&"this subcommand is for the component host's own use"))?;
    limit(address_space, cpu_seconds).map_err(|error| failed(&error))?;
    let engine = settings.compiling().map_err(|error| failed(&error))?;
    let code = match is_module(component) {
        true => engine.precompile_module(component),
        false => engine.precompile_component(component),
    };
    let code = code.map_err(|error| ChildError::Invalid(format!("{error:#}")))?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{GREETING} {}", code_hash(&engine))
        .and_then(|()| output.write_all(&code))
        .and_then(|()| output.flush())
        .map_err(|error| failed(&error))
}

fn parse_greeting(input: &[u8]) -> Option<(CodeSettings, u64, u64, &[u8])> {
    let end = input.iter().take(256).position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&input[..end]).ok()?.split(' ');
    if words.next()? != GREETING {
        return None;
    }
    let mut number = || words.next()?.parse::<u64>().ok();
    let (reservation, address_space, cpu_seconds) = (number()?, number()?, number()?);
    Some((CodeSettings { reservation }, address_space, cpu_seconds, &input[end + 1..]))
}

fn limit(address_space: u64, cpu_seconds: u64) -> rustix::io::Result<()> {
    let set = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    set(Resource::As, address_space)?;
    set(Resource::Cpu, cpu_seconds)?;
    set(Resource::Core, 0)?;
    // It opens nothing and writes no file: its three pipes are all it has.
    set(Resource::Nofile, 3)?;
    set(Resource::Fsize, 0)?;
    // Requests come before compiling, where there is but one core for both.
    rustix::process::nice(10)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_read_back() {
        let compiler = Compiler::new("x", [""; 0], CompileLimits::default());
        let mut input = compiler.greeting(CodeSettings { reservation: 42 }).into_bytes();
        input.extend_from_slice(b"\0asm\n");
        let (settings, space, cpu, component) = parse_greeting(&input).unwrap();
        assert_eq!((settings.reservation, space, cpu, component), (42, 3 << 30, 60, &b"\0asm\n"[..]));
        for bad in
            [&b""[..], b"\n", b"monoplane-compile/1\n", b"monoplane-compile/1 1 x 3\n", b"other 1 2 3\n"]
        {
            assert!(parse_greeting(bad).is_none());
        }
    }

    #[test]
    fn endings_are_told_apart() {
        let judged = |raw, message| judge(ExitStatus::from_raw(raw), Vec::new(), message, "h").unwrap_err();
        assert!(matches!(judged(65 << 8, "bad magic"), CompileError::Invalid(text) if text == "bad magic"));
        assert!(matches!(judged(24, ""), CompileError::LimitExceeded("cpu time")));
        assert!(matches!(
            judged(6, "memory allocation of 9 bytes failed"),
            CompileError::LimitExceeded("memory")
        ));
        assert!(matches!(judged(11, ""), CompileError::Failed(_)));
        assert!(matches!(judged(0, ""), CompileError::Failed(text) if text.contains("version")));
    }
}
