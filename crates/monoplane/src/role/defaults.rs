//! What every plane begins with: its namespaces, the `kubernetes` service, and the definitions of our own kinds. Brought
//! in through the API, under the bootstrap identity; what exists is left alone, definitions excepted, which follow the
//! release.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use client::{Client, Error};
use futures::future::try_join_all;
use http::Request;
use serde_json::Value;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Brings it in.
///
/// # Errors
/// When the API refuses.
pub async fn install(client: &Client, options: &registry::Options, address: SocketAddr) -> Result<()> {
    let manifests = registry::defaults::manifests(options, address.port());
    let manifests = manifests.map_err(|status| anyhow::anyhow!("{}", status.message))?;
    let (namespaces, others): (Vec<_>, Vec<_>) = manifests.into_iter().partition(|m| m["kind"] == "Namespace");
    try_join_all(namespaces.iter().map(|namespace| create(client, "/api/v1/namespaces", namespace))).await?;
    try_join_all(others.iter().map(|other| async move {
        let namespace = other["metadata"]["namespace"].as_str().unwrap_or_default();
        create(client, &format!("/api/v1/namespaces/{namespace}/services"), other).await
    }))
    .await?;
    try_join_all(api::monoplane::CRD_MANIFESTS.iter().map(|text| define(client, text))).await?;
    Ok(())
}

async fn create(client: &Client, collection: &str, object: &Value) -> Result<()> {
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
        Err(Error::Api(status)) if status.code == 404 => return create(client, DEFINITIONS, &wanted).await,
        Err(error) => return Err(error).with_context(|| format!("reading {name}")),
    };
    let mut updated = stored.clone();
    updated["spec"].clone_from(&wanted["spec"]);
    send(client, "PUT", &path, &updated).await.with_context(|| format!("updating {name}"))?;
    Ok(())
}

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
    let body = serde_json::to_vec(body).map_err(Error::SerdeError)?;
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    client.request(request.map_err(Error::HttpError)?).await
}
