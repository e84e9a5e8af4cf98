//! What libcontainer does, done in a forked copy of the shim: it changes namespaces, working directory and dumpability
//! of the process that calls it, and allocates more than the shim may keep.
//!
//! The copy writes one frame with its result to descriptor 3 and ends. The process it made is then the shim's child,
//! since the shim is the next subreaper.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::{errors, mounts, rootfs, user};
use crate::cgroup::Tree;
use crate::files::{self, ContainerFiles, Plan, SandboxFiles};
use crate::seccomp::{Filter, install};
use crate::{devices, process, protocol};

/// What a helper does.
pub(crate) enum Task {
    /// `pid_namespace`: a descriptor of the calling shim's, for the one that the pod's containers share.
    Create {
        files: ContainerFiles,
        pid_namespace: Option<RawFd>,
    },
    Start,
    Exec {
        files: ContainerFiles,
        command: Vec<String>,
        number: u64,
    },
}

/// What it reports: the first process's number (0 from [`Task::Start`]), or why not.
pub(crate) type Outcome = Result<i32, String>;

/// Starts a helper. `stdio` becomes its standard files, and so the container's.
pub(crate) fn spawn(
    sandbox: &SandboxFiles,
    container: &str,
    task: &Task,
    stdio: [BorrowedFd<'_>; 3],
) -> std::io::Result<(Pid, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let pid = process::fork(|| {
        let numbers = stdio.map(|fd| fd.as_raw_fd());
        let Ok(mut report) = process::arrange_descriptors(numbers, writer.as_raw_fd()) else { return 1 };
        process::default_signals();
        let errors = errors::listen();
        let outcome = run(sandbox, container, task).map_err(|why| match errors.first() {
            Some(cause) if !why.contains(cause.trim()) => format!("{why} ({})", cause.trim()),
            _ => why,
        });
        match protocol::encode(&outcome) {
            Ok(frame) if report.write_all(&frame).is_ok() => 0,
            _ => 1,
        }
    })?;
    Ok((pid, reader))
}

fn run(sandbox: &SandboxFiles, container: &str, task: &Task) -> Outcome {
    match task {
        Task::Create { files, pid_namespace } => create(sandbox, container, files, *pid_namespace),
        Task::Start => {
            let mut container = Container::load(sandbox.oci().join(container)).map_err(chain)?;
            container.start().map_err(chain)?;
            Ok(0)
        }
        Task::Exec { files, command, number } => exec(sandbox, container, files, command, *number),
    }
}

fn builder(
    sandbox: &SandboxFiles,
    container: &str,
    seccomp: Option<Filter>,
) -> Result<ContainerBuilder, String> {
    ContainerBuilder::new(container.to_owned(), SyscallType::default())
        .with_executor(Command { seccomp })
        .with_root_path(sandbox.oci())
        .and_then(ContainerBuilder::validate_id)
        .map_err(chain)
}

fn create(
    sandbox: &SandboxFiles,
    container: &str,
    files: &ContainerFiles,
    pid_namespace: Option<RawFd>,
) -> Outcome {
    let plan: Plan = files::read_record(&files.plan()).map_err(|error| error.to_string())?;
    rootfs::mount_overlay(files, &plan)?;
    mounts::bind_parts(&plan.parts)?;
    let root = File::open(files.rootfs()).map_err(|error| format!("root: {error}"))?;
    let identity = user::resolve(&root, &plan.user)?;
    let mut spec: serde_json::Value = files::read(&files.spec()).map_err(|error| error.to_string())?;
    let cwd = spec.pointer("/process/cwd").and_then(|cwd| cwd.as_str()).unwrap_or("/").to_owned();
    rootfs::make_directory(&root.into(), Path::new(&cwd), (identity.uid, identity.gid))?;
    spec["process"]["user"] = serde_json::json!({
        "uid": identity.uid,
        "gid": identity.gid,
        "additionalGids": identity.groups,
    });
    if let Some(score) = spec.pointer("/process/oomScoreAdj").and_then(serde_json::Value::as_i64) {
        spec["process"]["oomScoreAdj"] = reachable_oom_score(score).into();
    }
    if let Some(namespace) = pid_namespace {
        join_pid_namespace(&mut spec, namespace);
    }
    if plan.seccomp.as_ref().is_some_and(|filter| filter.privileged) {
        install::widen(&mut spec["process"]);
    }
    files::write(&files.spec(), &spec).map_err(|error| error.to_string())?;
    let mut made = builder(sandbox, container, plan.seccomp)?
        .as_init(&files.0)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(chain)?;
    // Its process waits for the start: nothing of the image has run.
    if plan.limit_devices
        && let Err(why) = limit_devices(&spec)
    {
        made.delete(true).map_err(chain)?;
        return Err(why);
    }
    let pid = made.pid().ok_or("libcontainer gave no process")?;
    Ok(pid.as_raw())
}

fn limit_devices(spec: &serde_json::Value) -> Result<(), String> {
    let group = spec.pointer("/linux/cgroupsPath").and_then(serde_json::Value::as_str).unwrap_or_default();
    let limited = Tree::detect().and_then(|tree| tree.limit_devices(group, &devices::DEFAULT));
    limited.map_err(|error| format!("control group {group}: its devices cannot be limited: {error}"))
}

/// Names the shared namespace by the shim's own descriptor of it. The shim waits for this process, so its number is its
/// own; a number of the namespace's first process may have become another's.
fn join_pid_namespace(spec: &mut serde_json::Value, namespace: RawFd) {
    let path = format!("/proc/{}/fd/{namespace}", nix::unistd::getppid());
    let namespaces = spec.pointer_mut("/linux/namespaces").and_then(serde_json::Value::as_array_mut);
    for listed in namespaces.into_iter().flatten().filter(|listed| listed["type"] == "pid") {
        listed["path"] = path.as_str().into();
    }
}

/// The score asked for, or the lowest that the machine lets us have: lowering it is a privilege that root may lack.
fn reachable_oom_score(asked: i64) -> i64 {
    const FILE: &str = "/proc/self/oom_score_adj";
    if std::fs::write(FILE, asked.to_string()).is_ok() {
        return asked;
    }
    std::fs::read_to_string(FILE).ok().and_then(|score| score.trim().parse().ok()).unwrap_or(0)
}

fn exec(
    sandbox: &SandboxFiles,
    container: &str,
    files: &ContainerFiles,
    command: &[String],
    number: u64,
) -> Outcome {
    let spec: serde_json::Value = files::read(&files.spec()).map_err(|error| error.to_string())?;
    // The container's own process with another command: same user, capabilities, environment and directory.
    let mut process = spec["process"].clone();
    process["args"] = command.into();
    process["terminal"] = false.into();
    let path = files.0.join(format!("exec-{number}.json"));
    files::write(&path, &process).map_err(|error| error.to_string())?;
    let plan: Plan = files::read_record(&files.plan()).map_err(|error| error.to_string())?;
    let made = builder(sandbox, container, plan.seccomp)?
        .as_tenant()
        .with_process(Some(&path))
        .with_detach(true)
        .build()
        .map_err(chain);
    let _ = std::fs::remove_file(&path);
    Ok(made?.as_raw())
}

/// An error with its causes: libcontainer's outer ones say little.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Runs the configured command; libcontainer's own wants it executable by everyone. And confines it: libcontainer's own way
/// takes a C library.
#[derive(Clone)]
struct Command {
    seccomp: Option<Filter>,
}

impl Command {
    fn find(spec: &Spec) -> Result<(PathBuf, Vec<String>), String> {
        let process = spec.process().as_ref().ok_or("no process configured")?;
        let args = process.args().clone().unwrap_or_default();
        let name = args.first().ok_or("no command configured")?.clone();
        let environment = process.env().clone().unwrap_or_default();
        let path = environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
        let candidates: Vec<PathBuf> = match name.contains('/') {
            true => vec![PathBuf::from(&name)],
            false => path.split(':').map(|directory| Path::new(directory).join(&name)).collect(),
        };
        let mut why = format!("exec: {name:?}: executable file not found in $PATH");
        for candidate in candidates {
            match candidate.metadata() {
                Ok(metadata) if metadata.is_dir() => why = format!("exec: {name:?}: is a directory"),
                Ok(_) => match rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK) {
                    Ok(()) => return Ok((candidate, args)),
                    Err(error) => why = format!("exec: {name:?}: {error}"),
                },
                Err(error) if name.contains('/') => why = format!("exec: {name:?}: {error}"),
                Err(_) => {}
            }
        }
        Err(why)
    }
}

