//! Plays the shim's program in this crate's tests, as the hidden subcommand of `monoplane` does in earnest. Its one
//! workload runs files that begin with `echo`.

#![allow(clippy::print_stdout, reason = "what a container prints")]

use std::io::Read;

use sandbox::shim::{Loaded, Process, Program, Workload};

fn main() {
    std::process::exit(sandbox::shim::main(std::env::args_os().skip(1), &[("echo", &Echo)]));
}

struct Echo;

/// What was read on the machine, for the container.
struct Script {
    text: String,
    greeting: String,
    memory_limit: Option<u64>,
    /// Stays open.
    file: std::fs::File,
}

impl Workload for Echo {
    fn load(&self, program: &Program<'_>) -> Result<Option<Box<dyn Loaded>>, String> {
        let broken = |error: std::io::Error| error.to_string();
        let Some(mut file) = program.open().map_err(broken)? else { return Ok(None) };
        let mut text = String::new();
        if file.read_to_string(&mut text).is_err() || !text.starts_with("echo") {
            return Ok(None);
        }
        if text.contains("broken") {
            return Err("the script is broken".to_owned());
        }
        let greeting = program.settings["greeting"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Box::new(Script { text, greeting, memory_limit: program.memory_limit, file })))
    }
}

impl Loaded for Script {
    fn run(self: Box<Self>, process: Process) -> i32 {
        println!("{} {:?} {:?}", self.text.trim(), self.greeting, self.memory_limit);
        println!("{:?} at {}", process.arguments, process.working_directory.display());
        println!("{:?}", process.environment.iter().find(|(name, _)| name == "FROM_IMAGE"));
        println!("{:?} {:?} {}", process.volumes, process.ports, process.readonly_root);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for line in status.lines().filter(|line| line.starts_with("CapEff") || line.starts_with("NoNewPrivs"))
        {
            println!("{line}");
        }
        // The root without its mounts: /proc is the image's own empty directory, if it has one.
        let root = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&process.root));
        println!("proc: {}", std::path::Path::new(&root).join("proc/self").exists());
        println!("busybox: {}", std::path::Path::new(&root).join("bin/busybox").exists());
        let open = std::fs::read_dir("/proc/self/fd").map(|files| files.flatten().count()).unwrap_or(0);
        println!("files open: {open}");
        println!("still open: {:?}", self.file.metadata().map(|file| file.len()).ok());
        // A thread of its own, as an engine has them.
        std::thread::spawn(|| 7).join().unwrap_or(1)
    }
}
