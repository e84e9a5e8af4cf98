//! `logs`: prints a container's log.

use std::io::Write;

use anyhow::{Context, Result};
use clap::Args;
use client::Client;
use futures::{AsyncReadExt, io::AsyncRead};

use crate::request;

/// Flags of `logs`.
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// The pod
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The container, when the pod has several
    #[arg(short, long)]
    pub container: Option<String>,
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Go on as lines are written
    #[arg(short, long)]
    pub follow: bool,
    /// Of the run before this one
    #[arg(short, long)]
    pub previous: bool,
    /// Only so many lines from the end
    #[arg(long)]
    pub tail: Option<u64>,
    /// A time before each line
    #[arg(long)]
    pub timestamps: bool,
}

impl Logs {
    /// Copies the log to `out` until it ends.
    ///
    /// # Errors
    /// When the pod is not there, has not started, or the connection breaks.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let pod =
            self.pod.strip_prefix("pod/").or_else(|| self.pod.strip_prefix("pods/")).unwrap_or(&self.pod);
        let tail = self.tail.map(|n| n.to_string());
        let mut pairs = Vec::new();
        for (name, wanted) in
            [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)]
        {
            if wanted {
                pairs.push((name, "true"));
            }
        }
        pairs.extend(self.container.as_deref().map(|c| ("container", c)));
        pairs.extend(tail.as_deref().map(|t| ("tailLines", t)));
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log{}",
            request::path_segment(&self.namespace)?,
            request::path_segment(pod)?,
            request::query(&pairs)
        );
        let stream =
            client.request_stream(http::Request::get(path).body(Vec::new())?).await.map_err(request::said)?;
        copy(stream, out).await
    }
}

async fn copy(stream: impl AsyncRead, out: &mut dyn Write) -> Result<()> {
    let mut stream = std::pin::pin!(stream);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let n = stream.read(&mut buffer).await.context("the log's connection broke")?;
        if n == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..n])?;
        out.flush()?;
    }
}
