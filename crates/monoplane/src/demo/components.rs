//! The chapter of components: a URL shortener that keeps its links in a store it knows nothing about.

use anyhow::{Context, Result, ensure};
use base64::Engine;

use super::http::{self, Ask};
use super::plane::{Plane, eventually};

/// Host name that the shortener's route takes.
const HOST: &str = "links.localhost";
/// What gets shortened.
const TARGET: &str = "https://kubernetes.io/docs/concepts/overview/";
/// The guest, built from `examples/shortener`.
const GUEST: &[u8] = include_bytes!("../../../../examples/shortener/shortener.wasm");

/// A short link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its path.
    pub path: String,
}

impl Link {
    /// The request that follows it.
    pub fn ask(&self) -> Ask {
        Ask::get(HOST, &self.path)
    }
}

/// Applies a manifest as `monoplane apply` does.
///
/// # Errors
/// When the API refuses it.
pub async fn apply(plane: &Plane, manifest: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifest)?;
    let apply = cli::Apply { filename: vec![file.path().to_owned()], namespace: "default".to_owned() };
    apply.run(&plane.client().await?, &mut std::io::sink()).await
}

/// The manifest of a component with its guest inside.
pub fn component(name: &str, host: &str, guest: &[u8], rest: &str) -> String {
    let inline = base64::engine::general_purpose::STANDARD.encode(guest);
    format!(
        "apiVersion: monoplane.dev/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  source: {{inline: {inline}}}\n  routes: [{{host: {host}, path: /}}]\n{rest}"
    )
}

/// Waits until a component is Ready.
///
/// # Errors
/// When it is not in time, with its condition.
pub async fn ready(plane: &Plane, name: &str) -> Result<()> {
    let client = plane.client().await?;
    let path = format!("/apis/monoplane.dev/v1alpha1/namespaces/default/components/{name}");
    eventually(&format!("component {name} is Ready"), || async {
        let request = ::http::Request::get(&path).body(Vec::new())?;
        let object: serde_json::Value = client.request(request).await?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        match conditions.iter().find(|c| c["type"] == "Ready") {
            Some(ready) if ready["status"] == "True" => Ok(Some(())),
            Some(ready) => anyhow::bail!("{}: {}", ready["reason"], ready["message"]),
            None => Ok(None),
        }
    })
    .await
}

/// Deploys the store and the shortener.
///
/// # Errors
/// When they do not become ready.
pub async fn deploy(plane: &Plane) -> Result<((), String)> {
    apply(
        plane,
        "apiVersion: monoplane.dev/v1alpha1\nkind: KeyValueStore\nmetadata: {name: links}\nspec: {embedded: {}}\n",
    )
    .await?;
    let rest = "  keyValue: [{name: default, store: links}]\n";
    apply(plane, &component("shortener", HOST, GUEST, rest)).await?;
    ready(plane, "shortener").await?;
    Ok(((), format!("component/shortener is Ready at http://{HOST}/ ({} KB of Wasm)", GUEST.len() / 1000)))
}

/// Makes a short link and follows it.
///
/// # Errors
/// When the component answers otherwise than it should.
pub async fn shorten(plane: &Plane) -> Result<(Link, String)> {
    let address = plane.gateway()?;
    let made = http::send(address, &Ask::post(HOST, "/", TARGET)).await?;
    ensure!(made.status == 201, "POST / answered {}: {}", made.status, made.text());
    let location = made.header("location").context("POST / answered without a location")?;
    let link = Link { path: location.to_owned() };
    follow(plane, &link).await?;
    Ok((link, format!("POST {TARGET} -> {location}; GET {location} -> 302")))
}

/// Follows a link.
///
/// # Errors
/// When it does not lead where it should.
pub async fn follow(plane: &Plane, link: &Link) -> Result<((), String)> {
    let answer = http::send(plane.gateway()?, &link.ask()).await?;
    ensure!(answer.status == 302, "GET {} answered {}: {}", link.path, answer.status, answer.text());
    ensure!(answer.header("location") == Some(TARGET), "it leads to {:?}", answer.header("location"));
    Ok(((), format!("GET {} -> 302 {TARGET}", link.path)))
}
