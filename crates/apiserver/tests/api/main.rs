//! The server as its clients see it: one plane a test, asked in memory, and over TLS where sockets matter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod aggregation;
mod applying;
mod ask;
mod bootstrap_tokens;
mod conversion;
#[allow(dead_code, unreachable_pub, reason = "shared with an example")]
mod coverage;
mod documents;
mod explain;
mod forms;
mod lives;
mod log;
mod objects;
#[allow(dead_code, unreachable_pub, reason = "shared with the example")]
mod plane;
mod proxy;
mod served;
mod sockets;
mod tokens;
mod tunnels;
mod webhooks;

use std::path::Path;

use plane::Plane;

/// A token of each user that the tests speak as.
const TOKENS: &str = "admin-token,root,1,system:masters\nbob-token,bob,2,\ncarol-token,carol,3,\"dev,ops\"\n";

async fn start(directory: &Path) -> Plane {
    let plane =
        Plane::start(directory, ([127, 0, 0, 1], 0).into(), TOKENS, apiserver::Limits::default()).await;
    // The controller that does this is not here, and pods need it.
    let account = serde_json::json!({"metadata": {"name": "default"}});
    ask::Asker::admin(&plane).post("/api/v1/namespaces/default/serviceaccounts", &account).await;
    plane
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
