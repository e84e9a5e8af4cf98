//! Forgetting history, and giving back the space that it took.

use bytes::Bytes;
use clock::Instant;
use disk::Batch;

use super::{Inner, Version, row, unavailable};
use crate::{Error, Revision};

/// Keys looked at while the lock is held.
const CHUNK_KEYS: usize = 1000;
/// Rows that one batch deletes: so few that whoever writes meanwhile does not wait long for it.
const CHUNK_ROWS: usize = 128;

impl Inner {
    /// What history has left free since the last time and nothing has needed since goes back to the file system; then
    /// more history is forgotten. In this order, so that the next writes find what they will need.
    pub(super) async fn maintain(&self, now: Instant) -> Result<(), Error> {
        let (head, oldest) = {
            let state = self.state();
            (state.durable, state.oldest)
        };
        let forget = self.maintenance.lock().await.note(now, head);
        match self.disk.shrink().await {
            // It takes a little room to give back much. Forgetting makes some for the next time.
            Ok(()) | Err(disk::Error::NoRoom(_)) => {}
            Err(error) => {
                if let disk::Error::Failed(_) = error {
                    self.state().fail(&error.to_string());
                }
                return Err(unavailable(error));
            }
        }
        if forget > oldest { self.compact(forget).await } else { Ok(()) }
    }

    pub(super) async fn compact(&self, revision: Revision) -> Result<(), Error> {
        {
            let mut state = self.state();
            if revision > state.durable {
                return Err(Error::Future { requested: revision, current: state.durable });
            }
            if revision <= state.oldest {
                return Ok(());
            }
            state.oldest = revision;
        }
        // First, so that no later start takes what is about to be half forgotten for whole.
        let mut batch = Batch::new();
        batch.put(row::META, row::OLDEST, revision.to_be_bytes().to_vec());
        self.disk.commit(batch).await.map_err(unavailable)?;
        // The oldest first, as they lie in the log: whole pages become free. Nor does a deletion go before what it deleted,
        // which would be back at the next start.
        for forgotten in self.forget(revision).await.chunks(CHUNK_ROWS) {
            let mut batch = Batch::new();
            for version in forgotten {
                batch.delete(row::LOG, row::address(version.revision, version.position));
            }
            self.disk.commit(batch).await.map_err(unavailable)?;
        }
        Ok(())
    }

    /// Takes what nobody can see any more out of the index, and returns it in the log's order.
    async fn forget(&self, oldest: Revision) -> Vec<Version> {
        let mut all = Vec::new();
        let mut after: Option<Bytes> = None;
        loop {
            let (forgotten, next) = self.state().index.compact(after.as_deref(), oldest, CHUNK_KEYS);
            all.extend(forgotten);
            if next.is_none() {
                break;
            }
            after = next;
            tokio::task::yield_now().await;
        }
        all.sort_unstable_by_key(|version| (version.revision, version.position));
        all
    }
}