impl Executor for Command {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (path, args) = Self::find(spec).map_err(ExecutorError::Other)?;
        let c = |text: &[u8]| CString::new(text).map_err(|_| ExecutorError::InvalidArg);
        let path = c(path.as_os_str().as_encoded_bytes())?;
        let args = args.iter().map(|arg| c(arg.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        // The very last: whatever else is called before it, a profile would have to allow.
        if let Some(filter) = self.seccomp.as_ref().filter(|filter| !filter.privileged) {
            install::install(filter).map_err(|error| ExecutorError::Other(format!("seccomp: {error}")))?;
        }
        match nix::unistd::execv(&path, &args) {
            Ok(never) => match never {},
            Err(error) => Err(ExecutorError::Other(format!("exec {path:?}: {error}"))),
        }
    }

    /// Called in the container's process, when all is set up and before it says so.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        Self::find(spec).map_err(ExecutorValidationError::ArgValidationError)?;
        let privileged = self.seccomp.as_ref().filter(|filter| filter.privileged);
        let confined = privileged.map_or(Ok(()), install::confine_privileged);
        confined.map_err(|error| ExecutorValidationError::ArgValidationError(format!("seccomp: {error}")))
    }

    fn setup_envs(
        &self,
        envs: HashMap<String, String>,
    ) -> Result<(), libcontainer::workload::ExecutorSetEnvsError> {
        process::replace_environment(&envs);
        Ok(())
    }
}
