//! Group versions that other servers serve: an APIService names the Service behind which such a server is, and requests go
//! there under the name of whoever asks.
//!
//! Owns: the table of these servers, which follows the stored APIServices; whether each is there (`availability`), what it
//! serves (`fetched`), the way of a request to it (`proxy`); the APIServices of what this server serves itself
//! (`registration`); and those that parts of this process serve (`extension`), which stand back when their APIService names
//! somebody else. Begin with [`Aggregation`].

mod availability;
mod extension;
mod fetched;
pub(crate) mod proxy;
mod registration;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::meta;
use apimachinery::status::Status;
use arc_swap::ArcSwap;
use clock::{Clock, Tasks};
use http::{Request, Response};
use http_body_util::{BodyDataStream, BodyExt};
use registry::{Kind, ListOptions, Object, Registry, ResourceVersionMatch, WatchEvent};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::body::{Body, Sending};
use crate::outgoing::{Outgoing, Place, SendError, Server, Trust};
pub use extension::Extension;
pub(crate) use fetched::Fetched;

/// Pause before the APIServices are followed again after that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Who serves a group version.
#[derive(Clone, PartialEq)]
pub(crate) enum By {
    /// Another server.
    Server(Server),
    /// A part of this process.
    Extension(Extension),
}

/// A group version that this server passes on.
#[derive(Clone)]
pub(crate) struct Remote {
    /// The APIService's name.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) by: By,
    /// Whether it was found to be there.
    pub(crate) available: bool,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    /// What it serves, as it said last.
    pub(crate) fetched: Option<Arc<Fetched>>,
}

/// All of them, by group and version.
#[derive(Default)]
pub(crate) struct Table {
    /// Grows with every change.
    pub(crate) generation: u64,
    remotes: BTreeMap<(String, String), Remote>,
}

impl Table {
    /// Who serves this group version, if it is somebody else.
    pub(crate) fn remote(&self, group: &str, version: &str) -> Option<&Remote> {
        if self.remotes.is_empty() {
            return None;
        }
        self.remotes.get(&(group.to_owned(), version.to_owned()))
    }

    /// Whether one of them has said that it serves this resource.
    pub(crate) fn serves(&self, group: &str, version: &str, resource: &str) -> bool {
        let fetched = self.remote(group, version).and_then(|remote| remote.fetched.as_ref());
        fetched.is_some_and(|fetched| fetched.resources.iter().any(|each| each["name"] == *resource))
    }

    /// Who serves this path.
    pub(crate) fn of_path(&self, path: &str) -> Option<&Remote> {
        let rest = path.strip_prefix("/openapi/v3").unwrap_or(path).strip_prefix("/apis/")?;
        let (group, rest) = rest.split_once('/')?;
        self.remote(group, rest.split('/').next().unwrap_or_default())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Remote> {
        self.remotes.values()
    }

    /// Those of a group.
    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Remote> {
        self.all().filter(move |remote| remote.group == group)
    }
}

/// Follows the APIServices.
#[derive(Default)]
pub(crate) struct Aggregation {
    table: ArcSwap<Table>,
    /// What parts of this process serve.
    extensions: watch::Sender<Vec<Extension>>,
    /// Held while the table is changed.
    changing: Mutex<()>,
}

impl Aggregation {
    /// The table as it is now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Has a part of this process serve a group version from now on, unless its APIService says otherwise.
    pub(crate) fn extend(&self, extension: Extension) {
        self.extensions.send_modify(|extensions| extensions.push(extension));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<(String, String), Remote>)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.table.load();
        let mut remotes = known.remotes.clone();
        change(&mut remotes);
        self.table.store(Arc::new(Table { generation: known.generation + 1, remotes }));
    }

    /// Follows the registry until the tasks are stopped.
    pub(crate) fn follow(
        self: &Arc<Self>,
        registry: &Arc<Registry>,
        outgoing: &Arc<Outgoing>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
    ) {
        let following = Following {
            aggregation: self.clone(),
            registry: registry.clone(),
            outgoing: outgoing.clone(),
            clock: clock.clone(),
            tasks: tasks.child(),
            checked: BTreeMap::new(),
        };
        tasks.spawn("aggregation", following.run());
    }
}

/// The task that follows the APIServices, and keeps one more for each server that is checked.
struct Following {
    aggregation: Arc<Aggregation>,
    registry: Arc<Registry>,
    outgoing: Arc<Outgoing>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    /// What ends the check of each APIService, and what is checked.
    checked: BTreeMap<String, (CancellationToken, By)>,
}

