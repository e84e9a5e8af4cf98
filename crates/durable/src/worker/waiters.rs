//! Who waits for the end of which invocation.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::Error;
use crate::engine::Ending;

/// Where an ending goes.
pub(super) type Waiter = oneshot::Sender<Result<Ending, Error>>;

/// How many are kept at least before those that went away are looked for.
const FEW: usize = 256;

/// An invocation may sleep for years, and its callers go away without a word: whenever as many came as were there after
/// the last look, those that are gone are dropped. So what is kept is at most twice what is waited for, and a few.
pub(super) struct Waiters {
    by_sequence: HashMap<u64, Vec<Waiter>>,
    count: usize,
    look_at: usize,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self { by_sequence: HashMap::new(), count: 0, look_at: FEW }
    }

    pub(super) fn add(&mut self, sequence: u64, waiter: Waiter) {
        if self.count >= self.look_at {
            self.drop_closed();
        }
        self.by_sequence.entry(sequence).or_default().push(waiter);
        self.count += 1;
    }

    pub(super) fn tell(&mut self, sequence: u64, ending: &Ending) {
        let waiters = self.by_sequence.remove(&sequence).unwrap_or_default();
        self.count -= waiters.len();
        for waiter in waiters {
            // Whoever waited may be gone.
            let _ = waiter.send(Ok(ending.clone()));
        }
    }

    fn drop_closed(&mut self) {
        self.by_sequence.retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
        self.count = self.by_sequence.values().map(Vec::len).sum();
        self.look_at = (self.count * 2).max(FEW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_went_away_are_not_kept() {
        let mut waiters = Waiters::new();
        let (stays, mut ending) = oneshot::channel();
        waiters.add(7, stays);
        for sequence in 0..100_000 {
            waiters.add(sequence, oneshot::channel().0);
            assert!(waiters.count <= FEW && waiters.by_sequence.len() <= FEW);
        }
        waiters.tell(7, &Ending::Cancelled);
        assert!(matches!(ending.try_recv(), Ok(Ok(Ending::Cancelled))));
        assert_eq!(waiters.count, waiters.by_sequence.values().map(Vec::len).sum());
    }
}
