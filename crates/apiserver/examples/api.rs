//! An API server by itself, for trying things by hand: no controllers, no nodes.
//!
//! `cargo run --release -p apiserver --example api -- DIRECTORY [PORT] [TOKEN-FILE]` serves until Ctrl-C and writes
//! `DIRECTORY/admin.kubeconfig`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
#[path = "../tests/api/plane.rs"]
mod plane;

use std::path::PathBuf;

use pki::Identity;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| "api-data".to_owned()));
    let port: u16 = arguments.next().map_or(0, |port| port.parse().unwrap());
    let tokens = arguments.next().map(|path| std::fs::read_to_string(path).unwrap()).unwrap_or_default();
    std::fs::create_dir_all(&directory).unwrap();
    let address = ([127, 0, 0, 1], port).into();
    let plane = plane::Plane::start(&directory, address, &tokens, apiserver::Limits::default()).await;
    let path = directory.join("admin.kubeconfig");
    pki::write_atomically(&path, plane.kubeconfig(&Identity::Admin).as_bytes()).unwrap();
    println!("serving https://{} as {}", plane.address, path.display());
    tokio::signal::ctrl_c().await.unwrap();
    plane.stop().await;
}
