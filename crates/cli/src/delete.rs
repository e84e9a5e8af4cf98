//! `delete`: removes objects.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use client::Client;
use serde_json::json;

use crate::get::{Target, targets};
use crate::kinds::Kinds;
use crate::{manifest, request};

/// How long to wait for an object to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(120);

/// Flags of `delete`.
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// A kind and names, or `kind/name`
    #[arg(value_name = "KIND [NAME…]", required_unless_present = "filename")]
    pub what: Vec<String>,
    /// Files with the objects to delete
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    pub filename: Vec<PathBuf>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Succeed when an object is not there
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Return at once, before the objects are gone
    #[arg(long)]
    pub no_wait: bool,
}

impl Delete {
    /// Deletes the objects and waits until they are gone; a line for each goes to `out`.
    ///
    /// # Errors
    /// When an object is not there (unless told to ignore it), the server refuses, or it does not go away.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let kinds = Kinds::discover(client).await?;
        let mut doomed = Vec::new();
        if self.filename.is_empty() {
            for Target { kind, name } in targets(&kinds, &self.what)? {
                let Some(name) = name else { bail!("name the objects to delete") };
                doomed.push((
                    kind.qualified(),
                    format!("{}/{name}", kind.collection(Some(&self.namespace))),
                    name,
                ));
            }
        } else {
            for object in manifest::read(&self.filename)?.iter().rev() {
                let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
                let kind = kinds.of(&text(&object["apiVersion"]), &text(&object["kind"]))?;
                let name = request::path_segment(&text(&object["metadata"]["name"]))?.to_owned();
                let given = text(&object["metadata"]["namespace"]);
                let namespace = if given.is_empty() { self.namespace.clone() } else { given };
                doomed.push((
                    kind.qualified(),
                    format!("{}/{name}", kind.collection(Some(&namespace))),
                    name,
                ));
            }
        }
        for (kind, path, name) in doomed {
            match self.one(client, &path).await.with_context(|| format!("{kind}/{name}"))? {
                true => writeln!(out, "{kind} \"{name}\" deleted")?,
                false if self.ignore_not_found => {}
                false => bail!("{kind} \"{name}\" not found"),
            }
        }
        Ok(())
    }

    async fn one(&self, client: &Client, path: &str) -> Result<bool> {
        let Some(present) = request::find(client, path).await? else { return Ok(false) };
        let uid = present["metadata"]["uid"].clone();
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", "preconditions": {"uid": uid}});
        request::send(client, "DELETE", path, "application/json", &options).await?;
        let mut waited = Duration::ZERO;
        while !self.no_wait && waited < GONE_WITHIN {
            match request::find(client, path).await? {
                Some(left) if left["metadata"]["uid"] == uid => {}
                _ => return Ok(true),
            }
            let step = Duration::from_millis(200);
            tokio::time::sleep(step).await;
            waited += step;
        }
        if self.no_wait {
            Ok(true)
        } else {
            bail!("it was asked to go but is still there; its finalizers may explain why")
        }
    }
}
