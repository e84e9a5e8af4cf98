//! Sandboxes that another process of the node left running: found, read, listened to.
//!
//! What cannot be read or reached is left as it is and tried again: a record of another release, a full table of files,
//! a shim that is slow are no reason to end a pod. Only a record that is not there tells of a sandbox whose making was
//! cut short, and only a shim that has certainly ended of one that is lost.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use runtime::Error;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::files::{self, ContainerFile, ContainerFiles, SandboxFiles, SandboxRecord};
use crate::link::{Link, PATIENCE};
use crate::manager::{Inner, blocking, failed, now};
use crate::place;
use crate::protocol::{Call, ContainerRecord, Reply};
use crate::sandbox::Sandbox;

/// How long opening waits for a shim's first answer; connecting goes on after that.
const ADOPTION: Duration = Duration::from_secs(5);
/// Waits between attempts, the first and the longest. A shim's socket closes a moment before the shim is gone.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(10));

/// What a directory of a sandbox or container tells.
enum Found<T> {
    Record(T),
    /// None was written: whoever made the directory got no further.
    Nothing,
    /// Something that may be well and cannot be read now.
    Unreadable(io::Error),
}

fn find<T: serde::de::DeserializeOwned>(record: &std::path::Path) -> Found<T> {
    match files::read_record(record) {
        Ok(record) => Found::Record(record),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unreadable(error),
    }
}

/// The next wait.
fn longer(delay: Duration) -> Duration {
    (delay * 2).clamp(BACKOFF.0, BACKOFF.1)
}

impl Inner {
    /// Adopts all sandboxes of the state directory.
    pub(crate) async fn adopt_all(self: &Arc<Self>) -> Result<(), Error> {
        let directory = self.directory();
        let mut work = JoinSet::new();
        for entry in fs::read_dir(&directory).map_err(failed(&directory.display()))? {
            let entry = entry.map_err(failed(&directory.display()))?;
            let (inner, files) = (Arc::clone(self), SandboxFiles(entry.path()));
            work.spawn(async move { inner.take_in(files).await });
        }
        while let Some(done) = work.join_next().await {
            done.map_err(|error| Error::Failed(format!("a task ended badly: {error}")))??;
        }
        let state_dir = self.config.state_dir.clone();
        blocking(move || place::sweep(&state_dir).map_err(failed(&"writable layers"))).await?;
        // Those that could not be read keep their addresses too.
        self.network.retain(&self.sandbox_directories()).await.map_err(Error::Failed)
    }

    async fn take_in(self: Arc<Self>, files: SandboxFiles) -> Result<(), Error> {
        match find::<SandboxRecord>(&files.record()) {
            Found::Record(record) => self.adopt(files, record).await,
            Found::Nothing => {
                tracing::warn!(sandbox = %files.0.display(), "a sandbox whose making was cut short is removed");
                let tree = self.tree.clone();
                blocking(move || crate::manager::discard(&tree, &files)).await?;
            }
            Found::Unreadable(error) => {
                tracing::error!(%error, "a sandbox cannot be read: it is left as it is, and tried again");
                let inner = Arc::downgrade(&self);
                tokio::spawn(async move {
                    let mut delay = BACKOFF.1;
                    loop {
                        tokio::time::sleep(delay).await;
                        let Some(inner) = inner.upgrade() else { return };
                        match find::<SandboxRecord>(&files.record()) {
                            Found::Record(record) => {
                                inner.adopt(files.clone(), record).await;
                                return inner.adopted_late(&files);
                            }
                            Found::Nothing => return,
                            Found::Unreadable(_) => delay = longer(delay),
                        }
                    }
                });
            }
        }
        Ok(())
    }

    async fn adopt(self: &Arc<Self>, files: SandboxFiles, record: SandboxRecord) {
        let stopped = files.stopped().exists();
        let sandbox = Arc::new(Sandbox::new(files, record, !stopped));
        let unfinished = self.read_containers(&sandbox);
        self.insert(Arc::clone(&sandbox));
        if stopped {
            return sandbox.conclude(now());
        }
        let met = self.watch(&sandbox, unfinished);
        if timeout(ADOPTION, met).await.is_err() {
            tracing::warn!(sandbox = sandbox.id, "its shim does not answer yet; connecting goes on");
        }
    }

