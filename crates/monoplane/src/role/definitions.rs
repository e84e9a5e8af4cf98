//! The definitions of our own kinds, the policies about them, and the classes that our roles serve. Brought in through the API, under the
//! bootstrap identity, at each start: definitions follow the release, and a class that is there is left as it is.

use anyhow::{Context, Result};
use client::{Client, Error};
use futures::future::try_join_all;
use http::Request;
use serde_json::{Value, json};

use super::programs;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// The class of Ingresses that the gateway serves.
pub fn ingress_class(is_default: bool) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {
            "name": "monoplane",
            "annotations": { "ingressclass.kubernetes.io/is-default-class": is_default.to_string() },
        },
        "spec": { "controller": gateway::INGRESS_CONTROLLER },
    })
}

/// The class of volumes on the disks of nodes.
pub fn storage_class(is_default: bool) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local",
            "annotations": { "storageclass.kubernetes.io/is-default-class": is_default.to_string() },
        },
        "provisioner": api::local_volumes::PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    })
}

/// The class of pods whose programs are WebAssembly components.
pub fn runtime_class() -> Value {
    json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": { "name": programs::HANDLER },
        "handler": programs::HANDLER,
    })
}

/// How often a definition is brought in again because another server was faster.
const TRIES: usize = 5;

/// Brings them in.
///
/// # Errors
/// When the API refuses.
pub async fn install(client: &Client) -> Result<()> {
    let mut wanted = Vec::new();
    for text in api::monoplane::CRD_MANIFESTS {
        wanted.push((DEFINITIONS, serde_yaml_ng::from_str(text).context("a definition of our own")?));
    }
    for text in api::monoplane::POLICY_MANIFESTS {
        let policy = serde_yaml_ng::from_str(text).context("a policy of our own")?;
        wanted.push((BINDINGS, binding(&policy)));
        wanted.push((POLICIES, policy));
    }
    try_join_all(wanted.iter().map(|(path, wanted)| define_among_others(client, path, wanted))).await?;
    Ok(())
}

/// Puts a policy in force everywhere.
fn binding(policy: &Value) -> Value {
    let name = &policy["metadata"]["name"];
    json!({
        "apiVersion": policy["apiVersion"],
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    })
}

/// Servers that share a store may start together.
async fn define_among_others(client: &Client, collection: &str, wanted: &Value) -> Result<()> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match define(client, collection, wanted).await {
            Err(error) if tries > 0 && is_conflict(&error) => {}
            outcome => return outcome,
        }
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::Api(status)) if status.code == 409)
}

/// Creates a definition, or brings its spec up to this release's.
async fn define(client: &Client, collection: &str, wanted: &Value) -> Result<()> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{collection}/{name}");
    let stored: Value = match client.request(Request::get(&path).body(Vec::new())?).await {
        Ok(stored) => stored,
        Err(Error::Api(status)) if status.code == 404 => {
            send(client, "POST", collection, wanted).await.with_context(|| format!("creating {name}"))?;
            return Ok(());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {name}")),
    };
    let mut updated = stored.clone();
    updated["spec"].clone_from(&wanted["spec"]);
    match send(client, "PUT", &path, &updated).await {
        // A webhook that is about definitions may run in this very plane: it is not up before its server.
        Err(Error::Api(status)) if status.code == 500 => {
            tracing::warn!(name, error = status.message, "a definition is left as it was");
            Ok(())
        }
        sent => sent.map(drop).with_context(|| format!("updating {name}")),
    }
}

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value, Error> {
    let body = serde_json::to_vec(body).map_err(Error::SerdeError)?;
    let request =
        Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    client.request(request.map_err(Error::HttpError)?).await
}
