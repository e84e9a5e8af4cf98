//! Hands the kubeconfigs that the server issued to the roles and people they name.

use std::path::Path;

use anyhow::{Context, Result};

use super::identity;
use super::recipes::Names;
use crate::layout::{Layout, make_directory, write_file};

/// Copies each to its reader's own place, readable by that reader only.
pub fn hand_out(layout: &Layout, names: &Names) -> Result<()> {
    let issued = layout.credentials();
    copy(&issued.join("admin.kubeconfig"), &layout.admin_kubeconfig())?;
    make_directory(&layout.node(), 0o700)?;
    copy(&issued.join(format!("node-{}.kubeconfig", names.node)), &layout.node().join("kubeconfig"))?;
    copy(&issued.join(format!("kubelet-{}.pem", names.node)), &layout.node().join("kubelet.pem"))?;
    copy(&issued.join("ca.crt"), &layout.node().join("ca.crt"))?;
    make_directory(&layout.edge(), 0o700)?;
    let edge = layout.edge().join("kubeconfig");
    copy(&issued.join(format!("edge-{}.kubeconfig", names.edge)), &edge)?;
    if identity::may_choose() && identity::barrier(&layout.edge()).is_none() {
        identity::give(&layout.edge(), identity::EDGE)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    write_file(to, &bytes, 0o600)
}
