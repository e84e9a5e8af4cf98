//! Other runtimes of containers, from Debian: `run` of one bundle again and again.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::tools;

/// Where the ids of a container with users of its own begin on the machine, and how many there are.
const IDS: (u32, u32) = (65536, 65536);

/// A shell that runs a life for each line. It has a mount namespace without the hybrid layout's tree of cgroups v2, which
/// crun refuses.
const SHELL: &str = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; echo 0; n=0; \
                     while read line; do n=$((n+1)); $0 run bench$$-$n </dev/null >&2; echo $?; done";

/// A runtime with a bundle.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    _bundle: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Makes the bundle, and the shell.
    ///
    /// # Errors
    /// When the runtime cannot be installed or refuses the machine.
    pub fn start(program: &str, own_users: bool) -> Result<Self> {
        tools::debian_program(program, program)?;
        let bundle = tempfile::tempdir()?;
        make_bundle(program, bundle.path(), own_users)?;
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", SHELL, program])
            .current_dir(bundle.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting unshare")?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("no output")?);
        let mut peer = Self { child, input, output: BufReader::new(output), _bundle: bundle };
        peer.answer()?;
        Ok(peer)
    }

    /// One life.
    ///
    /// # Errors
    /// When it ends badly.
    pub fn life(&mut self) -> Result<Duration> {
        let began = Instant::now();
        writeln!(self.input.as_mut().context("no input")?)?;
        self.answer()?;
        Ok(began.elapsed())
    }

    fn answer(&mut self) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.trim() == "0", "the runtime ended with {line:?}");
        Ok(())
    }
}

fn make_bundle(program: &str, bundle: &Path, own_users: bool) -> Result<()> {
    std::fs::set_permissions(bundle, std::fs::Permissions::from_mode(0o755))?;
    let bin = bundle.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("busybox")).context("busybox")?;
    symlink("busybox", bin.join("true"))?;
    tools::run(Command::new(program).arg("spec").current_dir(bundle))?;
    let path = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["/bin/true"]);
    if own_users {
        let map = json!([{ "containerID": 0, "hostID": IDS.0, "size": IDS.1 }]);
        let linux = &mut spec["linux"];
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        linux["namespaces"].as_array_mut().context("no namespaces")?.push(json!({ "type": "user" }));
        for path in ["rootfs", "rootfs/bin", "rootfs/bin/busybox"] {
            chown(bundle.join(path), Some(IDS.0), Some(IDS.0))?;
        }
    }
    Ok(std::fs::write(path, spec.to_string())?)
}
