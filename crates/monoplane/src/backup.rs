//! `monoplane backup` and `monoplane restore`: the whole state, as of one revision, from and to either kind of store.

use std::fs::{File, Permissions};
use std::io::{BufReader, BufWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use store::{
    BackupError, BackupReader, BackupWriter, Embedded, Etcd, History, Look, Range, Store, Txn, Write,
};

use crate::flags::{AtDataDir, Etcd as EtcdFlags};
use crate::layout::{Layout, make_directory};
use crate::role::storage;
use crate::{say, verbs};

/// Every key of a plane lies below it.
const EVERYTHING: &[u8] = b"/";

/// Flags of `backup`.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// Where to write it. Whoever has the file has every Secret in it
    pub file: PathBuf,
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// And if it is in etcd
    #[command(flatten)]
    pub etcd: EtcdFlags,
}

/// Flags of `restore`.
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// What `backup` wrote
    pub file: PathBuf,
    /// Where the state is to live
    #[command(flatten)]
    pub at: AtDataDir,
    /// And if it is to be in etcd
    #[command(flatten)]
    pub etcd: EtcdFlags,
    /// Remove what the store holds first
    #[arg(long)]
    pub force: bool,
}

/// Writes a backup, while servers go on.
///
/// # Errors
/// When the store cannot be read, or the file not written.
pub fn back_up(flags: &Backup) -> Result<()> {
    let folder = flags.file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("writing {}", flags.file.display()))?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    let out = BufWriter::new(file.as_file_mut());
    let (revision, count) = if flags.etcd.etcd_servers.is_empty() {
        of_file(&store_file(&Layout::new(&flags.at)?), out)?
    } else {
        verbs::block_on(async {
            let store = Etcd::open(storage::options(&flags.etcd)?).await?;
            let (_, revision, count) = store::backup(&store, EVERYTHING, out).await?;
            Ok((revision, count))
        })?
    };
    file.as_file().sync_all()?;
    file.persist(&flags.file).with_context(|| format!("writing {}", flags.file.display()))?;
    say::line(format!("{} keys, as of revision {revision}, are in {}", count, flags.file.display()));
    Ok(())
}

fn store_file(layout: &Layout) -> PathBuf {
    layout.server().join("store.db")
}

fn of_file(path: &Path, out: impl std::io::Write) -> Result<(u64, u64)> {
    let (mut out, mut begun, mut at) = (Some(out), None, 0);
    let shown = Embedded::look(&disk::Options::new(path), |shown| -> Result<(), BackupError> {
        match (shown, &mut begun) {
            (Look::Revision(revision), _) => {
                at = revision;
                begun = out.take().map(|out| BackupWriter::new(out, revision)).transpose()?;
            }
            (Look::Entry(key, value), Some(writer)) => writer.add(key, value)?,
            (Look::Entry(..), None) => {}
        }
        Ok(())
    });
    shown.with_context(|| format!("reading {}", path.display()))?;
    let writer = begun.context("the store has no revision")?;
    let (_, count) = writer.finish()?;
    Ok((at, count))
}

/// Fills a store that no server uses.
///
/// # Errors
/// When the backup is not whole, and when the store is in use, holds something or cannot be written.
pub fn restore(flags: &Restore) -> Result<()> {
    let open = || -> Result<_> {
        let file = File::open(&flags.file).with_context(|| format!("reading {}", flags.file.display()))?;
        Ok(BackupReader::new(BufReader::new(file))?)
    };
    // Once to its end, so that nothing is begun with one that is not whole.
    let mut reader = open()?;
    while reader.entry()?.is_some() {}
    let mut reader = open()?;
    let count = verbs::block_on(async {
        if flags.etcd.etcd_servers.is_empty() {
            into_file(&Layout::new(&flags.at)?, &mut reader, flags.force).await
        } else {
            let options = storage::options(&flags.etcd)?;
            let store = Etcd::open(options.clone()).await?;
            if flags.force {
                empty(&store).await?;
            }
            let begun = Etcd::begin_after(options, reader.revision()).await;
            let store = begun.context("--force removes what is there")?;
            Ok(store::restore(&store, &mut reader).await?)
        }
    })?;
    say::line(format!("{count} keys are restored, with revisions above {}", reader.revision()));
    Ok(())
}

async fn empty(store: &Etcd) -> Result<()> {
    loop {
        let prefix = EVERYTHING.into();
        let page = store.range(Range { prefix, limit: store::MAX_TXN_OPS, ..Range::default() }).await?;
        if page.entries.is_empty() {
            return Ok(());
        }
        let writes = page.entries.into_iter().map(|entry| Write::Delete(entry.key)).collect();
        store.commit(Txn { expect: Vec::new(), writes, ..Txn::default() }).await?;
    }
}

/// Into a file beside, which takes the place of the other when it is whole.
async fn into_file(layout: &Layout, reader: &mut BackupReader<BufReader<File>>, force: bool) -> Result<u64> {
    make_directory(&layout.server(), 0o700)?;
    let path = store_file(layout);
    // Whoever can open it is its only user; closed in order it is one file.
    let present = Embedded::open(&disk::Options::new(&path), History::default());
    let present = present.with_context(|| format!("opening {}; no server may run on it", path.display()))?;
    let holds = present.head().await? > 0;
    present.close().await?;
    if holds && !force {
        bail!("{} is not empty; --force replaces it", path.display());
    }
    let beside = layout.server().join("restoring.db");
    for left in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(layout.server().join(format!("restoring.db{left}")));
    }
    let options = disk::Options::new(&beside);
    Embedded::begin_after(&options, reader.revision()).await?;
    let store = Embedded::open(&options, History::default())?;
    let restored = store::restore(&store, reader).await;
    store.close().await?;
    let count = restored?;
    for left in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(layout.server().join(format!("store.db{left}")));
    }
    std::fs::rename(&beside, &path).with_context(|| format!("replacing {}", path.display()))?;
    let _ = std::fs::remove_file(layout.server().join("restoring.db.lock"));
    File::open(layout.server())?.sync_all()?;
    Ok(count)
}
