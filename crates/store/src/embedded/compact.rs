//! Forgetting history.

use bytes::Bytes;
use clock::Instant;
use disk::Batch;

use super::{Inner, row, unavailable};
use crate::{Error, Revision};

/// Keys looked at while the lock is held.
const CHUNK_KEYS: usize = 1000;

impl Inner {
    pub(super) async fn maintain(&self, now: Instant) -> Result<(), Error> {
        let (head, oldest) = {
            let state = self.state();
            (state.durable, state.oldest)
        };
        let forget = self.maintenance.lock().await.note(now, head);
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
        let mut after: Option<Bytes> = None;
        loop {
            let (forgotten, next) = self.state().index.compact(after.as_deref(), revision, CHUNK_KEYS);
            if !forgotten.is_empty() {
                // All of a key's versions at once: a deletion that was forgotten before what it deleted would bring it back.
                let mut batch = Batch::new();
                for version in forgotten {
                    batch.delete(row::LOG, row::address(version.revision, version.position));
                }
                self.disk.commit(batch).await.map_err(unavailable)?;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
