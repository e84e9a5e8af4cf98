//! What runs in a container's first process in place of the image's program: an engine for programs that the kernel does
//! not know.
//!
//! The shim's program brings its workloads along; a container is offered to the one of its pod's handler. It has two
//! turns. [`Workload::load`] is called on the machine, once the container's root is mounted: what it needs of the machine
//! it takes now. What it gives back crosses into the container with the fork that makes the container's first process, and
//! runs there in place of `exec`. Nothing of the machine has to be reachable in the container, nor a program to be in it.

use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use container::{Configuration, seccomp};
use serde_json::Value;

use crate::files::WorkloadPlan;
use crate::process;
use crate::seccomp::Filter;

/// The workloads of a shim's program, by the names that [`crate::WorkloadConfig`] gives them.
pub type Workloads = &'static [(&'static str, &'static dyn Workload)];

/// An engine for programs.
pub trait Workload: Sync {
    /// Loads a container's program; `None` when it is not one of this engine's, and is for the kernel to execute.
    ///
    /// Called as root on the machine, in a process of one thread, which has to have one thread still when this returns. The
    /// files that are open by then and were not before stay open for the program, and no others.
    ///
    /// # Errors
    /// Why the program cannot be run, in words for whoever wrote the pod.
    fn load(&self, program: &Program<'_>) -> Result<Option<Box<dyn Loaded>>, String>;
}

/// A program in memory.
pub trait Loaded: Send {
    /// Runs it to its end, in the container, and returns its exit code. Its standard files are the container's.
    fn run(self: Box<Self>, process: Process) -> i32;
}

/// A program to load.
#[derive(Debug)]
pub struct Program<'a> {
    /// The configured settings.
    pub settings: &'a Value,
    /// The container's root: its image's files, without what is mounted there.
    pub root: &'a File,
    /// What the root is made of: the image's layers, the base first, and at last what the container itself has written.
    pub layers: &'a [PathBuf],
    /// Its words, the first of which names it.
    pub arguments: &'a [String],
    /// Where it begins: what a relative name is relative to.
    pub working_directory: &'a Path,
    /// Bytes of memory that the container may have.
    pub memory_limit: Option<u64>,
}

/// What a running program has.
#[derive(Debug)]
pub struct Process {
    /// Its words, the first of which names it.
    pub arguments: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Where it begins.
    pub working_directory: PathBuf,
    /// The container's root without what is mounted in it, no `/proc` above all: an engine's own memory is a file there.
    pub root: File,
    /// Whether the root refuses writing.
    pub readonly_root: bool,
    /// The container's volumes by their paths, and whether they refuse writing.
    pub volumes: Vec<(String, bool)>,
    /// Ports that it is said to listen on.
    pub ports: Vec<u16>,
}

/// Offers a container to its workload. Its configuration is changed where the workload takes it: an engine needs no
/// capabilities, and what it runs is not to gain any.
pub(super) fn offer(
    workloads: Workloads,
    plan: Option<&WorkloadPlan>,
    root: &File,
    layers: &[PathBuf],
    configuration: &mut Configuration,
) -> Result<Option<Engine>, String> {
    let Some(plan) = plan else { return Ok(None) };
    let name = &plan.config.name;
    let (_, workload) = workloads
        .iter()
        .find(|(known, _)| known == name)
        .ok_or_else(|| format!("this pod's shim has no workload {name:?}: it is of another release"))?;
    let process = &mut configuration.process;
    let listed = |error| format!("the files that are open: {error}");
    let before = process::open_files().map_err(listed)?;
    let loaded = workload.load(&Program {
        settings: &plan.config.settings,
        root,
        layers,
        arguments: &process.args,
        working_directory: &process.cwd,
        memory_limit: plan.memory_limit,
    })?;
    let Some(loaded) = loaded else { return Ok(None) };
    let mut files = process::open_files().map_err(listed)?;
    files.retain(|file| !before.contains(file));
    process.capabilities.permitted.clear();
    process.no_new_privileges = true;
    let process = Process {
        arguments: process.args.clone(),
        environment: Vec::new(),
        working_directory: process.cwd.clone(),
        root: root.try_clone().map_err(|error| format!("root: {error}"))?,
        readonly_root: configuration.root.readonly,
        volumes: plan.volumes.clone(),
        ports: plan.ports.clone(),
    };
    Ok(Some(Engine { name: name.clone(), loaded, process, files }))
}

/// A loaded program, to be run where one would be executed.
pub(super) struct Engine {
    /// The workload's.
    pub(super) name: String,
    loaded: Box<dyn Loaded>,
    process: Process,
    /// What the program has opened for itself.
    files: Vec<RawFd>,
}

impl Engine {
    /// Runs it to its end, under the container's filter for system calls. What is returned is why not.
    pub(super) fn run(self, filter: Option<&Filter>, environment: &[String]) -> String {
        let pairs = environment.iter().filter_map(|pair| pair.split_once('='));
        let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        process::replace_environment(&pairs.iter().cloned().collect());
        // What else is open would be closed at `exec`, which does not come.
        let kept = [&[self.process.root.as_raw_fd()], self.files.as_slice()].concat();
        let confined = process::close_all_but(&kept).map_err(|error| format!("closing files: {error}"));
        let confined = confined.and_then(|()| {
            let installed = filter.map_or(Ok(()), seccomp::install);
            installed.map_err(|error| format!("seccomp: {error}"))
        });
        if let Err(why) = confined {
            return why;
        }
        process::end(self.loaded.run(Process { environment: pairs, ..self.process }))
    }
}