impl Following {
    async fn run(mut self) {
        loop {
            if let Err(status) = self.follow().await {
                tracing::warn!(%status, "APIServices cannot be followed");
            }
            self.clock.sleep(AGAIN).await;
        }
    }

    /// One watch, from the first object to the end of the stream.
    async fn follow(&mut self) -> Result<(), Status> {
        let mut kinds_changed = self.registry.kinds_changed();
        let mut extended = self.aggregation.extensions.subscribe();
        let kinds = self.registry.kinds();
        let kind = kind_of(&kinds).ok_or_else(Status::no_such_path)?;
        let options = ListOptions {
            allow_bookmarks: true,
            send_initial_events: true,
            resource_version_match: Some(ResourceVersionMatch::NotOlderThan),
            ..ListOptions::default()
        };
        let mut events = self.registry.watch(kind, "", &options).await?;
        let mut initial = Some(Vec::new());
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    None => return Ok(()),
                    Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => match &mut initial {
                        Some(objects) => objects.push(object),
                        None => self.take_in(&object),
                    },
                    Some(WatchEvent::Deleted(object)) => match &mut initial {
                        Some(objects) => objects.retain(|known| known.names() != object.names()),
                        None => self.let_go(&object.names().1),
                    },
                    Some(WatchEvent::Bookmark { initial_events_end: true, .. }) => {
                        self.replace(initial.take().unwrap_or_default());
                    }
                    Some(WatchEvent::Bookmark { .. }) => continue,
                    Some(WatchEvent::Failed(status)) => return Err(*status),
                },
                changed = kinds_changed.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                Ok(()) = extended.changed() => if initial.is_none() {
                    self.take_in_extended(kind);
                },
            }
            if initial.is_none() {
                let extensions = extended.borrow_and_update().clone();
                registration::reconcile(&self.registry, kind, &extensions, self.clock.now()).await;
            }
        }
    }

    fn replace(&mut self, objects: Vec<Object>) {
        let names: Vec<String> = objects.iter().map(|object| object.names().1).collect();
        let gone: Vec<String> = self.checked.keys().filter(|name| !names.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.let_go(name));
        objects.iter().for_each(|object| self.take_in(object));
    }

    fn let_go(&mut self, name: &str) {
        if let Some((check, _)) = self.checked.remove(name) {
            check.cancel();
            self.aggregation.change(|remotes| remotes.retain(|_, remote| remote.name != name));
        }
    }

    /// Looks again at the APIServices of what parts of this process serve.
    fn take_in_extended(&mut self, kind: &Kind) {
        let extensions = self.aggregation.extensions.borrow().clone();
        for extension in extensions {
            if let Some(object) = self.registry.known(kind, "", &extension.name()) {
                self.take_in(&object);
            }
        }
    }

    fn take_in(&mut self, object: &Object) {
        let tree = object.tree();
        let name = meta::name(&tree).to_owned();
        let remote = Remote::of(&tree, &self.aggregation.extensions.borrow());
        let Some(remote) = remote else {
            self.let_go(&name);
            return;
        };
        let by = remote.by.clone();
        self.aggregation.change(|remotes| {
            let key = (remote.group.clone(), remote.version.clone());
            let fetched = remotes.get(&key).filter(|known| known.by == remote.by);
            let fetched = fetched.and_then(|known| known.fetched.clone());
            remotes.insert(key, Remote { fetched, ..remote });
        });
        if self.checked.get(&name).is_some_and(|(_, known)| *known == by) {
            return;
        }
        let check = self.tasks.token().child_token();
        if let Some((former, _)) = self.checked.insert(name.clone(), (check.clone(), by)) {
            former.cancel();
        }
        let checker = availability::Checker {
            name,
            aggregation: self.aggregation.clone(),
            registry: self.registry.clone(),
            outgoing: self.outgoing.clone(),
            clock: self.clock.clone(),
        };
        self.tasks.spawn("availability of an APIService", async move {
            check.run_until_cancelled(checker.run()).await;
        });
    }
}

fn kind_of(kinds: &registry::Kinds) -> Option<&Arc<Kind>> {
    kinds.lookup("apiregistration.k8s.io", "v1", "apiservices")
}

