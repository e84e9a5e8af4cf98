//! Secrets with certificates, each followed by itself: an edge may read no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::reflector::Selection;
use client::{Ambient, Api, Client, Informer, InformerOptions, ObjectKey};
use clock::Tasks;
use k8s_openapi::api::core::v1::Secret;
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use crate::server::tls::certified;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What came of a Secret: its certificate and key, or why it has none that can be shown.
pub(super) type Certified = Result<Arc<CertifiedKey>, String>;

struct Followed {
    informer: Informer<Secret>,
    tasks: Tasks,
    /// What the version that was looked at last came to.
    read: Option<(Option<String>, Certified)>,
}

/// See the module.
pub(super) struct Secrets {
    client: Client,
    ambient: Ambient,
    tasks: Tasks,
    changed: Arc<Notify>,
    followed: BTreeMap<ObjectKey, Followed>,
}

impl Secrets {
    pub(super) fn new(client: Client, ambient: Ambient, tasks: Tasks, changed: Arc<Notify>) -> Self {
        Self { client, ambient, tasks, changed, followed: BTreeMap::new() }
    }

    /// Follows these and no others.
    pub(super) async fn follow(&mut self, wanted: &BTreeSet<ObjectKey>) {
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

    fn begin(&self, key: &ObjectKey) -> Followed {
        let tasks = self.tasks.child();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let fields = Some(format!("metadata.name={}", key.name));
        let options = InformerOptions { selection: Selection { labels: None, fields }, trim: Box::new(trim) };
        let informer = Informer::start(api, options, &self.ambient, &tasks);
        let changed = self.changed.clone();
        informer.on_change(move |_| changed.notify_one());
        // That there is none is news as well.
        let (listed, changed) = (informer.clone(), self.changed.clone());
        tasks.spawn("secret", async move {
            listed.ready().await;
            changed.notify_one();
        });
        Followed { informer, tasks, read: None }
    }

    /// Whether each of them has been looked for.
    pub(super) fn are_known(&self) -> bool {
        self.followed.values().all(|followed| followed.informer.is_ready())
    }

    /// What came of a Secret; `None` while nobody knows.
    pub(super) fn get(&mut self, key: &ObjectKey) -> Option<Certified> {
        let followed = self.followed.get_mut(key)?;
        if !followed.informer.is_ready() {
            return None;
        }
        let Some(secret) = followed.informer.store().get(key) else {
            followed.read = None;
            return Some(Err("it does not exist".to_owned()));
        };
        let version = secret.metadata.resource_version.clone();
        if let Some((known, certified)) = &followed.read
            && *known == version
        {
            return Some(certified.clone());
        }
        let certified = read(&secret);
        followed.read = Some((version, certified.clone()));
        Some(certified)
    }
}

/// Keeps nothing that is not needed of what is secret.
fn trim(secret: &mut Secret) {
    secret.metadata.managed_fields = None;
    secret.metadata.annotations = None;
    if let Some(data) = &mut secret.data {
        data.retain(|name, _| matches!(name.as_str(), CERTIFICATE | KEY));
    }
}

fn read(secret: &Secret) -> Certified {
    let part = |name: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(name));
        found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| format!("it has no data[{name}]"))
    };
    certified(part(CERTIFICATE)?, part(KEY)?).map_err(|error| error.to_string())
}
