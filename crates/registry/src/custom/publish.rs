//! The loop that makes definitions served: it checks their names, serves their kinds, says so in their status, and takes
//! them away again, objects first.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use apimachinery::meta;
use apimachinery::status::Status;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::kinds::{fits, kinds_of, resource_of};
use crate::bind::set_condition;
use crate::cache::Command;
use crate::modify::Target;
use crate::resource::Resource;
use crate::tree::{items, object, text};
use crate::{AdmitAll, DeleteOptions, Kind, Kinds, ListOptions, Part, Registry, RequestContext, WatchStream};

/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How often objects that are slow to go are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Pause before a definition that could not be handled is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// A definition that is served.
struct Served {
    uid: String,
    generation: i64,
    terminating: bool,
    resource: Arc<Resource>,
    kinds: Vec<Arc<Kind>>,
}

/// All served definitions, by name.
pub(crate) struct CustomKinds {
    registry: Weak<Registry>,
    builtin: Vec<Arc<Kind>>,
    served: BTreeMap<String, Served>,
}

impl CustomKinds {
    pub(crate) fn new(registry: &Arc<Registry>) -> Self {
        let builtin = registry.kinds().all().to_vec();
        Self { registry: Arc::downgrade(registry), builtin, served: BTreeMap::new() }
    }

    /// Handles every definition once: what was served before a restart is served before the first request.
    pub(crate) async fn sync_all(&mut self) {
        self.sweep(true).await;
    }

    /// Follows the definitions until the registry is gone. What fails is tried again, as is what takes its time.
    pub(crate) async fn run(mut self) {
        loop {
            let Some(registry) = self.registry.upgrade() else { return };
            let clock = registry.options.clock.clone();
            let Ok(mut watch) = begin(&registry).await else { return };
            drop(registry);
            let mut busy = self.sweep(false).await;
            loop {
                let pause = if busy { LOOK_AGAIN } else { Duration::MAX };
                tokio::select! {
                    event = watch.next() => match event {
                        Some(event) => {
                            let name = event.object().map(|object| meta::name(&object.tree()).to_owned());
                            if let Some(name) = name {
                                busy |= self.handle(&name).await;
                            }
                        }
                        None => break,
                    },
                    () = clock.sleep(pause) => busy = self.sweep(false).await,
                }
            }
            clock.sleep(TRY_AGAIN).await;
        }
    }

    /// Handles all definitions, and those that are served but gone. True if any needs to be looked at again.
    async fn sweep(&mut self, only_established: bool) -> bool {
        let Some(registry) = self.registry.upgrade() else { return false };
        let kinds = registry.kinds();
        let Some(definitions) = definitions(&kinds) else { return false };
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
        let mut busy = false;
        for name in names {
            busy |= self.handle(&name).await;
        }
        busy
    }

    /// Brings one definition forward. True if it needs to be looked at again.
    async fn handle(&mut self, name: &str) -> bool {
        let Some(registry) = self.registry.upgrade() else { return false };
        match self.step(&registry, name).await {
            Ok(busy) => busy,
            Err(status) => {
                warn!(definition = name, %status, "a custom resource definition could not be handled; trying again");
                true
            }
        }
    }

    async fn step(&mut self, registry: &Arc<Registry>, name: &str) -> Result<bool, Status> {
        let kinds = registry.kinds();
        let Some(definitions) = definitions(&kinds) else { return Ok(false) };
        let Ok(item) = registry.item(definitions, "", name) else {
            self.withdraw(registry, name).await;
            return Ok(false);
        };
        let crd = item.tree()?;
        if self.served.get(name).is_some_and(|served| served.uid != meta::uid(&crd)) {
            self.withdraw(registry, name).await;
        }
        if let Some(conflict) = self.conflict(&crd).filter(|_| !is_established(&crd)) {
            refuse(registry, definitions, &crd, conflict).await?;
            return Ok(true);
        }
        let terminating = meta::is_deleting(&crd);
        self.serve(registry, name, &crd, terminating).await?;
        if !terminating {
            accept(registry, definitions, &crd).await?;
            return Ok(false);
        }
        if !meta::finalizers(&crd).any(|finalizer| finalizer == CLEANUP) {
            return Ok(false);
        }
        let cleaned = self.clean(registry, name).await?;
        if cleaned {
            release(registry, definitions, &crd).await?;
        }
        Ok(!cleaned)
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
        let kinds = kinds_of(crd, &resource, terminating);
        let uid = meta::uid(crd).to_owned();
        self.served.insert(name.to_owned(), Served { uid, generation, terminating, resource, kinds });
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
        let custom = self.served.values().flat_map(|served| served.kinds.iter().cloned());
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
            .flat_map(|(_, served)| &served.kinds)
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

    /// Deletes all objects of a definition. True once none is left.
    async fn clean(&self, registry: &Arc<Registry>, name: &str) -> Result<bool, Status> {
        let Some(served) = self.served.get(name) else { return Ok(true) };
        if let Some(kind) = served.kinds.first() {
            let (list, options) = (ListOptions::default(), DeleteOptions::default());
            registry.delete_many(&own_context(registry), kind, "", &list, &options).await?;
        }
        Ok(served.resource.hub.view().items.is_empty())
    }
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

/// The registry's own writes about its own kinds pass no admission: there is nobody to judge.
fn own_context(registry: &Registry) -> RequestContext {
    RequestContext::new(registry.options.clock.now(), Arc::new(AdmitAll))
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
    let cx = own_context(registry);
    let time = apimachinery::time::format(cx.now);
    let name = meta::name(crd);
    let target = Target { kind, namespace: "", name, part: Part::Status, conditional: false };
    let changed = registry.modify(&cx, target, |old| {
        let mut new = old.clone();
        change(&mut new, &time);
        Ok(new)
    });
    changed.await.map(|_| ())
}

/// Lets the definition go: its objects are gone.
async fn release(registry: &Registry, kind: &Arc<Kind>, crd: &Value) -> Result<(), Status> {
    let cx = own_context(registry);
    let target = Target { kind, namespace: "", name: meta::name(crd), part: Part::Whole, conditional: false };
    let changed = registry.modify(&cx, target, |old| {
        let mut new = old.clone();
        meta::remove_finalizer(&mut new, CLEANUP);
        Ok(new)
    });
    changed.await.map(|_| ())
}
