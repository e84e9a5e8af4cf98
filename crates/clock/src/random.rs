//! Randomness.

use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::{Mutex, PoisonError};

/// What generated names end in: consonants and digits that spell no words and are not mistaken for one another
/// (upstream's alphabet).
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A source of random bytes.
pub trait Random: Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A version 4 UUID, as objects carry it in `metadata.uid`.
    fn uid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        hyphenated(&bytes)
    }

    /// What is appended to a `metadata.generateName`: `length` characters of [`SUFFIX_ALPHABET`] (upstream takes 5).
    fn suffix(&self, length: usize) -> String {
        // Multiply-and-shift maps 32 random bits onto 27 letters with a bias below one in a hundred million.
        let letter = |word: [u8; 4]| {
            let index = (u64::from(u32::from_le_bytes(word)) * SUFFIX_ALPHABET.len() as u64) >> 32;
            char::from(SUFFIX_ALPHABET[index as usize])
        };
        let mut bytes = vec![0; length * 4];
        self.fill(&mut bytes);
        bytes.chunks_exact(4).map(|word| letter([word[0], word[1], word[2], word[3]])).collect()
    }
}

fn hyphenated(bytes: &[u8; 16]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// How a table hashes: with keys that nobody can guess who chooses what is put in, and that come from a [`Random`] all the
/// same, so that a simulation sees what is in the table in the same order each time.
#[derive(Clone, Debug, Default)]
pub struct Hashes([u64; 2]);

impl Hashes {
    /// With new keys.
    pub fn new(random: &dyn Random) -> Self {
        Self([random.u64(), random.u64()])
    }
}

impl BuildHasher for Hashes {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        self.0.into_iter().for_each(|key| hasher.write_u64(key));
        hasher
    }
}

/// The operating system's generator, fit for keys and tokens.
///
/// Small requests are served from a buffer, so that a UID does not cost a system call.
#[derive(Debug, Default)]
pub struct SystemRandom {
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    bytes: [u8; 1024],
    used: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self { bytes: [0; 1024], used: 1024 }
    }
}

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() > 256 {
            return system_fill(buffer);
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.used + buffer.len() > pool.bytes.len() {
            system_fill(&mut pool.bytes);
            pool.used = 0;
        }
        let range = pool.used..pool.used + buffer.len();
        buffer.copy_from_slice(&pool.bytes[range.clone()]);
        // What was given out must not linger in memory: it may be a key.
        pool.bytes[range].fill(0);
        pool.used += buffer.len();
    }
}

fn system_fill(buffer: &mut [u8]) {
    // The kernel's generator does not fail on any system this runs on once it has answered the first time. Going on with
    // bytes that are not random would hand out guessable keys, so there is nothing better than to stop.
    #[allow(clippy::panic)]
    if let Err(error) = getrandom::fill(buffer) {
        panic!("the operating system gives no random bytes: {error}");
    }
}

/// A generator that one seed replays. For simulations and tests; guessable.
#[derive(Debug)]
pub struct SeededRandom(Mutex<fastrand::Rng>);

impl SeededRandom {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_version_4_and_differ() {
        let random = SystemRandom::default();
        let uids: Vec<_> = (0..200).map(|_| random.uid()).collect();
        for uid in &uids {
            let groups: Vec<_> = uid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{uid}");
            assert_eq!(uid.as_bytes()[14], b'4', "{uid}");
            assert!(b"89ab".contains(&uid.as_bytes()[19]), "{uid}");
        }
        let distinct: std::collections::BTreeSet<_> = uids.iter().collect();
        assert_eq!(distinct.len(), uids.len());
    }

    #[test]
    fn suffixes_use_every_letter_of_the_alphabet_and_no_other() {
        let suffix = SeededRandom::new(7).suffix(5000);
        assert_eq!(suffix.len(), 5000);
        let seen: std::collections::BTreeSet<u8> = suffix.bytes().collect();
        assert_eq!(seen, SUFFIX_ALPHABET.iter().copied().collect());
    }

    #[test]
    fn a_seed_replays() {
        let (a, b) = (SeededRandom::new(1), SeededRandom::new(1));
        assert_eq!((a.uid(), a.suffix(5)), (b.uid(), b.suffix(5)));
        assert_ne!(a.uid(), SeededRandom::new(2).uid());
    }

    #[test]
    fn hashes_come_from_the_keys() {
        let hash = |seed| Hashes::new(&SeededRandom::new(seed)).hash_one("a");
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn large_and_small_requests_are_both_filled() {
        let random = SystemRandom::default();
        for size in [1, 200, 256, 257, 5000] {
            let (mut a, mut b) = (vec![0; size], vec![0; size]);
            random.fill(&mut a);
            random.fill(&mut b);
            assert!(size < 200 || a != b);
        }
    }
}
