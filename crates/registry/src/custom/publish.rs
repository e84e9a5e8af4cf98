//! The loop that makes definitions served: it checks their names, serves their kinds, says so in their status, and takes
//! them away again, objects first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use apimachinery::meta;
use apimachinery::status::Status;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::conversion::Webhook;
use super::kinds::{Versions, fits, resource_of, versions_of};
use crate::bind::set_condition;
use crate::cache::Command;
use crate::modify::Target;
use crate::resource::Resource;
use crate::tree::{items, object, text};
use crate::{DeleteOptions, Kind, Kinds, ListOptions, Part, Registry, WatchStream};

/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Pause before a definition that could not be handled is tried again. It doubles while that goes on.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// How often it doubles.
const DOUBLINGS: u32 = 8;

/// A definition that is served.
struct Served {
    uid: String,
    generation: i64,
    terminating: bool,
    resource: Arc<Resource>,
    versions: Versions,
    /// Objects that have not changed since this revision are being deleted already.
    swept: u64,
}

/// Ends when a definition is to be looked at again.
type Later = BoxFuture<'static, ()>;

/// All served definitions, by name.
pub(crate) struct CustomKinds {
    registry: Weak<Registry>,
    builtin: Vec<Arc<Kind>>,
    served: BTreeMap<String, Served>,
    /// Definitions whose names others have. They may be free when something else is served.
    refused: BTreeSet<String>,
    later: BTreeMap<String, Later>,
    /// How often in a row a definition could not be handled.
    failures: BTreeMap<String, u32>,
}

impl CustomKinds {
    pub(crate) fn new(registry: &Arc<Registry>) -> Self {
        Self {
            registry: Arc::downgrade(registry),
            builtin: registry.kinds().all().to_vec(),
            served: BTreeMap::new(),
            refused: BTreeSet::new(),
            later: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Handles every definition once: what was served before a restart is served before the first request.
    pub(crate) async fn sync_all(&mut self) {
        self.sweep(true).await;
    }

    /// Follows the definitions until the registry is gone. What fails is tried again; what waits for others is looked at
    /// when they have changed.
    pub(crate) async fn run(mut self) {
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            let clock = registry.options.clock.clone();
            let Ok(mut watch) = begin(&registry).await else { return };
            drop(registry);
            self.sweep(false).await;
            loop {
                tokio::select! {
                    biased;
                    event = watch.next() => match event {
                        Some(event) => {
                            if let Some(object) = event.object() {
                                self.handle(&object.names().1).await;
                            }
                        }
                        None => break,
                    },
                    name = due(&mut self.later) => self.handle(&name).await,
                }
            }
            clock.sleep(TRY_AGAIN).await;
        }
    }

    /// Handles all definitions, and those that are served but gone.
    async fn sweep(&mut self, only_established: bool) {
        let Some(registry) = self.registry.upgrade() else { return };
        let kinds = registry.kinds();
        let Some(definitions) = definitions(&kinds) else { return };
        let mut names: Vec<String> =
            definitions.resource.hub.view().items.keys().map(ToString::to_string).collect();
        if only_established {
            names.retain(|name| {
                registry
                    .item(definitions, "", name)
                    .and_then(|item| item.tree())
                    .is_ok_and(|crd| is_established(&crd))
            });
        }
        names.extend(self.served.keys().cloned());
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.handle(&name).await;
        }
    }

    /// Brings one definition forward, and those that wait for a name if that changed what is served.
    async fn handle(&mut self, name: &str) {
        let Some(registry) = self.registry.upgrade() else { return };
        let before = registry.kinds().generation();
        self.bring_forward(&registry, name).await;
        if registry.kinds().generation() != before {
            for name in std::mem::take(&mut self.refused) {
                self.bring_forward(&registry, &name).await;
            }
        }
    }

    async fn bring_forward(&mut self, registry: &Arc<Registry>, name: &str) {
        self.later.remove(name);
        let later = match self.step(registry, name).await {
            Ok(later) => {
                self.failures.remove(name);
                later
            }
            Err(status) => {
                warn!(definition = name, %status, "a custom resource definition could not be handled; trying again");
                let failures = self.failures.entry(name.to_owned()).or_default();
                let pause = TRY_AGAIN * 2_u32.pow((*failures).min(DOUBLINGS));
                *failures += 1;
                let clock = registry.options.clock.clone();
                Some(async move { clock.sleep(pause).await }.boxed())
            }
        };
        if let Some(later) = later {
            self.later.insert(name.to_owned(), later);
        }
    }

