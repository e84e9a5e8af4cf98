//! A disk that is full, and one that no longer keeps what it is told to: writes end with a clear error, reads go on, and
//! when the disk is well again so is the plane, with all that it ever acknowledged.

use std::process::{Child, Command, Stdio};

use harness::{Plane, eventually, is_root, kill};

use crate::pressure::Disk;

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_monoplane")
}

/// Creates ConfigMaps of this many KiB until one is refused: their names and the refusal.
fn write_until_refused(plane: &Plane, prefix: &str, kib: usize) -> (Vec<String>, String) {
    let mut written = Vec::new();
    let filling = "x".repeat(kib << 10);
    // Not on the plane's own disk.
    let text = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(text.path(), filling).expect("written");
    let from = format!("--from-file=k={}", text.path().display());
    for number in 0..2000 {
        let name = format!("{prefix}-{number}");
        let said = plane.kubectl(&["create", "configmap", &name, &from]);
        if !said.ok {
            return (written, said.err);
        }
        written.push(name);
    }
    panic!("nothing was ever refused");
}

fn all_are_there(plane: &Plane, written: &[String]) {
    let listed = plane.kubectl_ok(&["get", "configmaps", "-o", "name"]);
    for name in written {
        assert!(listed.contains(&format!("configmap/{name}\n")), "{name} is lost");
    }
}

#[test]
fn a_full_disk_ends_writes_and_not_reads() {
    if !is_root() {
        return;
    }
    let disk = Disk::of(64);
    let plane = Plane::start_in(&disk.0, binary(), &["--disable", "node,edge"]);
    let server = plane.pid("server");
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 24 << 20]).expect("ballast fits");
    let (written, refusal) = write_until_refused(&plane, "full", 400);
    assert!(refusal.contains("the store's disk is full"), "{refusal}");
    let again = plane.kubectl(&["create", "configmap", "another"]);
    assert!(!again.ok && again.err.contains("nothing is written until there is room"), "{again:?}");
    all_are_there(&plane, &written);
    plane.kubectl_ok(&["get", "namespaces"]);
    plane.kubectl_ok(&["get", "--raw", "/readyz"]);
    std::fs::remove_file(&ballast).expect("ballast goes");
    eventually("writes are taken again", || {
        plane.kubectl(&["create", "configmap", "after"]).ok.then_some(())
    });
    all_are_there(&plane, &written);
    assert_eq!(plane.pid("server"), server, "it was never started anew");
}

/// Has every fsync of a process fail, for as long as it lives.
struct FailingFsync(Child);

impl FailingFsync {
    fn of(pid: u32) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]);
        strace.args(["-o", "/dev/null", "-p", &pid.to_string()]).stderr(Stdio::null());
        let tracer = Self(strace.spawn().expect("strace runs"));
        eventually("the process is traced", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
            (tracer.trim() != "0").then_some(())
        });
        tracer
    }
}

impl Drop for FailingFsync {
    fn drop(&mut self) {
        kill(self.0.id(), 15);
        let _ = self.0.wait();
    }
}

#[test]
fn a_disk_that_keeps_nothing_ends_writes_and_not_reads() {
    if !is_root() {
        return;
    }
    let plane = Plane::start(binary(), &["--disable", "node,edge"]);
    let server = plane.pid("server");
    let before: Vec<String> = (0..5).map(|number| format!("before-{number}")).collect();
    for name in &before {
        plane.kubectl_ok(&["create", "configmap", name]);
    }
    let failing = FailingFsync::of(server);
    let refused = eventually("a write is refused", || {
        let said = plane.kubectl(&["create", "configmap", "lost"]);
        (!said.ok).then_some(said.err)
    });
    assert!(refused.contains("store unavailable"), "{refused}");
    let ready = plane.kubectl(&["get", "--raw", "/readyz"]);
    assert!(!ready.ok && ready.err.contains("[-]etcd-readiness failed"), "{ready:?}");
    // Tried out again and again meanwhile.
    for _ in 0..4 {
        std::thread::sleep(std::time::Duration::from_secs(1));
        all_are_there(&plane, &before);
        assert!(!plane.kubectl(&["create", "configmap", "lost"]).ok, "a write was taken that is not kept");
    }
    assert_eq!(plane.pid("server"), server, "it serves reads all the time");
    drop(failing);
    eventually("writes are taken again", || {
        plane.kubectl(&["create", "configmap", "after"]).ok.then_some(())
    });
    assert_ne!(plane.pid("server"), server, "a file whose fsync failed is opened anew");
    all_are_there(&plane, &before);
}
