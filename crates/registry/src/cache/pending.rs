//! What a writer already knows about its own write, so that the feed does not have to decode it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::Extract;
use crate::encode::Encoded;

/// Writes under way, by store key. Only an economy: an event that finds nothing here is decoded.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<Bytes, Vec<(Encoded, Extract)>>>);

impl Pending {
    /// Announces a write. The guard withdraws it.
    pub(crate) fn announce(&self, key: Bytes, encoded: Encoded, extract: Extract) -> Announced<'_> {
        let value = encoded.stored.clone();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key.clone()).or_default().push((encoded, extract));
        Announced { pending: self, key, value }
    }

    /// Takes what is known about this value of this key.
    pub(crate) fn take(&self, key: &Bytes, value: &Bytes) -> Option<(Encoded, Extract)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get_mut(key)?;
        let at = known.iter().position(|(encoded, _)| encoded.stored == *value)?;
        let found = known.swap_remove(at);
        if known.is_empty() {
            all.remove(key);
        }
        Some(found)
    }
}

/// Withdraws an announcement that the feed did not use: the write failed, or its writer was dropped.
pub(crate) struct Announced<'a> {
    pending: &'a Pending,
    key: Bytes,
    value: Bytes,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.pending.take(&self.key, &self.value);
    }
}