    /// Does what can be done about a definition now. What comes back ends when there is more to do.
    async fn step(&mut self, registry: &Arc<Registry>, name: &str) -> Result<Option<Later>, Status> {
        let kinds = registry.kinds();
        let Some(definitions) = definitions(&kinds) else { return Ok(None) };
        let Ok(item) = registry.item(definitions, "", name) else {
            self.withdraw(registry, name).await;
            return Ok(None);
        };
        let crd = item.tree()?;
        if self.served.get(name).is_some_and(|served| served.uid != meta::uid(&crd)) {
            self.withdraw(registry, name).await;
        }
        let terminating = meta::is_deleting(&crd);
        if let Some(conflict) = self.conflict(&crd).filter(|_| !is_established(&crd)) {
            if terminating {
                // It never had objects.
                release(registry, definitions, &crd).await?;
            } else {
                self.refused.insert(name.to_owned());
                refuse(registry, definitions, &crd, conflict).await?;
            }
            return Ok(None);
        }
        self.serve(registry, name, &crd, terminating).await?;
        if !terminating {
            accept(registry, definitions, &crd).await?;
            return Ok(None);
        }
        if !meta::finalizers(&crd).any(|finalizer| finalizer == CLEANUP) {
            return Ok(None);
        }
        let left = self.clean(registry, name).await?;
        if left.is_none() {
            release(registry, definitions, &crd).await?;
        }
        Ok(left)
    }

    /// Serves the definition as it is now, if it is not served so already.
    async fn serve(
        &mut self,
        registry: &Arc<Registry>,
        name: &str,
        crd: &Value,
        terminating: bool,
    ) -> Result<(), Status> {
        let generation = meta::generation(crd);
        let known = self.served.get(name);
        if known.is_some_and(|known| known.generation == generation && known.terminating == terminating) {
            return Ok(());
        }
        let kept = known.filter(|known| fits(&known.resource, crd)).map(|known| known.resource.clone());
        let resource = match kept {
            Some(resource) => resource,
            None => {
                self.withdraw(registry, name).await;
                let resource = Arc::new(resource_of(crd, registry.options.limits));
                load(registry, &resource).await?;
                resource
            }
        };
        let webhook = Webhook::of(crd, &registry.options.webhooks, &registry.options.random);
        let versions = versions_of(crd, &resource, webhook.as_ref(), terminating);
        let uid = meta::uid(crd).to_owned();
        let served = Served { uid, generation, terminating, resource, versions, swept: 0 };
        self.served.insert(name.to_owned(), served);
        self.publish(registry);
        info!(definition = name, generation, "custom resource served");
        Ok(())
    }

    async fn withdraw(&mut self, registry: &Arc<Registry>, name: &str) {
        if let Some(served) = self.served.remove(name) {
            self.publish(registry);
            // If the feed has ended, so have the watches.
            let _ = registry.feed.send(Command::Remove(served.resource)).await;
        }
    }

    fn publish(&self, registry: &Arc<Registry>) {
        let custom = self.served.values().flat_map(|served| served.versions.served.iter().cloned());
        let generation = registry.kinds().generation() + 1;
        let kinds = Kinds::new(generation, self.builtin.iter().cloned().chain(custom).collect());
        registry.kinds.store(Arc::new(kinds));
        registry.kinds_changed.send_replace(generation);
    }

    /// A name of the definition that another of its group has already: reason and message.
    fn conflict(&self, crd: &Value) -> Option<(&'static str, String)> {
        let group = text(crd, &["spec", "group"]);
        let others = self.served.iter().filter(|(name, _)| *name != meta::name(crd));
        let others = others
            .flat_map(|(_, served)| &served.versions.stored)
            .chain(&self.builtin)
            .filter(|kind| kind.group == group);
        let names = &crd["spec"]["names"];
        let short: Vec<&str> = items(names, &["shortNames"]).iter().filter_map(Value::as_str).collect();
        for other in others {
            let taken = |name: &str| {
                name == other.plural
                    || name == other.singular
                    || other.short_names.iter().any(|short| short == name)
            };
            let (plural, singular) = (text(names, &["plural"]), text(names, &["singular"]));
            let (kind, list_kind) = (text(names, &["kind"]), text(names, &["listKind"]));
            let (reason, name) = if taken(plural) {
                ("PluralConflict", plural)
            } else if taken(singular) {
                ("SingularConflict", singular)
            } else if let Some(name) = short.iter().find(|name| taken(name)) {
                ("ShortNamesConflict", *name)
            } else if kind == other.kind || kind == other.list_kind {
                ("KindConflict", kind)
            } else if list_kind == other.kind || list_kind == other.list_kind {
                ("ListKindConflict", list_kind)
            } else {
                continue;
            };
            return Some((reason, format!("{name:?} is already in use")));
        }
        None
    }

