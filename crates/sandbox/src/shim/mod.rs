//! The shim: one small process a pod, parent of its containers, keeper of its namespaces and of the containers' output.
//!
//! It outlives the node process that started it and answers the next one over a socket in the sandbox's directory. It
//! has one thread and no async runtime: all it does is wait for a descriptor to be ready. The pod's network, UTS and IPC
//! namespaces are its own, so they live as long as it or a container does and leave nothing to remove.
//!
//! Begin with [`main`], then `spawner` and `server`.

mod attachment;
mod confinement;
mod connection;
mod container;
mod control;
mod creation;
mod listener;
mod log;
mod making;
mod mounts;
mod pause;
mod pod;
mod rootfs;
mod server;
mod spawner;
mod streams;
mod tenant;
mod user;
mod user_namespace;
mod workload;

pub use workload::{Loaded, Process, Program, Workload, Workloads};

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::cgroup::Tree;
use crate::files::{self, SandboxFiles, ShimConfig};
use crate::process;

/// Forks shims for as long as the node's process lives: the body of the program's hidden subcommand. `args` are what is
/// added to those of [`crate::ShimCommand`]. Returns the exit code to end with, in each shim too.
///
/// `workloads` are the engines that this program brings along. Must be called before the process starts any thread or
/// async runtime.
pub fn main(args: impl IntoIterator<Item = OsString>, workloads: Workloads) -> i32 {
    match args.into_iter().collect::<Vec<_>>().as_slice() {
        [flag] if flag == "--spawner" => {}
        _ => return fail("usage: --spawner, with a socket of the node's as standard input"),
    }
    // Where they are mounted does not change; a shim that cannot know says so.
    let tree = Tree::detect().map_err(|error| format!("control groups: {error}"));
    let shim = |files: &SandboxFiles, words| run(files, words, &tree, workloads);
    // Whatever its starter left open must not stay so for as long as a pod lives.
    match process::close_from(3).and_then(|()| spawner::run(shim)) {
        Ok(()) => 0,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> i32 {
    let _ = writeln!(io::stderr(), "shim: {why}");
    1
}

/// A shim, from its first words to its end.
fn run(files: &SandboxFiles, mut words: File, tree: &Result<Tree, String>, workloads: Workloads) -> i32 {
    match tree.clone().and_then(|tree| start(files, tree, workloads)) {
        Ok(server) => {
            let told = words.write_all(b"ready");
            drop(words);
            // A node process that is gone by now will find the socket all the same.
            drop(told);
            server.run()
        }
        Err(why) => {
            let _ = words.write_all(why.as_bytes());
            1
        }
    }
}

fn start(files: &SandboxFiles, tree: Tree, workloads: Workloads) -> Result<server::Server, String> {
    detach_stdio(files).map_err(|error| format!("standard files: {error}"))?;
    std::env::set_current_dir("/").map_err(|error| error.to_string())?;
    // Containers inherit it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let config: ShimConfig = files::read_record(&files.shim_config()).map_err(|error| error.to_string())?;
    let namespaces = pod::become_pod(files, &config, &tree)?;
    server::Server::new(files.clone(), config, tree, namespaces, workloads)
        .map_err(|error| format!("socket: {error}"))
}

/// Input from nowhere, and what a child before its program or the panic handler prints into a file; all else is closed.
fn detach_stdio(files: &SandboxFiles) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(files.shims_log())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}
