//! Connections on which nobody has said yet who they are. There is room for a part of all connections, and whoever comes
//! when it is taken gets the place of the oldest: nobody without credentials keeps others out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The strangers of one listener.
pub(super) struct Strangers {
    most: usize,
    all: Mutex<Numbered>,
}

/// The oldest has the least number.
#[derive(Default)]
struct Numbered {
    next: u64,
    ousted: BTreeMap<u64, CancellationToken>,
}

/// One stranger, for as long as it is one.
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    ousted: CancellationToken,
}

impl Strangers {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, all: Mutex::default() })
    }

    /// Lets another one in.
    pub(super) fn admit(self: &Arc<Self>) -> Stranger {
        let ousted = CancellationToken::new();
        let mut all = self.all();
        if all.ousted.len() >= self.most
            && let Some((_, oldest)) = all.ousted.pop_first()
        {
            oldest.cancel();
        }
        let number = all.next;
        all.next += 1;
        all.ousted.insert(number, ousted.clone());
        Stranger { strangers: self.clone(), number, ousted }
    }

    fn all(&self) -> MutexGuard<'_, Numbered> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Returns when another needs the place.
    pub(super) async fn ousted(&self) {
        self.ousted.cancelled().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.all().ousted.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_stranger_makes_room() {
        let strangers = Strangers::new(2);
        let [first, second] = [strangers.admit(), strangers.admit()];
        let is_ousted = |stranger: &Stranger| stranger.ousted().now_or_never().is_some();
        // Who is known is no stranger any more.
        drop(first);
        let third = strangers.admit();
        assert!(!is_ousted(&second));
        let fourth = strangers.admit();
        assert!(is_ousted(&second) && !is_ousted(&third) && !is_ousted(&fourth));
        drop(second);
        assert_eq!(strangers.all().ousted.len(), 2);
    }
}
