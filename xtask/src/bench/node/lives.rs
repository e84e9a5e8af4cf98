//! A container's life: `true` of busybox created, started, ended and removed, by us as the node does it and by runc and
//! crun; with the machine's users and with users of the container's own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::peers::Peer;
use super::{Samples, print};
use crate::bench::{Build, rule};
use crate::tools;

/// Lives of each kind.
const LIVES: usize = 100;
/// Lives before the first that counts.
const WARM: usize = 5;

/// Measures and prints.
///
/// # Errors
/// When a runtime cannot be started, or a life ends badly.
pub fn run(root: &Path, build: Build) -> Result<()> {
    let mut ours = Ours::start(root, build)?;
    for (users, whose) in [("machine", "the machine's users"), ("own", "users of its own")] {
        let mut runc = Peer::start("runc", users == "own")?;
        let mut crun = Peer::start("crun", users == "own")?;
        let mut rows = [
            Samples::new("ours, a sandbox with a shim and a container"),
            Samples::new("ours, a container in a sandbox"),
        ];
        let mut peers = [Samples::new("runc run"), Samples::new("crun run")];
        for life in 0..WARM + LIVES {
            let times = [
                ours.life(&format!("sandbox {users}"))?,
                ours.life(&format!("container {users}"))?,
                runc.life()?,
                crun.life()?,
            ];
            if life >= WARM {
                let all = rows.iter_mut().chain(&mut peers);
                all.zip(times).for_each(|(samples, time)| samples.times.push(time));
            }
        }
        let title = format!("a container's life with {whose}, {LIVES} times in turns");
        print(&title, &rows.each_ref(), &peers.each_ref());
    }
    println!("\nmemory of a shim (PSS), the largest of ten that each hold a running container");
    rule();
    let size = Duration::from_micros(ours.ask("memory machine")? * 1024).as_secs_f64();
    println!("{:<72} {size:>9.2} MB", "shim");
    Ok(())
}

/// Our runtime in a process of its own that lives a life for each line.
struct Ours {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Drop for Ours {
    fn drop(&mut self) {
        // It cleans up behind itself when there are no more lines.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Ours {
    fn start(root: &Path, build: Build) -> Result<Self> {
        let mut child = tools::cargo()
            .args(["bench", "--quiet", "-p", "sandbox", "--bench", "life"])
            .args(build.profile())
            .args(["--", "--serve"])
            .env("MONOPLANE_BINARY", build.binary(root)?)
            .current_dir(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting cargo bench")?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("no output")?);
        let mut ours = Self { child, input, output: BufReader::new(output) };
        ensure!(ours.line()? == "ready", "containers cannot run here");
        Ok(ours)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the benchmark of the runtime ended early");
        }
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, what: &str) -> Result<u64> {
        let input = self.input.as_mut().context("no input")?;
        writeln!(input, "{what}")?;
        let line = self.line()?;
        line.parse().with_context(|| line)
    }

    fn life(&mut self, what: &str) -> Result<Duration> {
        // With the way to that process and back, as the others'.
        let began = Instant::now();
        self.ask(what)?;
        Ok(began.elapsed())
    }
}
