//! The shim: one small process a pod, parent of its containers, keeper of its namespaces and of the containers' output.
//!
//! It outlives the node process that started it and answers the next one over a socket in the sandbox's directory. It
//! has one thread and no async runtime: all it does is wait for a descriptor to be ready. The pod's network, UTS and IPC
//! namespaces are its own, so they live as long as it or a container does and leave nothing to remove.
//!
//! Begin with [`main`], then `server`.

mod connection;
mod container;
mod errors;
mod helper;
mod log;
mod mounts;
mod pause;
mod pod;
mod rootfs;
mod server;
mod user;
mod user_namespace;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::files::{self, SandboxFiles, ShimConfig};
use crate::process;

/// Runs a shim: the body of the program's hidden subcommand. `args` are what [`crate::ShimCommand`] makes of a sandbox's
/// directory. Returns when the shim runs on in the background and can be reached, with the exit code to end with.
///
/// Must be called before the process starts any thread or async runtime.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let directory = match args.into_iter().collect::<Vec<_>>().as_slice() {
        [flag, directory] if flag == "--sandbox" => PathBuf::from(directory),
        _ => return fail("usage: --sandbox DIRECTORY"),
    };
    match daemonise(&SandboxFiles(directory)) {
        Ok(()) => 0,
        Err(error) => fail(&error),
    }
}

fn fail(why: &str) -> i32 {
    let _ = writeln!(io::stderr(), "shim: {why}");
    1
}

/// Forks twice, so that the shim belongs to no session and is nobody's child, and waits for its first words.
fn daemonise(files: &SandboxFiles) -> Result<(), String> {
    // Whatever its starter left open must not stay so for as long as the pod lives.
    process::close_from(3).map_err(|error| format!("closing inherited files: {error}"))?;
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| error.to_string())?;
    let middle = process::fork(|| {
        let Ok(()) = nix::unistd::setsid().map(drop) else { return 1 };
        let shim = process::fork(|| {
            let mut ready = File::from(writer);
            match start(files) {
                Ok(server) => {
                    let told = ready.write_all(b"ready");
                    drop(ready);
                    // A node process that is gone by now will find the socket all the same.
                    drop(told);
                    server.run()
                }
                Err(why) => {
                    let _ = ready.write_all(why.as_bytes());
                    1
                }
            }
        });
        i32::from(shim.is_err())
    });
    let middle = middle.map_err(|error| format!("fork: {error}"))?;
    let _ = nix::sys::wait::waitpid(middle, None);
    let mut words = String::new();
    File::from(reader).take(4096).read_to_string(&mut words).map_err(|error| error.to_string())?;
    match words.as_str() {
        "ready" => Ok(()),
        "" => Err("it ended at once".to_owned()),
        why => Err(why.to_owned()),
    }
}

fn start(files: &SandboxFiles) -> Result<server::Server, String> {
    detach_stdio(files).map_err(|error| format!("standard files: {error}"))?;
    std::env::set_current_dir("/").map_err(|error| error.to_string())?;
    // Containers inherit it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let config: ShimConfig = files::read_record(&files.shim_config()).map_err(|error| error.to_string())?;
    let namespaces = pod::become_pod(files, &config)?;
    server::Server::new(files.clone(), config, namespaces).map_err(|error| format!("socket: {error}"))
}

/// Input from nowhere, and what a helper or the panic handler prints into a file; all else is closed.
fn detach_stdio(files: &SandboxFiles) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(files.shim_log())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&log)?;
    rustix::stdio::dup2_stderr(&log)?;
    Ok(())
}
