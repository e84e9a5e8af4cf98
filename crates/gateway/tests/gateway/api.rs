//! An API server of a few maps: lists, watches, patches of status, and events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use client::{Body, Client};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::sync::watch;

type Key = (String, String, String);
type ReplyBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    /// Watch events by plural, with their revision.
    log: Vec<(u64, String, Value)>,
    events: Vec<Value>,
    down: bool,
}

/// See the module. Clones are the same server.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl FakeApi {
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        client::transport::in_memory(tower::service_fn(move |request| {
            let api = api.clone();
            async move { api.answer(request).await }
        }))
    }

    /// Whether it can be reached.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
        self.changed.send_modify(|changed| *changed += 1);
    }

    /// Creates an object or changes its spec.
    pub fn apply(&self, plural: &str, namespace: &str, name: &str, spec: Value) {
        let state = self.state();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let kind = if plural == "components" { "Component" } else { "KeyValueStore" };
        let number = state.revision;
        let mut object = state.objects.get(&key).cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "monoplane.dev/v1alpha1",
                "kind": kind,
                "metadata": {
                    "namespace": namespace, "name": name, "generation": 0, "uid": format!("uid-{number}"),
                    "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", number % 60),
                },
            })
        });
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        object["metadata"]["generation"] = json!(generation);
        object["spec"] = spec;
        let kind = if generation == 1 { "ADDED" } else { "MODIFIED" };
        self.put(state, key, object, kind);
    }

    /// Creates an object of any kind, or replaces it.
    pub fn place(&self, plural: &str, mut object: Value) {
        let state = self.state();
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), text("namespace"), text("name"));
        let before = state.objects.get(&key).map(|known| known["metadata"].clone());
        let kind = if before.is_none() { "ADDED" } else { "MODIFIED" };
        let meta = &mut object["metadata"];
        let number = state.revision;
        let known = before.unwrap_or_else(|| {
            json!({ "generation": 0, "uid": format!("uid-{number}"),
            "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", number % 60) })
        });
        meta["uid"] = known["uid"].clone();
        meta["creationTimestamp"] = known["creationTimestamp"].clone();
        meta["generation"] = json!(known["generation"].as_i64().unwrap_or(0) + 1);
        self.put(state, key, object, kind);
    }

    /// An object as it is now.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Value {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.state().objects.get(&key).cloned().unwrap_or_default()
    }

    /// Messages of the events of a reason so far.
    pub fn messages(&self, reason: &str) -> Vec<String> {
        let state = self.state();
        let of = state.events.iter().filter(|event| event["reason"] == reason);
        of.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        if let Some(object) = state.objects.remove(&key) {
            state.revision += 1;
            let revision = state.revision;
            state.log.push((revision, key.0, json!({ "type": "DELETED", "object": object })));
            drop(state);
            self.changed.send_modify(|changed| *changed += 1);
        }
    }

    /// Reasons of the events so far.
    pub fn reasons(&self) -> Vec<String> {
        let text = |event: &Value| event["reason"].as_str().unwrap_or_default().to_owned();
        self.state().events.iter().map(text).collect()
    }

    /// Waits until an object's Ready condition has a reason.
    pub async fn until(&self, plural: &str, namespace: &str, name: &str, reason: &str) -> Value {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut changed = self.changed.subscribe();
        loop {
            let object = self.state().objects.get(&key).cloned().unwrap_or_default();
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if current && object["status"]["conditions"][0]["reason"] == reason {
                return object;
            }
            let waited = tokio::time::timeout(std::time::Duration::from_secs(60), changed.changed()).await;
            assert!(waited.is_ok(), "{name} never became {reason}: {}", object["status"]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut state: MutexGuard<'_, State>, key: Key, mut object: Value, kind: &str) {
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        state.log.push((revision, key.0.clone(), json!({ "type": kind, "object": object })));
        state.objects.insert(key, object);
        drop(state);
        self.changed.send_modify(|changed| *changed += 1);
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<ReplyBody>, std::io::Error> {
        if self.state().down {
            return Err(std::io::Error::other("the API is away"));
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path: Vec<String> = head.uri.path().trim_matches('/').split('/').map(str::to_owned).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query = head.uri.query().unwrap_or_default();
        Ok(match (&head.method, path.as_slice()) {
            (
                &Method::GET,
                ["apis", _, _, plural] | ["api", _, plural] | ["api", _, "namespaces", _, plural],
            ) => {
                let named =
                    query.split('&').find_map(|part| part.strip_prefix("fieldSelector=metadata.name%3D"));
                // One is asked for by name within its namespace, the others all together.
                let named = named.map(|name| (path[3].to_owned(), name.to_owned()));
                if query.contains("watch=true") {
                    let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
                    self.watch(plural, named, from.and_then(|from| from.parse().ok()).unwrap_or(0))
                } else {
                    self.list(plural, named)
                }
            }
            (&Method::PATCH, ["apis", _, _, "namespaces", namespace, plural, name, "status"]) => {
                self.patch_status(plural, namespace, name, &sent)
            }
            (&Method::POST, ["api", "v1", "namespaces", _, "events"]) => {
                self.state().events.push(sent.clone());
                whole(StatusCode::CREATED, &sent)
            }
            _ => not_found(),
        })
    }

    fn list(&self, plural: &str, named: Option<(String, String)>) -> Response<ReplyBody> {
        let state = self.state();
        let of = state.objects.iter().filter(|((found, namespace, name), _)| {
            found == plural && named.as_ref().is_none_or(|named| (&named.0, &named.1) == (namespace, name))
        });
        let items: Vec<_> = of.map(|(_, object)| object.clone()).collect();
        let list = json!({
            "apiVersion": "monoplane.dev/v1alpha1", "kind": "List",
            "metadata": { "resourceVersion": state.revision.to_string() }, "items": items,
        });
        whole(StatusCode::OK, &list)
    }

    fn watch(&self, plural: &str, named: Option<(String, String)>, from: u64) -> Response<ReplyBody> {
        let start = (self.clone(), (plural.to_owned(), named), from, self.changed.subscribe());
        let events = futures::stream::unfold(start, |(api, (plural, named), seen, mut changed)| async move {
            let is_wanted = |event: &Value| {
                let meta = &event["object"]["metadata"];
                named.as_ref().is_none_or(|(namespace, name)| {
                    meta["namespace"] == **namespace && meta["name"] == **name
                })
            };
            loop {
                {
                    let state = api.state();
                    if state.down {
                        return None;
                    }
                    let of_it = |(at, of, event): &&(u64, String, Value)| {
                        *at > seen && *of == plural && is_wanted(event)
                    };
                    let next = state.log.iter().find(of_it).cloned();
                    drop(state);
                    if let Some((at, _, event)) = next {
                        let line = Bytes::from(format!("{event}\n"));
                        return Some((Ok(Frame::data(line)), (api, (plural, named), at, changed)));
                    }
                }
                changed.changed().await.ok()?;
            }
        });
        Response::new(StreamBody::new(events.boxed()))
    }

    fn patch_status(&self, plural: &str, namespace: &str, name: &str, patch: &Value) -> Response<ReplyBody> {
        let state = self.state();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(mut object) = state.objects.get(&key).cloned() else { return not_found() };
        if let Some(fields) = patch["status"].as_object() {
            for (field, value) in fields {
                object["status"][field] = value.clone();
            }
        }
        self.put(state, key, object.clone(), "MODIFIED");
        whole(StatusCode::OK, &object)
    }
}

fn not_found() -> Response<ReplyBody> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "none",
    });
    whole(StatusCode::NOT_FOUND, &status)
}

fn whole(status: StatusCode, body: &Value) -> Response<ReplyBody> {
    let bytes = Bytes::from(body.to_string());
    let once = futures::stream::once(async move { Ok(Frame::data(bytes)) });
    let mut reply = Response::new(StreamBody::new(once.boxed()));
    *reply.status_mut() = status;
    reply
}
