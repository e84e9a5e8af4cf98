//! Secrets that objects name, each followed by itself: an edge may read no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::reflector::Selection;
use client::{Ambient, Api, Client, Informer, InformerOptions, ObjectKey};
use clock::Tasks;
use k8s_openapi::api::core::v1::Secret;

/// How a use reads its Secrets: the entries that it needs, and what it makes of them.
pub(crate) struct Reading<T> {
    /// Nothing else of the Secret is kept in memory.
    pub(crate) entries: &'static [&'static str],
    /// What the entries come to, or what is wrong with them.
    pub(crate) read: fn(&Secret) -> Result<T, String>,
}

struct Followed<T> {
    informer: Informer<Secret>,
    tasks: Tasks,
    /// What the version that was looked at last came to.
    read: Option<(Option<String>, Result<T, String>)>,
}

/// The Secrets of one use.
pub(crate) struct Secrets<T> {
    client: Client,
    ambient: Ambient,
    tasks: Tasks,
    reading: Reading<T>,
    changed: Arc<dyn Fn(&ObjectKey) + Send + Sync>,
    followed: BTreeMap<ObjectKey, Followed<T>>,
}

impl<T: Clone> Secrets<T> {
    /// None yet. `changed` is called with the key of one that is new, has changed or is found not to be there.
    pub(crate) fn new(
        client: Client,
        ambient: Ambient,
        tasks: Tasks,
        reading: Reading<T>,
        changed: impl Fn(&ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        Self { client, ambient, tasks, reading, changed: Arc::new(changed), followed: BTreeMap::new() }
    }

    /// Follows these and no others.
    pub(crate) async fn follow(&mut self, wanted: &BTreeSet<ObjectKey>) {
        let gone: Vec<_> = self.followed.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in gone {
            if let Some(followed) = self.followed.remove(&key) {
                followed.tasks.stop().await;
            }
        }
        for key in wanted {
            if !self.followed.contains_key(key) {
                let followed = self.begin(key);
                self.followed.insert(key.clone(), followed);
            }
        }
    }

    fn begin(&self, key: &ObjectKey) -> Followed<T> {
        let tasks = self.tasks.child();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let fields = Some(format!("metadata.name={}", key.name));
        let entries = self.reading.entries;
        let options = InformerOptions {
            selection: Selection { labels: None, fields },
            trim: Box::new(move |secret| trim(secret, entries)),
        };
        let informer = Informer::start(api, options, &self.ambient, &tasks);
        let (changed, this) = (self.changed.clone(), key.clone());
        informer.on_change(move |_| changed(&this));
        // That there is none is news as well.
        let (listed, changed, key) = (informer.clone(), self.changed.clone(), key.clone());
        tasks.spawn("secret", async move {
            listed.ready().await;
            changed(&key);
        });
        Followed { informer, tasks, read: None }
    }

    /// Whether each of them has been looked for.
    pub(crate) fn are_known(&self) -> bool {
        self.followed.values().all(|followed| followed.informer.is_ready())
    }

    /// What came of a Secret; `None` while nobody knows.
    pub(crate) fn get(&mut self, key: &ObjectKey) -> Option<Result<T, String>> {
        let followed = self.followed.get_mut(key)?;
        if !followed.informer.is_ready() {
            return None;
        }
        let Some(secret) = followed.informer.store().get(key) else {
            followed.read = None;
            return Some(Err("it does not exist".to_owned()));
        };
        let version = secret.metadata.resource_version.clone();
        if let Some((known, read)) = &followed.read
            && *known == version
        {
            return Some(read.clone());
        }
        let read = (self.reading.read)(&secret);
        followed.read = Some((version, read.clone()));
        Some(read)
    }
}

/// Keeps nothing that is not needed of what is secret.
fn trim(secret: &mut Secret, entries: &[&str]) {
    secret.metadata.managed_fields = None;
    secret.metadata.annotations = None;
    if let Some(data) = &mut secret.data {
        data.retain(|name, _| entries.contains(&name.as_str()));
    }
}
