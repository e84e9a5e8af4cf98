//! Hands the kubeconfigs that the server issued to the roles and people they name.
//!
//! This process may be root, and the folders that it reads from and writes to belong to roles that run at the same time
//! and are not: no link of theirs is followed, nothing but plain files is read, and no file is given away by its path.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::identity;
use super::recipes::Names;
use crate::layout::{Layout, make_directory, write_file_of};
use crate::role::EVERY;

/// Copies each to its reader's own place, readable by that reader only.
pub fn hand_out(layout: &Layout, names: &Names) -> Result<()> {
    let issued = layout.credentials();
    let issuer = owner(&layout.server())?;
    let give = |name: &str, to: &Path, reader: Option<u32>| {
        let bytes = plain(&issued.join(name), Some(issuer))?;
        if plain(to, None).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        write_file_of(to, &bytes, 0o600, reader)
    };
    give("admin.kubeconfig", &layout.admin_kubeconfig(), None)?;
    let node = layout.node();
    make_directory(&node, 0o700)?;
    give(&format!("node-{}.kubeconfig", names.node), &node.join("kubeconfig"), None)?;
    give(&format!("kubelet-{}.pem", names.node), &node.join("kubelet.pem"), None)?;
    give("ca.crt", &node.join("ca.crt"), None)?;
    let edge = layout.edge();
    make_directory(&edge, 0o700)?;
    // The folder as a whole is given to the edge before it starts.
    let reader = identity::may_choose().then(|| owner(&edge)).transpose()?;
    give(&format!("edge-{}.kubeconfig", names.edge), &edge.join("kubeconfig"), reader)
}

/// Hands out what the server renews meanwhile. Ends never.
pub async fn keep_handing_out(layout: &Layout, names: &Names) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = hand_out(layout, names) {
            tracing::warn!(error = format!("{error:#}"), "cannot hand out credentials; trying again");
        }
    }
}

fn owner(path: &Path) -> Result<u32> {
    let metadata =
        std::fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(metadata.uid())
}

/// What a plain file holds, if it is the owner's own.
fn plain(path: &Path, owner: Option<u32>) -> Result<Vec<u8>> {
    let read = || -> Result<Vec<u8>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "not a plain file");
        ensure!(owner.is_none_or(|owner| owner == metadata.uid()), "somebody else's file");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::Parser;

    use super::*;
    use crate::flags::AtDataDir;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        at: AtDataDir,
    }

    #[test]
    fn renewed_credentials_reach_their_readers_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        let layout = Layout::new(&Words::parse_from(["up", "--data-dir", root]).at).unwrap();
        let names = Names { node: "one".to_owned(), edge: "one".to_owned() };
        make_directory(&layout.credentials(), 0o700).unwrap();
        let issue = |name: &str, text: &str| std::fs::write(layout.credentials().join(name), text).unwrap();
        for name in
            ["admin.kubeconfig", "node-one.kubeconfig", "kubelet-one.pem", "ca.crt", "edge-one.kubeconfig"]
        {
            issue(name, "old");
        }
        hand_out(&layout, &names).unwrap();
        let edge = layout.edge().join("kubeconfig");
        assert_eq!(std::fs::read_to_string(&edge).unwrap(), "old");
        issue("edge-one.kubeconfig", "new");
        hand_out(&layout, &names).unwrap();
        assert_eq!(std::fs::read_to_string(&edge).unwrap(), "new");
        assert_eq!(std::fs::metadata(&edge).unwrap().mode() & 0o777, 0o600);

        let secret = directory.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let issued = layout.credentials().join("edge-one.kubeconfig");
        std::fs::remove_file(&issued).unwrap();
        std::os::unix::fs::symlink(&secret, &issued).unwrap();
        hand_out(&layout, &names).unwrap_err();
        assert_eq!(std::fs::read_to_string(&edge).unwrap(), "new");
    }
}
