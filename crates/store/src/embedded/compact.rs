//! Forgetting history.

use std::collections::VecDeque;

use bytes::Bytes;
use clock::Instant;
use disk::Batch;

use super::{History, Inner, row, unavailable};
use crate::{Error, Revision};

/// Keys looked at while the lock is held.
const CHUNK_KEYS: usize = 1000;

/// Which revision the store was at, when.
#[derive(Debug)]
pub(super) struct Maintenance {
    history: History,
    seen: VecDeque<(Instant, Revision)>,
}

impl Maintenance {
    pub(super) fn new(history: History) -> Self {
        Self { history, seen: VecDeque::new() }
    }

    /// Notes the head, and says up to where history is no longer to be kept.
    fn note(&mut self, now: Instant, head: Revision) -> Revision {
        let mut forget = head.saturating_sub(self.history.revisions);
        while let Some((_, revision)) =
            self.seen.pop_front_if(|(when, _)| now.since(*when) >= self.history.age)
        {
            forget = forget.max(revision);
        }
        if self.seen.back().is_none_or(|(_, revision)| *revision != head) && forget < head {
            self.seen.push_back((now, head));
        }
        forget
    }
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn history_goes_by_age_and_by_number() {
        let at = |seconds| Instant::default() + Duration::from_secs(seconds);
        let mut kept = Maintenance::new(History { age: Duration::from_secs(300), revisions: 1000 });
        assert_eq!(kept.note(at(0), 10), 0);
        assert_eq!(kept.note(at(60), 20), 0);
        assert_eq!(kept.note(at(299), 20), 0);
        assert_eq!(kept.note(at(300), 30), 10);
        assert_eq!(kept.note(at(360), 30), 20);
        assert_eq!(kept.note(at(400), 5000), 4000);
        // Nothing happens for long: the head itself becomes the oldest, and nothing is noted any more.
        assert_eq!(kept.note(at(2000), 5000), 5000);
        assert!(kept.seen.is_empty());
    }
}
