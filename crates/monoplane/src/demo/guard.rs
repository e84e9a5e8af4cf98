//! Who cleans up after the demo however it ends, by SIGKILL too: a process of its own that waits for the demo's end.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::plane::Names;
use crate::clean::KEEP;

/// Ends the plane, removes what it made and its directory as soon as this value, or its process, is gone.
pub struct Guard(Child);

impl Guard {
    /// Starts watching.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(directory: &Path, names: &Names) -> Result<Self> {
        let child = Command::new("/proc/self/exe")
            .args(["clean", "--after-stdin", "--all", "--data-dir"])
            .arg(directory)
            .args(["--bridge", &names.bridge, "--cgroup-root", &names.cgroup_root])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Ctrl-C is for the demo alone.
            .process_group(0)
            .spawn()
            .context("starting the demo's guard")?;
        Ok(Self(child))
    }

    /// Cleans up, and returns when nothing is left.
    ///
    /// # Errors
    /// When something could not be removed; the guard has said what.
    pub async fn clean(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait().await.context("waiting for the demo's guard")?;
        ensure!(status.success(), "not everything could be removed");
        Ok(())
    }

    /// Lets the plane stay.
    ///
    /// # Errors
    /// When the guard cannot be told.
    pub async fn keep(mut self) -> Result<()> {
        let mut stdin = self.0.stdin.take().context("the guard listens no more")?;
        stdin.write_all(KEEP).await.context("telling the demo's guard")?;
        drop(stdin);
        self.0.wait().await.context("waiting for the demo's guard")?;
        Ok(())
    }
}
