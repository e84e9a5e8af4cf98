//! Secrets at rest: the keys' file, followed while the server runs.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use clock::Clock;
use pki::MasterKeys;
use store::{Cipher, Encrypted, Store};

/// How often the keys' file is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// The keys as they were read last.
pub struct Keys {
    file: std::path::PathBuf,
    current: RwLock<Arc<MasterKeys>>,
}

impl Keys {
    /// Reads the file, which is made if it is not there.
    pub fn open(file: &Path) -> Result<Self> {
        let keys = MasterKeys::open(file).context("the keys that Secrets are encrypted with")?;
        Ok(Self { file: file.to_owned(), current: RwLock::new(Arc::new(keys)) })
    }

    fn current(&self) -> Arc<MasterKeys> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn changed_at(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|file| file.modified()).ok()
    }

    /// Reads the file again.
    fn read(&self) -> Result<(), pki::Error> {
        let read = MasterKeys::open(&self.file)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        Ok(())
    }

    /// Encrypts what is not encrypted with the newest key, now and whenever there is another.
    pub async fn keep(self: Arc<Self>, store: Arc<Encrypted<dyn Store>>, clock: Arc<dyn Clock>) {
        let mut seen = None;
        loop {
            let changed = self.changed_at();
            if changed.is_some() && changed != seen {
                match self.renew(&store).await {
                    Ok(()) => seen = changed,
                    Err(error) => tracing::warn!("Secrets are not encrypted anew yet: {error:#}"),
                }
            }
            clock.sleep(EVERY).await;
        }
    }

    async fn renew(&self, store: &Encrypted<dyn Store>) -> Result<()> {
        self.read()?;
        let renewed = store.renew().await?;
        if renewed > 0 {
            let key = self.current().ids().next().unwrap_or_default();
            tracing::info!(secrets = renewed, key, "Secrets encrypted anew");
        }
        Ok(())
    }
}

impl Cipher for Keys {
    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, String> {
        self.current().seal(key, value).map(Bytes::from).map_err(|error| error.to_string())
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Option<Bytes>, String> {
        let opened = match self.current().open_value(key, sealed) {
            // Another server may have been given a new key before this one looked.
            Err(pki::Error::UnknownKey { .. }) if self.read().is_ok() => {
                self.current().open_value(key, sealed)
            }
            other => other,
        };
        opened.map(|value| value.map(Bytes::from)).map_err(|error| error.to_string())
    }

    fn is_current(&self, sealed: &[u8]) -> bool {
        self.current().is_current(sealed)
    }
}
