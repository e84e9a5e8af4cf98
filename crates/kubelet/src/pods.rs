//! All pods of the node: a worker for each, woken by what concerns it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::k8s::api::core::v1::Pod;
use client::{Change, Informer, ObjectKey};
use runtime::Runtime;
use tokio::sync::Notify;

use crate::context::Context;
use crate::pod::volume;
use crate::pod::worker::{Assignment, Worker};
use crate::static_pods::mirrored;

/// How often everything is looked at though nothing has happened: a net below the events, which drive all.
const RESYNC: Duration = Duration::from_secs(90);
const RETRY: Duration = Duration::from_secs(1);

/// Pods that something has happened to, each once, however much it was.
#[derive(Default)]
pub(crate) struct Inbox {
    pods: Mutex<BTreeMap<String, Option<ObjectKey>>>,
    arrived: Notify,
}

impl Inbox {
    pub(crate) fn add(&self, uid: &str, key: Option<ObjectKey>) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pods.entry(uid.to_owned()).or_default();
        *known = key.or(known.take());
        self.arrived.notify_one();
    }

    fn take(&self) -> BTreeMap<String, Option<ObjectKey>> {
        std::mem::take(&mut self.pods.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) struct Pods {
    cx: Arc<Context>,
    inbox: Arc<Inbox>,
    /// By pod UID: what wakes the worker.
    workers: HashMap<String, Arc<Notify>>,
    ended: Arc<Inbox>,
    /// What pods left that are no more has been removed.
    swept: bool,
}

/// Gives every pod of the informer, and every sandbox that has none, its worker; for ever.
pub(crate) async fn run(cx: Arc<Context>, informer: Informer<Pod>) {
    let inbox = cx.inbox.clone();
    let told = inbox.clone();
    informer.on_change(move |change: &Change<Pod>| {
        let pod = change.object();
        if let Some(uid) = mirrored(pod) {
            told.add(uid, None);
        } else if let Some(uid) = &pod.metadata.uid {
            told.add(uid, Some(ObjectKey::of(&**pod)));
        }
    });
    let ended = Arc::new(Inbox::default());
    let mut pods =
        Pods { cx: cx.clone(), inbox: inbox.clone(), workers: HashMap::new(), ended, swept: false };
    // What the node runs by itself does not wait for the API, and neither do its ends. Events of pods that are not known yet
    // reach nobody; what became of these is looked at when they are.
    for runtime in cx.runtimes.all() {
        let (runtime, inbox, cx) = (runtime.clone(), inbox.clone(), cx.clone());
        let tasks = cx.tasks.clone();
        tasks.spawn("runtime events", async move { follow(&cx, &runtime, &inbox).await });
    }
    pods.until(informer.ready()).await;
    // What has neither a pod in the API nor a file is removed: both have to be known before.
    pods.until(cx.statics.known()).await;
    pods.run().await;
}

/// Passes a runtime's events on.
async fn follow(cx: &Context, runtime: &Arc<dyn Runtime>, inbox: &Inbox) {
    loop {
        match runtime.next_event().await {
            Ok(event) => {
                inbox.add(&event.pod_uid, None);
                cx.events.send_replace(());
            }
            Err(error) => {
                tracing::warn!(runtime = runtime.name(), %error, "the runtime's events cannot be heard");
                cx.ambient.clock.sleep(RETRY).await;
            }
        }
    }
}

impl Pods {
    async fn run(mut self) {
        loop {
            self.adopt().await;
            let clock = self.cx.ambient.clock.clone();
            self.until(clock.sleep_until(clock.monotonic() + RESYNC)).await;
            for worker in self.workers.values() {
                worker.notify_one();
            }
        }
    }

    /// Passes on what happens, until something has.
    async fn until(&mut self, something: impl Future<Output = ()>) {
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                () = self.inbox.arrived.notified() => self.deliver(),
                () = self.ended.arrived.notified() => self.forget(),
                () = &mut something => return,
            }
        }
    }

    /// Finds pods without a worker, and sandboxes whose pods are no more.
    async fn adopt(&mut self) {
        for pod in self.cx.all_pods() {
            if let Some(uid) = pod.metadata.uid.clone().filter(|uid| !self.workers.contains_key(uid)) {
                self.employ(Assignment { uid, key: Some(ObjectKey::of(&*pod)), runtime: None });
            }
        }
        let runtimes = self.cx.runtimes.clone();
        let mut all = true;
        for runtime in runtimes.all() {
            match runtime.list_sandboxes().await {
                Ok(sandboxes) => {
                    for sandbox in sandboxes {
                        let metadata = &sandbox.metadata;
                        let key = ObjectKey::new(&metadata.namespace, &metadata.name);
                        let pod = self.cx.pods.get(&key);
                        let known = pod.is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&metadata.uid))
                            || self.cx.statics.get(&metadata.uid).is_some();
                        if !known && !self.workers.contains_key(&metadata.uid) {
                            tracing::info!(sandbox = sandbox.id, pod = %key, "removing a sandbox without a pod");
                            let runtime = Some(runtime.clone());
                            self.employ(Assignment { uid: metadata.uid.clone(), key: None, runtime });
                        }
                    }
                }
                Err(error) => {
                    all = false;
                    tracing::warn!(runtime = runtime.name(), %error, "sandboxes could not be listed");
                }
            }
        }
        if all && !self.swept {
            self.swept = self.sweep().await;
        }
    }

    /// Removes volumes and logs of pods that left while nobody looked; whether it came to its end.
    async fn sweep(&self) -> bool {
        let known: HashSet<String> = self.workers.keys().cloned().collect();
        let paths = self.cx.paths.clone();
        let swept = tokio::task::spawn_blocking(move || {
            volume::sweep(&paths, |uid| !uid.is_empty() && !known.contains(uid))
        });
        match swept.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "what is left of pods that are no more could not be removed");
                false
            }
        }
    }

    fn deliver(&mut self) {
        for (uid, key) in self.inbox.take() {
            match (self.workers.get(&uid), key) {
                (Some(worker), _) => worker.notify_one(),
                (None, Some(key)) if self.is_held(&uid, &key) => {
                    self.employ(Assignment { uid, key: Some(key), runtime: None });
                }
                // Gone before it was known here, or an event of a pod that has just been removed.
                (None, _) => {}
            }
        }
    }

    fn is_held(&self, uid: &str, key: &ObjectKey) -> bool {
        self.cx.statics.get(uid).is_some()
            || self.cx.pods.get(key).is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid))
    }

    fn employ(&mut self, assignment: Assignment) {
        let (uid, key) = (assignment.uid.clone(), assignment.key.clone());
        let nudged = Arc::new(Notify::new());
        let worker = Worker::new(self.cx.clone(), assignment, nudged.clone());
        let ended = self.ended.clone();
        self.workers.insert(uid.clone(), nudged);
        self.cx.tasks.spawn("pod", async move {
            worker.run().await;
            ended.add(&uid, key);
        });
    }

    fn forget(&mut self) {
        for (uid, _) in self.ended.take() {
            self.workers.remove(&uid);
        }
    }
}
