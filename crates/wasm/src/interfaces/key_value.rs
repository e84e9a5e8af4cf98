//! `wasi:keyvalue` 0.2.0-draft: the stores bound to the component.

use bytes::Bytes;
use capabilities::Store;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmtime::component::{HasData, Linker, Resource};

use super::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::choke::{Function, Outcome, through};
use crate::guest::Guest;

/// Pages of one instance whose continuation is kept: more than that is no listing but a leak.
const CURSORS: usize = 10_000;

/// An open store.
#[allow(unreachable_pub, reason = "generated bindings re-export it")]
pub struct Bucket {
    name: String,
    store: Store,
}

/// Implements the interfaces on a guest.
pub(crate) struct KeyValueView<'a>(&'a mut Guest);

struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = KeyValueView<'a>;
}

pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    store::add_to_linker::<Guest, KeyValue>(linker, |guest| KeyValueView(guest))?;
    atomics::add_to_linker::<Guest, KeyValue>(linker, |guest| KeyValueView(guest))?;
    batch::add_to_linker::<Guest, KeyValue>(linker, |guest| KeyValueView(guest))
}

/// A failure as it is recorded and told to the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Failure {
    message: String,
    /// The store could not be asked.
    #[serde(skip)]
    unavailable: bool,
}

impl From<capabilities::Error> for Failure {
    fn from(error: capabilities::Error) -> Self {
        let unavailable =
            matches!(error, capabilities::Error::Unavailable(_) | capabilities::Error::Unbound(_));
        Self { message: error.to_string(), unavailable }
    }
}

impl Outcome for Failure {
    fn unavailable(&self) -> Option<&str> {
        self.unavailable.then_some(&self.message)
    }
}

impl From<Failure> for store::Error {
    fn from(failure: Failure) -> Self {
        Self::Other(failure.message)
    }
}

/// What a guest is answered.
type Answer<T> = wasmtime::Result<Result<T, store::Error>>;

fn answer<T>(outcome: Result<T, Failure>) -> Answer<T> {
    Ok(outcome.map_err(store::Error::from))
}

const fn of_store(name: &'static str) -> Function {
    Function::new("wasi:keyvalue/store", name)
}

const fn of_batch(name: &'static str) -> Function {
    Function::new("wasi:keyvalue/batch", name)
}

/// What stands for a value among the arguments of a call: the journal has to recognise it, not to keep it.
fn fingerprint(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}

impl KeyValueView<'_> {
    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<(String, Store)> {
        let bucket = self.0.table.get(bucket)?;
        Ok((bucket.name.clone(), bucket.store.clone()))
    }
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        match self.0.component.spec.key_value.get(&identifier).cloned() {
            Some(store) => Ok(Ok(self.0.table.push(Bucket { name: identifier, store })?)),
            None => Ok(Err(store::Error::NoSuchStore)),
        }
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let (name, store) = self.bucket(&bucket)?;
        let get = |_| async { Ok::<_, Failure>(store.get(&key).await?.map(Vec::from)) };
        answer(through(&self.0.recording, of_store("[method]bucket.get"), &(name, &key), get).await?)
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let (name, store) = self.bucket(&bucket)?;
        let arguments = (name, &key, fingerprint(&value));
        let set = |_| async { Ok::<_, Failure>(store.set(&key, Bytes::from(value)).await?) };
        answer(through(&self.0.recording, of_store("[method]bucket.set"), &arguments, set).await?)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let (name, store) = self.bucket(&bucket)?;
        let delete = |_| async { Ok::<_, Failure>(store.delete(&key).await?) };
        answer(through(&self.0.recording, of_store("[method]bucket.delete"), &(name, &key), delete).await?)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let (name, store) = self.bucket(&bucket)?;
        let exists = |_| async { Ok::<_, Failure>(store.exists(&key).await?) };
        answer(through(&self.0.recording, of_store("[method]bucket.exists"), &(name, &key), exists).await?)
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Answer<store::KeyResponse> {
        let (name, store) = self.bucket(&bucket)?;
        let from = match cursor {
            None => None,
            Some(number) => match usize::try_from(number).ok().and_then(|at| self.0.cursors.get(at)) {
                Some(from) => Some(from.clone()),
                None => return answer(Err(capabilities::Error::UnknownCursor.into())),
            },
        };
        let list = |_| async {
            let page = store.keys(from.as_deref()).await?;
            Ok::<_, Failure>((page.keys, page.next))
        };
        let arguments = (name, &from);
        let listed =
            through(&self.0.recording, of_store("[method]bucket.list-keys"), &arguments, list).await?;
        let (keys, next) = match listed {
            Ok(page) => page,
            Err(failure) => return answer(Err(failure)),
        };
        let cursor = match next {
            None => None,
            Some(_) if self.0.cursors.len() >= CURSORS => {
                let message = "too many pages listed by one instance".to_owned();
                return answer(Err(Failure { message, unavailable: false }));
            }
            Some(next) => {
                // The guest's cursors are numbers, the backends' are not: the number is the place in this list.
                self.0.cursors.push(next);
                Some(self.0.cursors.len() as u64 - 1)
            }
        };
        Ok(Ok(store::KeyResponse { keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.0.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let (name, store) = self.bucket(&bucket)?;
        let mut token = None;
        let increment = |ticket: Option<String>| {
            token.clone_from(&ticket);
            let (store, key) = (&store, &key);
            async move {
                let delta = i64::try_from(delta).map_err(|_| capabilities::Error::NotAnInteger)?;
                let sum = store.increment(key, delta, ticket.as_deref()).await?;
                Ok::<_, Failure>(u64::try_from(sum).map_err(|_| capabilities::Error::NotAnInteger)?)
            }
        };
        let function = Function::new("wasi:keyvalue/atomics", "increment");
        let sum = through(&self.0.recording, function, &(name, &key, delta), increment).await?;
        if let Some(token) = token {
            // The result is recorded, so nobody asks again, and the guest need not wait: all that may stay behind is the
            // marker.
            tokio::spawn(async move {
                if let Err(error) = store.forget(&token).await {
                    tracing::debug!(store = store.name(), %error, "marker of an increment not removed");
                }
            });
        }
        answer(sum)
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let (name, store) = self.bucket(&bucket)?;
        let get = |_| async {
            let values = store.get_many(&keys).await?;
            let pairs = keys.iter().zip(values);
            Ok::<_, Failure>(pairs.map(|(key, value)| Some((key.clone(), Vec::from(value?)))).collect())
        };
        answer(through(&self.0.recording, of_batch("get-many"), &(name, &keys), get).await?)
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let (name, store) = self.bucket(&bucket)?;
        let prints: Vec<_> = pairs.iter().map(|(key, value)| (key.clone(), fingerprint(value))).collect();
        let pairs = pairs.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect();
        let set = |_| async { Ok::<_, Failure>(store.set_many(pairs).await?) };
        answer(through(&self.0.recording, of_batch("set-many"), &(name, prints), set).await?)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let (name, store) = self.bucket(&bucket)?;
        let delete = |_| async { Ok::<_, Failure>(store.delete_many(&keys).await?) };
        answer(through(&self.0.recording, of_batch("delete-many"), &(name, &keys), delete).await?)
    }
}