    /// Reads a sandbox's containers, and gives those whose making may have been cut short.
    fn read_containers(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Vec<String> {
        let mut unfinished = Vec::new();
        for id in sandbox.container_directories() {
            let of = sandbox.files.container(&id);
            match find::<ContainerFile>(&of.record()) {
                Found::Record(file) => {
                    if !of.state().exists() {
                        unfinished.push(id);
                    }
                    sandbox.add(file);
                }
                Found::Nothing => unfinished.push(id),
                Found::Unreadable(error) => {
                    tracing::error!(container = id, %error, "a container cannot be read: it is left as it is");
                    self.read_later(Arc::clone(sandbox), of);
                }
            }
        }
        unfinished
    }

    fn read_later(self: &Arc<Self>, sandbox: Arc<Sandbox>, of: ContainerFiles) {
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut delay = BACKOFF.1;
            loop {
                tokio::select! {
                    () = sandbox.watcher.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
                let Some(inner) = inner.upgrade() else { return };
                match find::<ContainerFile>(&of.record()) {
                    Found::Record(file) => {
                        sandbox.add(file);
                        if let Ok(Reply::State(records)) = sandbox.call(Call::State).await {
                            inner.take_over(&sandbox, records);
                        }
                        return;
                    }
                    Found::Nothing => return,
                    Found::Unreadable(_) => delay = longer(delay),
                }
            }
        });
    }

    /// Listens to a sandbox's shim until the shim has ended or the sandbox is stopped, and connects again as often as
    /// that takes. What is returned fires when the shim was met, or its end was acted upon.
    pub(crate) fn watch(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        mut unfinished: Vec<String>,
    ) -> oneshot::Receiver<()> {
        let (inner, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let (mut tell, mut delay) = (Some(tell), Duration::ZERO);
            loop {
                let error = tokio::select! {
                    () = sandbox.watcher.cancelled() => return,
                    error = inner.listen(&sandbox, &mut unfinished, &mut tell, &mut delay) => error,
                };
                match sandbox.shim_has_ended() {
                    Ok(true) => {
                        tracing::warn!(sandbox = sandbox.id, "a sandbox lost its shim");
                        let _guard = sandbox.ending.lock().await;
                        return inner.lost(&sandbox).await;
                    }
                    // A shim hangs up on who is slow to listen: no news until it happens again and again.
                    Ok(false) if delay < Duration::from_secs(1) => {}
                    Ok(false) => tracing::warn!(sandbox = sandbox.id, %error, "its shim cannot be reached"),
                    Err(unknown) => {
                        tracing::warn!(sandbox = sandbox.id, %error, %unknown, "its shim cannot be found")
                    }
                }
                delay = longer(delay);
                tokio::select! {
                    () = sandbox.watcher.cancelled() => return,
                    () = tokio::time::sleep(delay) => {}
                }
            }
        });
        told
    }

    /// Meets the shim and listens until that fails.
    async fn listen(
        &self,
        sandbox: &Arc<Sandbox>,
        unfinished: &mut Vec<String>,
        tell: &mut Option<oneshot::Sender<()>>,
        delay: &mut Duration,
    ) -> io::Error {
        let met = timeout(PATIENCE, self.meet(sandbox, unfinished)).await;
        let mut link = match met.unwrap_or_else(|late| Err(io::Error::new(io::ErrorKind::TimedOut, late))) {
            Ok(link) => link,
            Err(error) => return error,
        };
        drop(tell.take());
        *delay = Duration::ZERO;
        loop {
            match link.next().await {
                Ok(Reply::State(records)) => self.take_over(sandbox, records),
                Ok(Reply::Container(record)) => self.changed(sandbox, record),
                Ok(other) => return io::Error::other(format!("{other:?}")),
                Err(error) => return error,
            }
        }
    }

    /// Connects, agrees on a version, and takes over what the shim says of its containers.
    async fn meet(&self, sandbox: &Arc<Sandbox>, unfinished: &mut Vec<String>) -> io::Result<Link> {
        sandbox.agree().await?;
        let mut link = sandbox.open_link(Call::Watch, &[]).await?;
        let Reply::State(records) = link.next().await? else {
            return Err(io::Error::other("its shim cannot be watched"));
        };
        // Those that the shim knows nothing of either were never made.
        for id in std::mem::take(unfinished) {
            if !records.iter().any(|record| record.id == id) {
                sandbox.forget(&id);
                let (of, container) = (sandbox.files.clone(), id.clone());
                let removed =
                    blocking(move || of.remove_container(&container).map_err(failed(&of.0.display())));
                if let Err(error) = removed.await {
                    tracing::warn!(container = id, %error, "what is left of a container stays");
                }
            }
        }
        self.take_over(sandbox, records);
        Ok(link)
    }

    fn take_over(&self, sandbox: &Sandbox, records: Vec<ContainerRecord>) {
        records.into_iter().for_each(|record| self.changed(sandbox, record));
    }
}
