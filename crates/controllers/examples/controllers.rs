//! The controllers by themselves, against any API server: `cargo run -p controllers --example controllers -- KUBECONFIG`.
#![allow(clippy::unwrap_used)] // a tool for developers

use std::path::PathBuf;

#[tokio::main]
async fn main() {
    let kubeconfig = PathBuf::from(std::env::args().nth(1).unwrap());
    let client =
        client::transport::from_kubeconfig_file(&kubeconfig, "kube-controller-manager").await.unwrap();
    let options = controllers::Options { identity: Some("example".into()), ..Default::default() };
    let cancel = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(controllers::run(client, client::Ambient::system(), options, cancel.clone()));
    tokio::signal::ctrl_c().await.unwrap();
    cancel.cancel();
    running.await.unwrap().unwrap();
}
