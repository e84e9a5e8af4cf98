//! `monoplane status`: how the plane in a data directory is doing.

use anyhow::Result;
use client::Client;
use serde_json::Value;

use crate::layout::Layout;
use crate::say;

/// Says where the plane is, which of its processes run, and what it holds.
///
/// # Errors
/// When none was ever started there, or the API does not answer.
pub async fn run(layout: &Layout) -> Result<()> {
    let endpoints = layout.read_endpoints()?;
    say::line(format!("API      {}", endpoints.api));
    if let Some(gateway) = &endpoints.gateway {
        say::line(format!("gateway  {gateway}"));
    }
    say::line(format!("config   {}", endpoints.kubeconfig.display()));
    let text = std::fs::read_to_string(layout.processes()).unwrap_or_default();
    let processes: Value = serde_json::from_str(&text).unwrap_or_default();
    for (role, process) in processes.as_object().into_iter().flatten() {
        let pid = process["pid"].as_u64().unwrap_or(0);
        let alive = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok();
        let state = match (alive, role == "up" || process["ready"] == true) {
            (true, true) => "serving",
            (true, false) => "starting",
            (false, _) => "not running",
        };
        let restarts = process["restarts"].as_u64().unwrap_or(0);
        say::line(format!("{role:<8} {state} (process {pid}, {restarts} restarts)"));
    }
    let client = client::transport::from_kubeconfig_file(&layout.admin_kubeconfig(), "monoplane").await?;
    for (what, path, condition) in [
        ("nodes", "/api/v1/nodes", Some("Ready")),
        ("pods", "/api/v1/pods", Some("Ready")),
        ("components", "/apis/monoplane.dev/v1alpha1/components", Some("Ready")),
    ] {
        let (all, ready) = count(&client, path, condition).await?;
        say::line(format!("{what:<10} {ready} of {all} ready"));
    }
    Ok(())
}

async fn count(client: &Client, path: &str, condition: Option<&str>) -> Result<(usize, usize)> {
    let list: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |item: &&Value| {
        let conditions = item["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|c| c["type"].as_str() == condition && c["status"] == "True")
    };
    Ok((items.len(), items.iter().filter(holds).count()))
}