impl Program<'_> {
    /// Opens the file that the first word names, within the container's root; `None`: there is none. Links in it lead
    /// nowhere outside.
    ///
    /// # Errors
    /// When it is there and cannot be opened, or is no regular file.
    pub fn open(&self) -> std::io::Result<Option<File>> {
        use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
        let Some(name) = self.arguments.first().filter(|name| !name.is_empty()) else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = self.working_directory.join(name);
        match openat2(self.root, &path, flags, Mode::empty(), inside) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(file) => {
                let file = File::from(file);
                let regular = file.metadata()?.is_file();
                Ok(regular.then_some(file))
            }
        }
    }
}

impl Program<'_> {
    /// What stands for the content of a file that [`Program::open`] gave: the image's layer that it comes from, its place
    /// there, and when it was changed last. `None`: it comes from none, and nobody but the container knows what is in it.
    pub fn identity(&self, file: &File) -> Option<String> {
        let real = |file: &File| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        let path = real(file)?;
        let path = path.strip_prefix(real(self.root)?).ok()?;
        let (written, layers) = self.layers.split_last()?;
        if find(written, path).is_some() {
            return None;
        }
        // What is in several shows the topmost.
        let (layer, found) = layers.iter().rev().find_map(|layer| Some((layer, find(layer, path)?)))?;
        let shown = file.metadata().ok()?;
        let same = found.is_file() && found.len() == shown.len() && found.mtime() == shown.mtime();
        let changed = (found.ctime(), found.ctime_nsec());
        same.then(|| format!("{}\0{}\0{}\0{changed:?}", layer.display(), path.display(), found.ino()))
    }
}

/// What a directory has at a path, without following a link.
fn find(directory: &Path, path: &Path) -> Option<Metadata> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = openat(CWD, directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    File::from(openat2(directory, path, flags, Mode::empty(), inside).ok()?).metadata().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_is_found_in_its_root_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        std::fs::create_dir_all(root.join("app")).unwrap();
        std::fs::write(directory.path().join("outside"), "outside").unwrap();
        std::fs::write(root.join("app/program.wasm"), "inside").unwrap();
        symlink("/app/program.wasm", root.join("absolute")).unwrap();
        symlink("../outside", root.join("up")).unwrap();
        let root = File::open(root).unwrap();
        let found = |name: &str, at: &str| {
            let arguments = [name.to_owned()];
            let program = Program {
                settings: &Value::Null,
                root: &root,
                layers: &[],
                arguments: &arguments,
                working_directory: Path::new(at),
                memory_limit: None,
            };
            let mut text = String::new();
            program.open().unwrap().map(|mut file| file.read_to_string(&mut text).map(|_| text).unwrap())
        };
        for (name, at) in [("/app/program.wasm", "/"), ("program.wasm", "/app"), ("absolute", "/")] {
            assert_eq!(found(name, at).as_deref(), Some("inside"), "{name}");
        }
        for name in ["up", "/../outside", "app", "missing", ""] {
            assert_eq!(found(name, "/"), None, "{name}");
        }
    }

    #[test]
    fn a_file_is_known_by_its_layer_until_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["base/app", "top/app", "upper/app", "root/app"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("base/app/a.wasm"), "first").unwrap();
        std::fs::write(at("top/app/b.wasm"), "other").unwrap();
        std::fs::write(at("upper/app/own.wasm"), "own").unwrap();
        // An overlay shows the layers' own files; here they are linked.
        for (from, to) in [("base/app/a.wasm", "a"), ("top/app/b.wasm", "b"), ("upper/app/own.wasm", "own")] {
            std::fs::hard_link(at(from), at(&format!("root/app/{to}.wasm"))).unwrap();
        }
        let (root, layers) = (File::open(at("root")).unwrap(), [at("base"), at("top"), at("upper")]);
        let known = |name: &str| {
            let arguments = [format!("/app/{name}.wasm")];
            let program = Program {
                settings: &Value::Null,
                root: &root,
                layers: &layers,
                arguments: &arguments,
                working_directory: Path::new("/"),
                memory_limit: None,
            };
            program.identity(&program.open().unwrap().unwrap())
        };
        let first = known("a").unwrap();
        assert_eq!(known("a").as_ref(), Some(&first));
        assert_ne!(known("b").as_ref(), Some(&first));
        assert_eq!(known("own"), None, "the container has written it");
        std::fs::write(at("base/app/a.wasm"), "later").unwrap();
        assert_ne!(known("a").unwrap(), first);
        // Another file than the layer's is shown.
        std::fs::remove_file(at("root/app/a.wasm")).unwrap();
        std::fs::write(at("root/app/a.wasm"), "something longer").unwrap();
        assert_eq!(known("a"), None);
        std::fs::write(at("upper/app/b.wasm"), "over it").unwrap();
        assert_eq!(known("b"), None);
    }
}
