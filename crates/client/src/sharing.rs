//! One copy of what many objects have in common.

use serde::Serialize;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;

/// Fewer are not worth looking through.
const FEW: usize = 64;

/// Parts of objects of which many are equal, as the specs of pods that are made from one template: of those that go through
/// here only the first is kept, and only as long as somebody holds it.
pub struct Sharing<T: ?Sized> {
    /// By a hash of what they serialise to. Of two that differ in spite of the same hash, the second is not shared.
    known: HashMap<u64, Arc<T>>,
    /// When there are as many, those that nobody else holds any more are thrown out.
    sweep_at: usize,
    hashes: RandomState,
}

impl<T: ?Sized> Default for Sharing<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), sweep_at: FEW, hashes: RandomState::new() }
    }
}

impl<T: Serialize + PartialEq + ?Sized> Sharing<T> {
    /// The copy of this that others hold; this one, when it is the first.
    pub fn share(&mut self, value: Arc<T>) -> Arc<T> {
        let mut hasher = Feed(self.hashes.build_hasher());
        if serde_json::to_writer(&mut hasher, &*value).is_err() {
            return value;
        }
        let hash = hasher.0.finish();
        if let Some(known) = self.known.get(&hash) {
            return if *known == value { known.clone() } else { value };
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, known| Arc::strong_count(known) > 1);
            self.sweep_at = FEW.max(2 * self.known.len());
        }
        self.known.insert(hash, value.clone());
        value
    }
}

/// Hashes what is written.
struct Feed<H>(H);

impl<H: Hasher> io::Write for Feed<H> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_one_as_long_as_somebody_holds_them() {
        let mut sharing: Sharing<str> = Sharing::default();
        let (first, second) = (sharing.share("a".into()), sharing.share("a".into()));
        assert!(Arc::ptr_eq(&first, &second));
        assert!(!Arc::ptr_eq(&first, &sharing.share("b".into())));
        for number in 0..10_000 {
            sharing.share(number.to_string().into());
        }
        assert!(sharing.known.len() <= FEW + 1, "{} are kept", sharing.known.len());
        assert!(Arc::ptr_eq(&first, &sharing.share("a".into())));
    }
}
