//! How pods are placed.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

/// Flags of the scheduler, in the server or apart.
#[derive(Clone, Debug, Default, Args)]
pub struct Scheduling {
    /// How pods are placed: profiles, plugins and their arguments, as a KubeSchedulerConfiguration [default: upstream's defaults]
    #[arg(long, value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
}

impl Scheduling {
    /// What the file says.
    ///
    /// # Errors
    /// When it cannot be read, and what in it is wrong.
    pub fn config(&self) -> Result<scheduler::Config> {
        let Some(file) = &self.scheduler_config else { return Ok(scheduler::Config::default()) };
        let flag = || format!("--scheduler-config {}", file.display());
        let text = std::fs::read_to_string(file).with_context(flag)?;
        scheduler::Config::read(&text).with_context(flag)
    }
}
