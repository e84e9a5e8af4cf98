//! Runs `wrk` and reads what it found.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One run of the load generator.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// What to ask.
    pub url: String,
    /// Threads of the generator.
    pub threads: u32,
    /// Connections kept open.
    pub connections: u32,
    /// How long.
    pub seconds: u32,
    /// Headers of each request.
    pub headers: Vec<String>,
    /// The network namespace that it runs in; `None` for this one.
    pub inside: Option<PathBuf>,
    /// A script that makes the requests.
    pub script: Option<PathBuf>,
    /// Environment of the script.
    pub environment: Vec<(&'static str, String)>,
}

/// What it found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Answers a second.
    pub rate: f64,
    /// Median latency, as wrk prints it.
    pub median: String,
    /// 99th percentile.
    pub high: String,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// When wrk cannot run, or any answer was not a success.
    pub fn run(&self) -> Result<Found> {
        let mut command = match &self.inside {
            None => Command::new("wrk"),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display())).arg("wrk");
                command
            }
        };
        command.args(["--latency", &format!("-t{}", self.threads), &format!("-c{}", self.connections)]);
        command.arg(format!("-d{}s", self.seconds));
        for header in &self.headers {
            command.args(["-H", header]);
        }
        if let Some(script) = &self.script {
            command.arg("-s").arg(script);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).arg(&self.url);
        let output = command.output().context("running wrk (`cargo xtask tools` installs it)")?;
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() || !errors.is_empty() || text.contains("Non-2xx") {
            bail!("{}: {text}{errors}", self.url);
        }
        let after = |label: &str| {
            let line = text.lines().find(|l| l.trim_start().starts_with(label))?;
            Some(line.trim_start()[label.len()..].trim().to_owned())
        };
        let rate = after("Requests/sec:")
            .and_then(|r| r.parse().ok())
            .with_context(|| format!("no rate in {text}"))?;
        Ok(Found { rate, median: after("50%").unwrap_or_default(), high: after("99%").unwrap_or_default() })
    }
}