impl Remote {
    /// What an APIService describes; `None` where it is this server's own.
    fn of(service: &Value, extensions: &[Extension]) -> Option<Self> {
        let spec = &service["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, version) = (text(&spec["group"]), text(&spec["version"]));
        let by = match spec.get("service").filter(|at| at.is_object()) {
            Some(at) => By::Server(Self::server(spec, at)?),
            None => {
                let mut here = extensions.iter().filter(|each| each.serves(&group, &version));
                By::Extension(here.next_back()?.clone())
            }
        };
        let conditions = service["status"]["conditions"].as_array();
        let available = conditions.into_iter().flatten().find(|condition| condition["type"] == "Available");
        Some(Self {
            name: meta::name(service).to_owned(),
            group,
            version,
            by,
            available: available.is_some_and(|condition| condition["status"] == "True"),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            fetched: None,
        })
    }

    /// Where an APIService says that its server is.
    fn server(spec: &Value, at: &Value) -> Option<Server> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let port = at["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let trust = match spec["insecureSkipTLSVerify"].as_bool() {
            Some(true) => Trust::Anything,
            _ => Trust::of_bundle(spec["caBundle"].as_str().unwrap_or_default()).ok()?,
        };
        let place = Place::Service { namespace: text(&at["namespace"]), name: text(&at["name"]), port };
        Some(Server { place, trust, shown_who: true })
    }

    /// Whether and how a request is answered. The caller bounds how long the answer's head may take.
    async fn send(
        &self,
        outgoing: &Outgoing,
        request: Request<Sending>,
    ) -> Result<Response<Body>, SendError> {
        match &self.by {
            By::Extension(extension) => Ok(extension.answer(request).await),
            By::Server(server) => {
                let response = outgoing.send(server, request).await?;
                Ok(response.map(|body| Body::stream(BodyDataStream::new(body.map_err(Into::into)))))
            }
        }
    }

    /// Namespace, name and port of the Service that its server is behind.
    fn service(&self) -> Option<(&str, &str, u16)> {
        match &self.by {
            By::Server(Server { place: Place::Service { namespace, name, port }, .. }) => {
                Some((namespace, name, *port))
            }
            _ => None,
        }
    }

    /// Its path there, for people.
    fn url(&self, path: &str) -> String {
        match &self.by {
            By::Extension(_) => path.to_owned(),
            By::Server(server) => format!("https://{}{path}", server.place.authority()),
        }
    }

    /// Where its resources are told of.
    pub(crate) fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Value {
        json!({"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": true,
            "service": {"namespace": "kube-system", "name": "metrics-server", "port": 443},
            "groupPriorityMinimum": 100, "versionPriority": 100,
        }, "status": {"conditions": [{"type": "Available", "status": "True"}]}})
    }

    #[test]
    fn paths_lead_to_who_serves_them() {
        let aggregation = Aggregation::default();
        let remote = Remote::of(&service(), &[]).unwrap();
        aggregation.change(|remotes| {
            remotes.insert((remote.group.clone(), remote.version.clone()), remote);
        });
        let table = aggregation.table();
        for path in [
            "/apis/metrics.k8s.io/v1beta1",
            "/apis/metrics.k8s.io/v1beta1/",
            "/apis/metrics.k8s.io/v1beta1/nodes",
            "/openapi/v3/apis/metrics.k8s.io/v1beta1",
        ] {
            assert_eq!(table.of_path(path).unwrap().name, "v1beta1.metrics.k8s.io", "{path}");
        }
        for path in [
            "/apis/metrics.k8s.io",
            "/apis/metrics.k8s.io/v1",
            "/apis/metrics.k8s.io/v1beta10/nodes",
            "/api/v1/pods",
            "/apis",
            "/",
        ] {
            assert!(table.of_path(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_is_local_is_no_remote() {
        let mut local = service();
        local["spec"].as_object_mut().unwrap().remove("service");
        assert!(Remote::of(&local, &[]).is_none());
        let mut down = service();
        down["status"]["conditions"][0]["status"] = json!("False");
        assert!(!Remote::of(&down, &[]).unwrap().available && Remote::of(&service(), &[]).unwrap().available);
    }

    #[test]
    fn a_part_of_this_process_serves_until_somebody_else_does() {
        let extension = |version| {
            Extension::new("metrics.k8s.io", version, |_| Box::pin(async { http::Response::default() }))
        };
        let extensions = [extension("v1beta1"), extension("v1")];
        let mut service = service();
        let by = |service: &Value| Remote::of(service, &extensions).map(|remote| remote.by);
        assert!(matches!(by(&service), Some(By::Server(_))));
        service["spec"].as_object_mut().unwrap().remove("service");
        assert!(by(&service) == Some(By::Extension(extensions[0].clone())));
        service["spec"]["version"] = json!("v2");
        assert!(by(&service).is_none());
    }
}
