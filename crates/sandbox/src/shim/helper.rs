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
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::workload::{self, Workloads};
use super::{errors, mounts, rootfs, user, user_namespace};
use crate::cgroup::Tree;
use crate::files::{self, ContainerFiles, Plan, SandboxFiles};
use crate::seccomp::{Filter, install};
use crate::{devices, process, protocol};

/// What a helper does.
pub(crate) enum Task {
    /// The namespaces are descriptors of the calling shim's, for those that the pod's containers share.
    Create {
        files: ContainerFiles,
        pid_namespace: Option<RawFd>,
        console: Option<PathBuf>,
        user_namespace: Option<RawFd>,
        workloads: Workloads,
    },
    Start,
    Exec {
        files: ContainerFiles,
        command: Vec<String>,
        number: u64,
        console: Option<PathBuf>,
        user_namespace: Option<RawFd>,
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
    // The shim's own groups are the machine's: a container has those that it asks for.
    nix::unistd::setgroups(&[]).map_err(|error| format!("groups: {error}"))?;
    match task {
        Task::Create { files, pid_namespace, user_namespace, console, workloads } => {
            let namespaces = Namespaces { pid: of_shim(*pid_namespace)?, user: of_shim(*user_namespace)? };
            create(sandbox, container, files, &namespaces, console.as_deref(), workloads)
        }
        Task::Start => {
            let mut container = Container::load(sandbox.oci().join(container)).map_err(chain)?;
            container.start().map_err(chain)?;
            Ok(0)
        }
        Task::Exec { files, command, number, user_namespace, console } => {
            let (user, console) = (of_shim(*user_namespace)?, console.as_deref());
            exec(sandbox, container, files, command, *number, user, console)
        }
    }
}

/// Namespaces that the container is to enter.
struct Namespaces {
    pid: Option<File>,
    user: Option<File>,
}

/// Opens what the shim holds by one of its descriptors. The shim waits for this process, so its number is its own.
fn of_shim(descriptor: Option<RawFd>) -> Result<Option<File>, String> {
    let open = |descriptor| File::open(format!("/proc/{}/fd/{descriptor}", nix::unistd::getppid()));
    descriptor.map(open).transpose().map_err(|error| format!("the pod's namespaces: {error}"))
}

fn builder(
    sandbox: &SandboxFiles,
    container: &str,
    executor: impl Executor + 'static,
) -> Result<ContainerBuilder, String> {
    ContainerBuilder::new(container.to_owned(), SyscallType::default())
        .with_executor(executor)
        .with_root_path(sandbox.oci())
        .and_then(ContainerBuilder::validate_id)
        .map_err(chain)
}

fn create(
    sandbox: &SandboxFiles,
    container: &str,
    files: &ContainerFiles,
    namespaces: &Namespaces,
    console: Option<&Path>,
    workloads: Workloads,
) -> Outcome {
    let plan: Plan = files::read_record(&files.plan()).map_err(|error| error.to_string())?;
    let ids = plan.user_namespace;
    if ids.is_some() != namespaces.user.is_some() {
        return Err(
            "the container and its pod's shim differ on whether the pod has a user namespace".to_owned()
        );
    }
    let user = namespaces.user.as_ref();
    rootfs::mount_overlay(files, &plan, user)?;
    rootfs::mount_images(&plan.images, user)?;
    mounts::bind_parts(&plan.parts, user)?;
    let root = File::open(files.rootfs()).map_err(|error| format!("root: {error}"))?;
    let identity = user::resolve(&root, &plan.user)?;
    let owner = user::on_machine(&identity, ids)?;
    own_pipes(owner);
    let mut spec: serde_json::Value = files::read(&files.spec()).map_err(|error| error.to_string())?;
    let cwd = spec.pointer("/process/cwd").and_then(|cwd| cwd.as_str()).unwrap_or("/").to_owned();
    rootfs::make_directory(&root, Path::new(&cwd), owner)?;
    spec["process"]["user"] = serde_json::json!({
        "uid": identity.uid,
        "gid": identity.gid,
        "additionalGids": identity.groups,
    });
    if let Some(score) = spec.pointer("/process/oomScoreAdj").and_then(serde_json::Value::as_i64) {
        spec["process"]["oomScoreAdj"] = reachable_oom_score(score).into();
    }
    join(&mut spec, "pid", namespaces.pid.as_ref());
    join(&mut spec, "user", user);
    let layers = [plan.layers.as_slice(), &[files.upper()]].concat();
    let engine = workload::offer(workloads, plan.workload.as_ref(), &root, &layers, &mut spec)?;
    drop(root);
    // An engine needs no privilege to be confined: it never gains any.
    if engine.is_none() && plan.seccomp.as_ref().is_some_and(|filter| filter.privileged) {
        install::widen(&mut spec["process"]);
    }
    files::write(&files.spec(), &spec).map_err(|error| error.to_string())?;
    if user.is_some() {
        open_passage(sandbox, files)?;
    }
    let seccomp = plan.seccomp;
    let builder = match engine {
        Some(engine) => builder(sandbox, container, engine.confined(seccomp))?,
        None => builder(sandbox, container, Command { seccomp })?,
    };
    let mut made = builder
        .with_console_socket(console)
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

/// Names a shared namespace by this process's own descriptor of it, which its forks inherit: in the pod's user namespace
/// they may look at nobody else's, and a number of the namespace's first process may have become another's.
fn join(spec: &mut serde_json::Value, kind: &str, namespace: Option<&File>) {
    let Some(namespace) = namespace else { return };
    let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let namespaces = spec.pointer_mut("/linux/namespaces").and_then(serde_json::Value::as_array_mut);
    for listed in namespaces.into_iter().flatten().filter(|listed| listed["type"] == kind) {
        listed["path"] = path.as_str().into();
    }
}

/// Lets the pod's root pass to what the container is made of. The caller has a mount namespace to itself.
fn open_passage(sandbox: &SandboxFiles, files: &ContainerFiles) -> Result<(), String> {
    [&sandbox.0, &sandbox.containers(), &files.0]
        .into_iter()
        .try_for_each(|directory| user_namespace::let_through(directory))
        .and_then(|()| user_namespace::open_passage(&sandbox.0))
        .map_err(|error| format!("the way to {}: {error}", sandbox.0.display()))
}

/// Makes the pipes among the standard files the container's, which may open them by name (`/dev/stdout`).
fn own_pipes((uid, gid): (u32, u32)) {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let files = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for file in files {
        let kind = rustix::fs::fstat(file).map(|found| rustix::fs::FileType::from_raw_mode(found.st_mode));
        if kind == Ok(rustix::fs::FileType::Fifo) {
            // A program that finds them closed by name still has them open.
            let _ = rustix::fs::fchown(file, Some(uid), Some(gid));
        }
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
    user_namespace: Option<File>,
    console: Option<&Path>,
) -> Outcome {
    let spec: serde_json::Value = files::read(&files.spec()).map_err(|error| error.to_string())?;
    if let Some(workload) = workload::runs(&spec) {
        return Err(format!("a {workload} container runs no other program than its own"));
    }
    // The container's own process with another command: same user, capabilities, environment and directory.
    let mut process = spec["process"].clone();
    process["args"] = command.into();
    process["terminal"] = console.is_some().into();
    if console.is_some() {
        default_term(&mut process);
    }
    let path = files.0.join(format!("exec-{number}.json"));
    files::write(&path, &process).map_err(|error| error.to_string())?;
    let plan: Plan = files::read_record(&files.plan()).map_err(|error| error.to_string())?;
    let id = |name: &str| process["user"][name].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    let identity = user::Identity { uid: id("uid"), gid: id("gid"), groups: Vec::new() };
    own_pipes(user::on_machine(&identity, plan.user_namespace)?);
    if let Some(namespace) = user_namespace {
        // libcontainer does not: its command would be the machine's root. What it does from here on it does as the owner
        // of files and control groups that it still is, and with the pod's privileges alone.
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("mount namespace: {error}"))?;
        open_passage(sandbox, files)?;
        setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(|error| format!("user namespace: {error}"))?;
    }
    let made = builder(sandbox, container, Command { seccomp: plan.seccomp })?
        .with_console_socket(console)
        .as_tenant()
        .with_process(Some(&path))
        .with_detach(true)
        .build()
        .map_err(chain);
    let _ = std::fs::remove_file(&path);
    if let Some(console) = console {
        remove_links(&sandbox.oci().join(container), console);
    }
    Ok(made?.as_raw())
}

/// Programs on a terminal want to know of what kind it is.
fn default_term(process: &mut serde_json::Value) {
    let Some(environment) = process["env"].as_array_mut() else { return };
    let is_term =
        |variable: &serde_json::Value| variable.as_str().is_some_and(|text| text.starts_with("TERM="));
    if !environment.iter().any(is_term) {
        environment.push("TERM=xterm".into());
    }
}

/// Removes the links by which libcontainer reached a socket: it leaves one for every command that ran on a terminal.
fn remove_links(directory: &Path, target: &Path) {
    let links = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for link in links.filter(|link| std::fs::read_link(link).is_ok_and(|to| to == target)) {
        let _ = std::fs::remove_file(link);
    }
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
