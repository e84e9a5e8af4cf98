//! Notices that something was written below a directory, from the kernel. One descriptor serves all who wait: there are few
//! to be had.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clock::Tasks;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Who is to be told of what.
#[derive(Clone)]
pub(crate) struct Notices(Option<Arc<Watched>>);

struct Watched {
    /// Read as a pipe is: it becomes readable, and is read.
    kernel: pipe::Receiver,
    /// By the kernel's number of a directory.
    directories: Mutex<HashMap<i32, watch::Sender<()>>>,
}

/// One directory that is watched for as long as this lives.
pub(crate) struct Notice {
    watched: Arc<Watched>,
    number: i32,
    changed: watch::Receiver<()>,
}

impl Notices {
    /// Begins. Where the kernel gives none, every watch fails.
    pub(crate) fn start(tasks: &Tasks) -> Self {
        let kernel = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io::Error::from);
        match kernel.and_then(pipe::Receiver::from_owned_fd_unchecked) {
            Ok(kernel) => {
                let watched = Arc::new(Watched { kernel, directories: Mutex::default() });
                tasks.spawn("log notices", pass_on(watched.clone()));
                Self(Some(watched))
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel tells nothing of files: logs are followed by looking at them");
                Self(None)
            }
        }
    }

    /// Watches a directory from now on.
    pub(crate) fn watch(&self, directory: &Path) -> io::Result<Notice> {
        let watched = self.0.clone().ok_or(io::ErrorKind::Unsupported)?;
        let mut directories = watched.directories.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let number = add_watch(&watched.kernel, directory, flags)?;
        let changed = directories.entry(number).or_default().subscribe();
        drop(directories);
        Ok(Notice { watched, number, changed })
    }
}

impl Notice {
    /// Waits until something has been written since this returned last, or since the watch began.
    pub(crate) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // Whoever tells has gone, and with it the node's process, soon.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let mut directories = self.watched.directories.lock().unwrap_or_else(PoisonError::into_inner);
        // This one still counts.
        if directories.get(&self.number).is_some_and(|told| told.receiver_count() <= 1) {
            directories.remove(&self.number);
            // It may have gone with its directory.
            let _ = remove_watch(&self.watched.kernel, self.number);
        }
    }
}

/// Hears the kernel and tells who waits; for ever.
async fn pass_on(watched: Arc<Watched>) {
    loop {
        let Ok(()) = watched.kernel.readable().await else { return };
        let read = watched.kernel.try_io(|| read(&watched.kernel));
        let directories = watched.directories.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(numbers) => {
                numbers.iter().filter_map(|number| directories.get(number)).for_each(|told| {
                    told.send_replace(());
                });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Some have been lost: everybody is to look.
            Err(_) => directories.values().for_each(|told| {
                told.send_replace(());
            }),
        }
    }
}

/// The directories of the events that are there, each once.
fn read(kernel: impl AsFd) -> io::Result<Vec<i32>> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(kernel, &mut space);
    let mut numbers = Vec::new();
    loop {
        let event = reader.next()?;
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(io::Error::other("events were lost"));
        }
        let number = event.wd();
        if numbers.last() != Some(&number) {
            numbers.push(number);
        }
        if reader.is_buffer_empty() {
            return Ok(numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn who_watches_is_told_of_what_is_written_and_put_aside() {
        let tasks = Tasks::under(&Default::default());
        let notices = Notices::start(&tasks);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut one = notices.watch(directory.path()).unwrap();
        let mut two = notices.watch(directory.path()).unwrap();
        file.write_all(b"x").unwrap();
        one.changed().await;
        two.changed().await;
        // The other goes on when one has left.
        drop(one);
        std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        two.changed().await;
        drop(two);
        assert!(notices.0.as_ref().unwrap().directories.lock().unwrap().is_empty());
        assert!(notices.watch(&directory.path().join("none")).is_err());
        tasks.stop().await;
    }
}