    /// Deletes what objects a definition has. `None` once none is left; else what ends when they have changed.
    async fn clean(&mut self, registry: &Arc<Registry>, name: &str) -> Result<Option<Later>, Status> {
        let Some(served) = self.served.get_mut(name) else { return Ok(None) };
        let Some(kind) = &served.versions.stored else { return Ok(None) };
        let hub = &served.resource.hub;
        let (view, swept) = (hub.view(), served.swept);
        let news = view.items.values().filter(|item| item.revision > swept);
        let each = news.filter(|item| !item.tree().is_ok_and(|tree| meta::is_deleting(&tree))).map(|item| {
            let (namespace, name) = item.names();
            (namespace.to_owned(), name.to_owned(), DeleteOptions::default())
        });
        registry.delete_each(&registry.own_context(), kind, each).await?;
        served.swept = view.revision;
        let is_left = !hub.view().items.is_empty();
        Ok(is_left.then(|| hub.changed(view.revision)))
    }
}

/// The name of the first definition that is to be looked at again.
async fn due(later: &mut BTreeMap<String, Later>) -> String {
    std::future::poll_fn(|cx| {
        let mut all = later.iter_mut();
        let ended = all.find_map(|(name, later)| later.poll_unpin(cx).is_ready().then(|| name.clone()));
        match ended {
            Some(name) => {
                later.remove(&name);
                Poll::Ready(name)
            }
            None => Poll::Pending,
        }
    })
    .await
}

fn definitions(kinds: &Kinds) -> Option<&Arc<Kind>> {
    kinds.lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

async fn begin(registry: &Arc<Registry>) -> Result<WatchStream, Status> {
    let kinds = registry.kinds();
    let definitions = definitions(&kinds).ok_or_else(Status::no_such_path)?;
    registry.begin_watch(definitions, "", &ListOptions::default()).await
}

async fn load(registry: &Registry, resource: &Arc<Resource>) -> Result<(), Status> {
    let (done, loaded) = oneshot::channel();
    let gone = || Status::service_unavailable("the registry is shutting down");
    registry.feed.send(Command::Add(resource.clone(), done)).await.map_err(|_| gone())?;
    loaded.await.map_err(|_| gone())?.map_err(crate::write::unavailable)
}

fn is_established(crd: &Value) -> bool {
    let mut conditions = items(crd, &["status", "conditions"]).iter();
    conditions.any(|found| text(found, &["type"]) == "Established" && text(found, &["status"]) == "True")
}

async fn accept(registry: &Registry, kind: &Arc<Kind>, crd: &Value) -> Result<(), Status> {
    write_status(registry, kind, crd, |crd, time| {
        let names = crd["spec"]["names"].clone();
        object(crd, "status").insert("acceptedNames".into(), names);
        let storage =
            items(crd, &["spec", "versions"]).iter().find(|version| version["storage"] == json!(true));
        let storage = storage.map(|version| version["name"].clone()).unwrap_or_default();
        let mut stored = items(crd, &["status", "storedVersions"]).to_vec();
        if !stored.contains(&storage) {
            stored.push(storage);
        }
        object(crd, "status").insert("storedVersions".into(), stored.into());
        set_condition(crd, condition("NamesAccepted", "True", "NoConflicts", "no conflicts found", time));
        let why = "the initial names have been accepted";
        set_condition(crd, condition("Established", "True", "InitialNamesAccepted", why, time));
    })
    .await
}

async fn refuse(
    registry: &Registry,
    kind: &Arc<Kind>,
    crd: &Value,
    (reason, message): (&str, String),
) -> Result<(), Status> {
    write_status(registry, kind, crd, |crd, time| {
        set_condition(crd, condition("NamesAccepted", "False", reason, &message, time));
        set_condition(
            crd,
            condition("Established", "False", "NotAccepted", "not all names are accepted", time),
        );
    })
    .await
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, time: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time})
}

async fn write_status(
    registry: &Registry,
    kind: &Arc<Kind>,
    crd: &Value,
    change: impl Fn(&mut Value, &str) + Send + Sync,
) -> Result<(), Status> {
    let cx = registry.own_context();
    let time = apimachinery::time::format(cx.now);
    let name = meta::name(crd);
    let target = Target { kind, namespace: "", name, part: Part::Status, conditional: false, applied: false };
    let changed = registry.modify(&cx, target, |old| {
        let mut new = old.clone();
        change(&mut new, &time);
        Ok(new)
    });
    changed.await.map(|_| ())
}

/// Lets the definition go: its objects are gone.
async fn release(registry: &Registry, kind: &Arc<Kind>, crd: &Value) -> Result<(), Status> {
    let cx = registry.own_context();
    let name = meta::name(crd);
    let target = Target { kind, namespace: "", name, part: Part::Whole, conditional: false, applied: false };
    let changed = registry.modify(&cx, target, |old| {
        let mut new = old.clone();
        meta::remove_finalizer(&mut new, CLEANUP);
        Ok(new)
    });
    changed.await.map(|_| ())
}
