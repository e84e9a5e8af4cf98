//! The scheduler by itself, against any API server: `cargo run -p scheduler --example scheduler -- KUBECONFIG`.
#![allow(clippy::unwrap_used)] // a tool for developers

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let kubeconfig = PathBuf::from(std::env::args().nth(1).unwrap());
    let client = client::transport::from_kubeconfig_file(&kubeconfig, "kube-scheduler").await.unwrap();
    let options = scheduler::Options { identity: Some("example".into()), ..Default::default() };
    let cancel = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(scheduler::run(client, client::Ambient::system(), options, cancel.clone()));
    tokio::signal::ctrl_c().await.unwrap();
    cancel.cancel();
    running.await.unwrap().unwrap();
}
