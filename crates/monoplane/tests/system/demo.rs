//! The demo leaves nothing behind, however it ends.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::{eventually, kill};

struct Demo(Child);

impl Demo {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_monoplane"));
        Self(
            command.arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the demo starts"),
        )
    }

    /// Where its plane lives, and its mark: what the guard was told.
    fn plane(&self) -> (PathBuf, String) {
        eventually("the demo has a guard", || {
            let lines = processes().into_iter().filter(|(pid, _)| parent(*pid) == Some(self.0.id()));
            lines.map(|(_, words)| words).find(|words| words.iter().any(|w| w == "--after-stdin")).map(
                |words| {
                    let after = |flag: &str| {
                        let at = words.iter().position(|w| w == flag).expect("the flag");
                        words[at + 1].clone()
                    };
                    (after("--data-dir").into(), after("--cgroup-root"))
                },
            )
        })
    }
}

fn processes() -> Vec<(u32, Vec<String>)> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(|pid: u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect())
        })
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// What of a plane is left on the machine.
fn left(directory: &Path, mark: &str) -> Vec<String> {
    let path = directory.to_str().expect("text");
    let mut found: Vec<String> = processes()
        .into_iter()
        .filter(|(_, words)| words.iter().any(|word| word.contains(path) || word == mark))
        .map(|(pid, words)| format!("process {pid} {words:?}"))
        .collect();
    if directory.exists() {
        found.push(format!("directory {path}"));
    }
    let number = mark.rsplit('-').next().expect("a number");
    if Path::new(&format!("/sys/class/net/md{number}")).exists() {
        found.push(format!("bridge md{number}"));
    }
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let groups = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    found.extend(
        groups.map(|h| h.join(mark)).filter(|g| g.exists()).map(|g| format!("cgroup {}", g.display())),
    );
    let mounts = std::fs::read("/proc/self/mountinfo").expect("mounts");
    if mounts
        .split(|b| *b == b'\n')
        .any(|line| std::ffi::OsStr::from_bytes(line).to_string_lossy().contains(path))
    {
        found.push("a mount".to_owned());
    }
    found
}

#[test]
fn a_whole_demo_passes_and_leaves_nothing() {
    let demo = Demo::start();
    let (directory, mark) = demo.plane();
    let output = demo.0.wait_with_output().expect("the demo ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the order is confirmed, once"), "{said}");
    assert_eq!(left(&directory, &mark), Vec::<String>::new());
}

#[test]
fn a_demo_that_is_killed_leaves_nothing() {
    let mut demo = Demo::start();
    let (directory, mark) = demo.plane();
    eventually("every role serves", || {
        let text = std::fs::read_to_string(directory.join("processes.json")).ok()?;
        text.contains("\"edge\"").then_some(())
    });
    // It is somewhere in the middle of its deployments.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    kill(demo.0.id(), 9);
    demo.0.wait().expect("the demo is dead");
    eventually("nothing is left", || left(&directory, &mark).is_empty().then_some(()));
}
