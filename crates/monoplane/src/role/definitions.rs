//! What every plane has in its API: the definitions of our own kinds, which follow the release, and the classes that our
//! roles serve, which are the operator's once they are there. Brought in through the API, under the bootstrap identity, at
//! each start.

use anyhow::{Context, Result};
use client::{Client, Error};
use futures::future::try_join_all;
use http::Request;
use serde_json::{Value, json};

use super::programs;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

/// Brings them in.
///
/// # Errors
/// When the API refuses.
pub async fn install(client: &Client) -> Result<()> {
    try_join_all(api::monoplane::CRD_MANIFESTS.iter().map(|text| define(client, text))).await?;
    let wasm = json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": programs::HANDLER},
        "handler": programs::HANDLER,
    });
    offer(client, RUNTIME_CLASSES, &wasm).await
}

/// Creates an object, unless one of its name is there.
async fn offer(client: &Client, collection: &str, object: &Value) -> Result<()> {
    match send(client, "POST", collection, object).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("creating {}", object["metadata"]["name"])),
    }
}

/// Creates a definition, or brings its spec up to this release's.
async fn define(client: &Client, manifest: &str) -> Result<()> {
    let wanted: Value = serde_yaml_ng::from_str(manifest).context("a definition of our own")?;
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{DEFINITIONS}/{name}");
    let stored: Value = match client.request(Request::get(&path).body(Vec::new())?).await {
        Ok(stored) => stored,
        Err(Error::Api(status)) if status.code == 404 => {
            send(client, "POST", DEFINITIONS, &wanted).await.with_context(|| format!("creating {name}"))?;
            return Ok(());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {name}")),
    };
    let mut updated = stored.clone();
    updated["spec"].clone_from(&wanted["spec"]);
    send(client, "PUT", &path, &updated).await.with_context(|| format!("updating {name}"))?;
    Ok(())
}

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
    let body = serde_json::to_vec(body).map_err(Error::SerdeError)?;
    let request =
        Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    client.request(request.map_err(Error::HttpError)?).await
}
