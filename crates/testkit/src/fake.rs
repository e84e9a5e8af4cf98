//! The HTTP half of the fake.

use crate::route::{Kind, Route, built_in, discovery, parse};
use crate::state::{Key, Logged, Refusal, State, TERMINATING};
use bytes::Bytes;
use client::{Ambient, Body, Client};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

type Query = BTreeMap<String, String>;
type Page = (Vec<(Key, Value)>, Value);
type Stream = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// An API server in memory, for tests. Clones are the same server.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    /// Watches end when this moves.
    hung_up: Arc<watch::Sender<u64>>,
    ambient: Ambient,
}

impl FakeApi {
    /// An empty server that serves the kinds which controllers look at.
    pub fn new(ambient: Ambient) -> Self {
        let state = State { kinds: built_in(), ..State::default() };
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::new(watch::Sender::new(0)),
            hung_up: Arc::new(watch::Sender::new(0)),
            ambient,
        }
    }

    /// A client of it. Needs a tokio runtime.
    pub fn client(&self) -> Client {
        let api = self.clone();
        client::transport::in_memory(tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.handle(request).await) }
        }))
    }

    /// Serves a kind from now on, with the objects that it had in another version.
    pub fn serve(&self, kind: Kind) {
        let mut state = self.state();
        state.kinds.retain(|served| served.group != kind.group || served.plural != kind.plural);
        state.kinds.push(kind);
    }

    /// Forgets a kind and its objects.
    pub fn withdraw(&self, plural: &str) {
        let mut state = self.state();
        state.kinds.retain(|kind| kind.plural != plural);
        state.objects.retain(|key, _| key.1 != plural);
    }

    /// Refuses requests with this method for this plural, until [`FakeApi::accept`].
    pub fn refuse(&self, method: &str, plural: &str, code: u16, reason: &'static str, message: &str) {
        let refusal = (code, reason, message.to_owned());
        self.state().refusals.push((method.to_owned(), plural.to_owned(), refusal));
    }

    /// Refuses nothing any more.
    pub fn accept(&self) {
        self.state().refusals.clear();
    }

    /// Forgets history: a watch from an earlier revision is answered with 410.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.revision;
        state.log.clear();
    }

    /// Ends every watch.
    pub fn hang_up(&self) {
        self.hung_up.send_modify(|count| *count += 1);
    }

    /// How many requests had this method (`WATCH` and `LIST` count apart from `GET`) and plural.
    pub fn requests(&self, method: &str, plural: &str) -> usize {
        self.state().requests.get(&format!("{method} {plural}")).copied().unwrap_or(0)
    }

    /// Every object of a kind, as stored.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        self.state()
            .objects
            .iter()
            .filter(|(key, _)| key.1 == plural)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Waits until what is stored satisfies a condition; for tests, which have their own time limit.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(self) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handle(&self, request: Request<Body>) -> Response<Stream> {
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => Bytes::new(),
        };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let query: Query = parts.uri.query().map(parse_query).unwrap_or_default();
        let accept = parts
            .headers
            .get(http::header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .unwrap_or_default();
        let partial = accept.contains("PartialObjectMetadata");
        let path = parts.uri.path();
        let kinds = self.state().kinds.clone();
        let Some(route) = parse(path, &kinds) else {
            return match discovery(path, &kinds) {
                Some(_)
                    if accept.contains("APIGroupDiscoveryList") && !accept.contains("application/json,") =>
                {
                    refused(&(406, "NotAcceptable", "only the plain form".to_owned()))
                }
                Some(document) => answer(StatusCode::OK, &document),
                None => refused(&(404, "NotFound", format!("nothing at {path}"))),
            };
        };
        let watching = query.get("watch").is_some_and(|watch| watch == "true");
        let method = match (parts.method.as_str(), &route.name) {
            ("GET", None) if watching => "WATCH",
            ("GET", None) => "LIST",
            (method, _) => method,
        };
        {
            let mut state = self.state();
            *state.requests.entry(format!("{method} {}", route.kind.plural)).or_default() += 1;
            let refusal =
                state.refusals.iter().find(|(m, plural, _)| m == method && *plural == route.kind.plural);
            if let Some((_, _, refusal)) = refusal {
                return refused(refusal);
            }
        }
        match method {
            "WATCH" => self.watch(&route, &query, partial),
            "LIST" => self.list(&route, &query, partial),
            "DELETE" if route.name.is_none() => self.delete_some(&route, &query, &body),
            _ => self.write(method, &route, &body),
        }
    }

    fn now(&self) -> String {
        self.ambient.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn delete_some(&self, route: &Route, query: &Query, body: &Value) -> Response<Stream> {
        let now = self.now();
        let mut state = self.state();
        let (chosen, metadata) = match state.page(route, query) {
            Ok(page) => page,
            Err(refusal) => return refused(&refusal),
        };
        for (namespace, name) in chosen.iter().map(|(key, _)| (key.2.clone(), key.3.clone())) {
            let _ = state.delete(&Route { namespace, name: Some(name), ..route.copy() }, body, &now);
        }
        let revision = state.revision;
        drop(state);
        self.changed.send_replace(revision);
        listed(route, metadata, chosen.into_iter().map(|(_, object)| object).collect())
    }

    fn write(&self, method: &str, route: &Route, body: &Value) -> Response<Stream> {
        let now = self.now();
        let mut state = self.state();
        let outcome = match (method, route.subresource.as_deref()) {
            ("GET", _) => state.get(route),
            ("POST", Some("binding")) => state.bind(route, body),
            ("POST", _) => {
                let (uid, suffix) = (self.ambient.random.uid(), self.ambient.random.suffix(5));
                state.create(route, body.clone(), uid, &suffix, &now)
            }
            ("PUT", _) => state.replace(route, body.clone()),
            ("PATCH", _) => state.patch(route, body),
            ("DELETE", _) => state.delete(route, body, &now),
            _ => Err((405, "MethodNotAllowed", method.to_owned())),
        };
        let revision = state.revision;
        drop(state);
        self.changed.send_replace(revision);
        match outcome {
            Ok(object) => {
                answer(if method == "POST" { StatusCode::CREATED } else { StatusCode::OK }, &object)
            }
            Err(refusal) => refused(&refusal),
        }
    }

    fn list(&self, route: &Route, query: &Query, partial: bool) -> Response<Stream> {
        match self.state().page(route, query) {
            Ok((page, metadata)) => {
                let items = page.iter().map(|(_, object)| shaped(object, partial)).collect();
                listed(route, metadata, items)
            }
            Err(refusal) => refused(&refusal),
        }
    }

    fn watch(&self, route: &Route, query: &Query, partial: bool) -> Response<Stream> {
        let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        if from < self.state().compacted {
            let gone = json!({ "type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
                "message": "too old resource version",
            }});
            let line = futures::stream::iter([Ok(Frame::data(Bytes::from(format!("{gone}\n"))))]);
            return Response::new(StreamBody::new(line.boxed()));
        }
        let api = self.clone();
        let (route, query) = (route.copy(), query.clone());
        let state = (from, self.changed.subscribe(), self.hung_up.subscribe());
        let events = futures::stream::unfold(state, move |(mut from, mut changed, mut hung_up)| {
            let (api, route, query) = (api.clone(), route.copy(), query.clone());
            async move {
                loop {
                    changed.mark_unchanged();
                    let (lines, reached) = api.since(from, &route, &query, partial);
                    from = reached;
                    if !lines.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(lines))), (from, changed, hung_up)));
                    }
                    tokio::select! {
                        changed = changed.changed() => changed.ok()?,
                        _ = hung_up.changed() => return None,
                    }
                }
            }
        });
        Response::new(StreamBody::new(events.boxed()))
    }

    fn since(&self, from: u64, route: &Route, query: &Query, partial: bool) -> (String, u64) {
        let state = self.state();
        let start = state.log.partition_point(|logged| logged.revision <= from);
        let mut lines = String::new();
        for Logged { what, key, object, .. } in &state.log[start..] {
            if selects(route, query, key, object) {
                lines.push_str(&json!({ "type": what, "object": shaped(object, partial) }).to_string());
                lines.push('\n');
            }
        }
        (lines, state.revision)
    }
}

