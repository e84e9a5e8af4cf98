//! Tunnels between machines on a kernel that has WireGuard, which the kernel of this machine need not: a virtual machine with
//! Debian's kernel for clouds, whose only program is the tests of `network`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::tools;

/// The package that depends on the newest of Debian's small kernels.
const KERNEL: &str = "linux-image-cloud-amd64";
/// What of the kernel's modules is taken along.
const MODULES: [&str; 6] = ["net", "drivers/net/wireguard", "drivers/net/vxlan", "crypto", "lib", "arch"];
/// Modules that are a file of their own.
const DRIVERS: [&str; 3] = ["drivers/net/veth.ko", "drivers/net/dummy.ko", "drivers/net/tun.ko"];
/// How it ends where all is well; its own exit says nothing of the tests'.
const PASSED: &str = "monoplane: all tests passed";
/// Emulated, all of it takes a few seconds.
const SECONDS: &str = "300";

/// Runs them.
///
/// # Errors
/// When one fails, or the machine cannot be made.
pub fn run(root: &Path) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("this needs a machine of x86_64");
    }
    tools::install(root)?;
    tools::debian_programs(&[("qemu-system-x86_64", "qemu-system-x86"), ("timeout", "coreutils")])?;
    let kernel = kernel(root)?;
    let work = tools::folder(root).join("wireguard");
    if work.exists() {
        std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    }
    let disk = disk(&work, &kernel, &tests(root)?)?;
    let said = Command::new("timeout")
        .args([SECONDS, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"])
        .args(["-nographic", "-no-reboot", "-kernel"])
        .arg(file_in(&kernel.join("boot"), "vmlinuz-")?)
        .arg("-initrd")
        .arg(disk)
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .output()
        .context("qemu-system-x86_64")?;
    let said = String::from_utf8_lossy(&said.stdout);
    let tests = said.find("running ").map_or(&*said, |at| &said[at..]);
    println!("{tests}");
    ensure!(said.contains(PASSED), "the tests did not pass");
    ensure!(!said.contains("SKIPPED"), "the kernel of the virtual machine lacks something");
    Ok(())
}

/// The kernel, unpacked.
fn kernel(root: &Path) -> Result<PathBuf> {
    let there = tools::folder(root).join("kernel");
    if !there.exists() {
        tools::run(Command::new("apt-get").args(["update", "-qq"]))?;
        let said = Command::new("apt-cache").args(["depends", KERNEL]).output().context("apt-cache")?;
        let said = String::from_utf8_lossy(&said.stdout);
        let package = said.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        let package = package.with_context(|| format!("{KERNEL} depends on no kernel"))?;
        tools::debian_files(&format!("linux-image-{package}"), &there)?;
    }
    Ok(there)
}

/// The program with the tests.
fn tests(root: &Path) -> Result<PathBuf> {
    let built = tools::cargo()
        .args(["test", "--package", "network", "--test", "it", "--no-run", "--message-format", "json"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    let said = String::from_utf8_lossy(&built.stdout);
    let mut messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.context("cargo made no tests")
}

/// The first disk of the virtual machine, of which it starts.
fn disk(work: &Path, kernel: &Path, tests: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    let modules = file_in(&kernel.join("lib/modules"), "")?;
    let version = modules.file_name().unwrap_or_default().to_owned();
    let there = root.join("lib/modules").join(&version);
    for folder in MODULES {
        copy(&modules.join("kernel").join(folder), &there.join("kernel").join(folder))?;
    }
    for file in DRIVERS.map(|file| format!("kernel/{file}")) {
        copy(&modules.join(&file), &there.join(&file))?;
    }
    for list in ["modules.builtin", "modules.order"] {
        copy(&modules.join(list), &there.join(list))?;
    }
    for folder in ["proc", "sys", "dev", "tmp", "sbin"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let found = Command::new("sh").args(["-c", "command -v busybox"]).output()?;
    copy(Path::new(String::from_utf8_lossy(&found.stdout).trim()), &root.join("bin/busybox"))?;
    std::os::unix::fs::symlink("/bin/busybox", root.join("sbin/modprobe"))?;
    for library in libraries(tests)? {
        copy(&library, &root.join(library.strip_prefix("/")?))?;
    }
    copy(tests, &root.join("tests"))?;
    let script = [
        "#!/bin/busybox sh",
        "b=/bin/busybox",
        "$b mount -t proc proc /proc && $b mount -t sysfs sys /sys && $b mount -t devtmpfs dev /dev",
        "$b mount -t tmpfs tmp /tmp",
        &format!("/tests --test-threads 1 overlay:: 2>&1 && echo '{PASSED}'"),
        "$b poweroff -f",
    ];
    std::fs::write(root.join("init"), script.join("\n"))?;
    tools::run(Command::new("chmod").arg("+x").arg(root.join("init")))?;
    tools::run(Command::new("busybox").args(["depmod", "-b"]).arg(&root).arg(&version))?;
    let disk = work.join("disk");
    let pack = "find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 > ../disk";
    tools::run(Command::new("sh").args(["-c", pack]).current_dir(&root))?;
    Ok(disk)
}

/// The libraries that a program wants, and what loads them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output().context("ldd")?;
    let said = String::from_utf8_lossy(&said.stdout);
    let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

/// Copies a file, or a folder with all that is in it, as what it links to.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let above = to.parent().context("no folder")?;
    std::fs::create_dir_all(above).with_context(|| format!("making {}", above.display()))?;
    tools::run(Command::new("cp").arg("-rL").arg(from).arg(to))
}

/// The first of a folder whose name begins so.
fn file_in(folder: &Path, begins: &str) -> Result<PathBuf> {
    let mut all = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let found = all.find_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.starts_with(begins).then_some(path)
    });
    found.with_context(|| format!("{} has nothing that begins with {begins:?}", folder.display()))
}
