//! Key-value stores: what a backend has to do.

mod embedded;
mod redis;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Error;

pub use self::embedded::Embedded;
pub use self::redis::Redis;

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The keys, in no promised order. A key that was there all along is in some page; one may be in two.
    pub keys: Vec<String>,
    /// Where the next page starts; `None`: this was the last.
    pub next: Option<String>,
}

/// A key-value store. Every method is atomic for each key; what was acknowledged survives a crash of this process.
/// Lengths are checked before a backend sees them.
#[async_trait]
pub trait KeyValue: Send + Sync + 'static {
    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error>;
    /// Sets a key. Doing it again changes nothing.
    async fn set(&self, key: &str, value: Bytes) -> Result<(), Error>;
    /// Removes a key, if it is there. Doing it again changes nothing.
    async fn delete(&self, key: &str) -> Result<(), Error>;
    /// Whether a key is there.
    async fn exists(&self, key: &str) -> Result<bool, Error>;
    /// A page of keys, from the beginning or from where an earlier page ended.
    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, Error>;

    /// Adds to a decimal 64-bit integer, 0 if the key is not there, and returns the sum. With a `token` it happens once,
    /// however often it is called with that token until [`KeyValue::forget`]: the later calls return what the first did.
    async fn increment(&self, key: &str, delta: i64, token: Option<&str>) -> Result<i64, Error>;
    /// Says that a token of [`KeyValue::increment`] will not come again.
    async fn forget(&self, token: &str) -> Result<(), Error>;

    /// The values of many keys, in their order; [`Error::BatchBytes`] when they have more than `limit` bytes together,
    /// which is found out before all of them are in memory.
    async fn get_many(&self, keys: &[String], limit: usize) -> Result<Vec<Option<Bytes>>, Error>;
    /// Sets many keys. Doing it again changes nothing.
    async fn set_many(&self, pairs: Vec<(String, Bytes)>) -> Result<(), Error>;
    /// Removes many keys. Doing it again changes nothing.
    async fn delete_many(&self, keys: &[String]) -> Result<(), Error>;

    /// Whether it can serve now.
    async fn check(&self) -> Result<(), Error>;
}

/// Reads a value as the number that `increment` adds to: a decimal one in its shortest form, as Redis has it.
fn integer(value: Option<&[u8]>) -> Result<i64, Error> {
    let Some(value) = value else { return Ok(0) };
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
    number.filter(|number| number.to_string().as_bytes() == value).ok_or(Error::NotAnInteger)
}