impl State {
    /// One page of a list, and the list's metadata. A continued list shows what is there now under the first page's
    /// revision, from which a watch tells the difference.
    fn page(&self, route: &Route, query: &Query) -> Result<Page, Refusal> {
        let given = |name: &str| query.get(name).filter(|value| !value.is_empty());
        let limit = given("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let (revision, after) = match given("continue").map(|token| token.splitn(3, '/').collect::<Vec<_>>())
        {
            None => (self.revision, None),
            Some(parts) => match parts[..] {
                [revision, namespace, name] => {
                    (revision.parse().unwrap_or(0), Some((namespace.to_owned(), name.to_owned())))
                }
                _ => return Err((400, "BadRequest", "continue key is not valid".to_owned())),
            },
        };
        if revision < self.compacted {
            return Err((410, "Expired", "the provided continue parameter is too old".to_owned()));
        }
        let mut rest = self
            .objects
            .iter()
            .filter(|(key, object)| selects(route, query, key, object))
            .filter(|(key, _)| after.as_ref().is_none_or(|(ns, name)| (&key.2, &key.3) > (ns, name)));
        let page: Vec<_> =
            rest.by_ref().take(limit).map(|(key, object)| (key.clone(), object.clone())).collect();
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        let remaining = rest.count();
        if let Some((last, _)) = page.last().filter(|_| remaining > 0) {
            metadata["continue"] = json!(format!("{revision}/{}/{}", last.2, last.3));
            metadata["remainingItemCount"] = json!(remaining);
        }
        Ok((page, metadata))
    }
}

impl Route {
    fn copy(&self) -> Self {
        Self {
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            subresource: self.subresource.clone(),
        }
    }
}

fn selects(route: &Route, query: &Query, key: &Key, object: &Value) -> bool {
    let kind = key.0 == route.kind.group && key.1 == route.kind.plural;
    let namespace = route.namespace.is_empty() || key.2 == route.namespace;
    let fields = query.get("fieldSelector").is_none_or(|selector| {
        selector.split(',').filter(|term| !term.is_empty()).all(|term| {
            let (path, wanted) = term.split_once('=').unwrap_or((term, ""));
            let found = path.split('.').fold(object, |value, part| &value[part]).as_str().unwrap_or_default();
            match path.strip_suffix('!') {
                Some(path) => {
                    path.split('.').fold(object, |v, part| &v[part]).as_str().unwrap_or_default() != wanted
                }
                None => found == wanted.trim_start_matches('='),
            }
        })
    });
    let labels = query.get("labelSelector").is_none_or(|selector| {
        selector.split(',').filter(|term| !term.is_empty()).all(|term| {
            let (name, wanted) = term.split_once('=').unwrap_or((term, ""));
            let label = |name: &str| object["metadata"]["labels"][name].as_str();
            match name.strip_suffix('!') {
                Some(name) => label(name) != Some(wanted),
                None if term.contains('=') => label(name) == Some(wanted.trim_start_matches('=')),
                None => label(name).is_some(),
            }
        })
    });
    kind && namespace && fields && labels
}

fn listed(route: &Route, metadata: Value, items: Vec<Value>) -> Response<Stream> {
    let kind = format!("{}List", route.kind.kind);
    let list = json!({
        "kind": kind, "apiVersion": route.kind.api_version(), "metadata": metadata, "items": items,
    });
    answer(StatusCode::OK, &list)
}

fn shaped(object: &Value, partial: bool) -> Value {
    if partial {
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
    } else {
        object.clone()
    }
}

fn parse_query(query: &str) -> Query {
    let decode = |text: &str| {
        let coded = [("%3D", "="), ("%2C", ","), ("%21", "!"), ("%2F", "/")];
        coded.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn answer(code: StatusCode, document: &Value) -> Response<Stream> {
    let line = futures::stream::iter([Ok(Frame::data(Bytes::from(document.to_string())))]);
    let mut response = Response::new(StreamBody::new(line.boxed()));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn refused((code, reason, message): &Refusal) -> Response<Stream> {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "reason": reason, "message": message,
    });
    if message.ends_with(TERMINATING) {
        status["details"] = json!({ "causes": [{ "reason": "NamespaceTerminating", "message": message }] });
    }
    answer(StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &status)
}
