//! Compiles the demo's container program, so that the demo needs nothing but this binary.

#![allow(clippy::panic, reason = "a build script fails by panicking")]

use std::path::Path;
use std::process::Command;

fn main() {
    let source = Path::new(&var("CARGO_MANIFEST_DIR")).join("../../examples/hello/src/main.rs");
    println!("cargo:rerun-if-changed={}", source.with_file_name("").display());
    let mut rustc = Command::new(var("RUSTC"));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "bin",
        "--crate-name",
        "hello",
        "--target",
        &var("TARGET"),
    ]);
    for option in ["panic=abort", "opt-level=s", "strip=symbols", "relocation-model=static"] {
        rustc.args(["-C", option]);
    }
    for flag in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        rustc.args(["-C", &format!("link-arg={flag}")]);
    }
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    rustc.arg("-o").arg(Path::new(&var("OUT_DIR")).join("hello")).arg(&source);
    match rustc.status() {
        Ok(status) if status.success() => {}
        other => panic!("cannot compile {}: {other:?}", source.display()),
    }
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
