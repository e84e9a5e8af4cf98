//! Prints the part of docs/kubernetes.md that says what is served. `cargo xtask docs` puts it there.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool for developers")]

#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
#[path = "../tests/api/coverage.rs"]
mod coverage;
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the tests")]
#[path = "../tests/api/plane.rs"]
mod plane;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use pki::Identity;

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().unwrap();
    let limits = apiserver::Limits::default();
    let plane = plane::Plane::start(directory.path(), ([127, 0, 0, 1], 0).into(), "", limits).await;
    let connection = plane.connection(&Identity::Admin);
    let mut documents = Vec::new();
    for path in ["/api", "/apis"] {
        let request = Request::get(path).header("accept", coverage::AGGREGATED);
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let answer = plane.server.handle(request, &connection).await;
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        documents.push(serde_json::from_slice(&body).unwrap());
    }
    print!("{}", coverage::section(&coverage::upstream(), &coverage::discovered(&documents)));
    plane.stop().await;
}
