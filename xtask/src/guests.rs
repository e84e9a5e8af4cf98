//! The example components: built from their sources, and compared with what is checked in.
//!
//! A build is the same on every machine that has the same compiler: paths are remapped, dependencies are locked, one
//! codegen unit. Another compiler makes other bytes, so `--check` names the compiler that the checked-in files were made
//! with and skips, saying so, where it is not this one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// Components, each in `examples/NAME` with its artifact beside its source.
const GUESTS: &[&str] = &["echo", "order", "probe", "shortener", "tool"];
const TARGET: &str = "wasm32-wasip2";
/// In `examples/`: the first line of `rustc --version` of the compiler that made the checked-in files.
const COMPILER_FILE: &str = "COMPILER";

/// Builds the guests and puts them beside their sources or, with `check`, compares them with what lies there.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let examples = root.join("examples");
    let compiler = compiler_version()?;
    let made_with = fs::read_to_string(examples.join(COMPILER_FILE)).unwrap_or_default();
    if check && made_with.trim() != compiler {
        println!(
            "skipped: the checked-in components were made with {}, this is {compiler}; other compilers make other bytes",
            made_with.trim()
        );
        return Ok(());
    }
    require_target()?;
    let built = build(root, &examples)?;
    let mut differing = Vec::new();
    for name in GUESTS {
        let fresh = fs::read(built.join(format!("{name}.wasm")))
            .with_context(|| format!("reading the built {name}"))?;
        let kept = examples.join(name).join(format!("{name}.wasm"));
        if !check {
            fs::write(&kept, &fresh).with_context(|| format!("writing {}", kept.display()))?;
            println!("{name}.wasm: {} bytes", fresh.len());
        } else if fs::read(&kept).ok().as_deref() != Some(&fresh[..]) {
            differing.push(*name);
        }
    }
    if !differing.is_empty() {
        bail!("not what their sources build: {}; run `cargo xtask guests`", differing.join(", "));
    }
    if check {
        println!("{} components are what their sources build", GUESTS.len());
    } else {
        fs::write(examples.join(COMPILER_FILE), format!("{compiler}\n"))
            .context("writing the compiler's name")?;
    }
    Ok(())
}

fn compiler_version() -> Result<String> {
    let output = Command::new(rustc()).arg("--version").output().context("running rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rustc() -> String {
    env::var("RUSTC").unwrap_or_else(|_| "rustc".into())
}

/// Fails with what to do where the compiler has no standard library for components.
fn require_target() -> Result<()> {
    let output = Command::new(rustc())
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("running rustc")?;
    let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && directory.is_dir() {
        return Ok(());
    }
    println!("the target {TARGET} is not installed; trying `rustup target add {TARGET}`");
    let added = Command::new("rustup").args(["target", "add", TARGET]).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("the target {TARGET} is missing and could not be added: run `rustup target add {TARGET}`"),
    }
}

/// Builds all guests and returns the directory of the components.
fn build(root: &Path, examples: &Path) -> Result<PathBuf> {
    let target = root.join("target").join("guests");
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(
        || env::home_dir().map(|home| home.join(".cargo")).context("no home directory"),
        |home| Ok(PathBuf::from(home)),
    )?;
    // Where this checkout and the registry lie must not show in what is built.
    let flags = [(examples, "/examples"), (&cargo_home, "/cargo")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .join("\u{1f}");
    let status = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .current_dir(examples)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env_remove("RUSTFLAGS")
        .status()
        .context("running cargo")?;
    if !status.success() {
        bail!("building the example components failed");
    }
    Ok(target.join(TARGET).join("release"))
}
