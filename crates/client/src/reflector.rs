//! List, then watch, for ever: how a [`Sink`] is kept equal to what the server holds.
//!
//! `kube::runtime::watcher` does the like; this loop differs where a plane of many long-lived roles needs it: it lives by
//! the [`Ambient`] clock (so that a simulation drives it), lists anew when its place is lost, however that is said, and backs off
//! when a server accepts watches and ends them at once.

use crate::{Ambient, Backoff};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::{Api, ListParams, ObjectList, ObjectMeta, WatchEvent, WatchParams};
use kube::core::{DynamicResourceScope, Request, Status};
use kube::{Error, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt::Debug;
use std::time::Duration;

const PAGE: u32 = 500;
const WATCH_SECONDS: u32 = 290;
/// A connection that died silently is noticed this long after the server should have ended the watch.
const IDLE_MARGIN: Duration = Duration::from_secs(15);
/// A watch that ends sooner without a word is a failure, not an end of term.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// What to list and watch.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A label selector.
    pub labels: Option<String>,
    /// A field selector.
    pub fields: Option<String>,
}

/// Who is told. Called from one task, in the server's order.
pub trait Sink<K>: Send {
    /// An object as it now is.
    fn apply(&mut self, object: K);
    /// An object that is gone, as it last was.
    fn delete(&mut self, object: K);
    /// A complete list follows, object by object. Said again before [`Sink::listed`], it begins anew.
    fn listing(&mut self);
    /// A complete list has been applied: what was known before it, and was not in it, is gone.
    fn listed(&mut self);
    /// Everything that happened up to a version has been told.
    fn reached(&mut self, _version: &str) {}
    /// The server could not be heard; it will be tried again. What nobody but an administrator can mend is told to people.
    fn failed(&mut self, error: &Error) {
        if matches!(error, Error::Api(status) if status.code == 403) {
            tracing::warn!(%error, "may not list or watch");
        }
    }
}

type WatchStream<K> = BoxStream<'static, Result<WatchEvent<K>, Error>>;

/// Where objects come from: all of an object, or its metadata alone.
pub trait Source: Send + Sync {
    /// What arrives.
    type Object: Resource + Send + 'static;
    /// One page of a list.
    fn list<'a>(&'a self, params: &'a ListParams) -> BoxFuture<'a, Result<ObjectList<Self::Object>, Error>>
    where
        Self::Object: Clone;
    /// Changes after a version.
    fn watch<'a>(
        &'a self,
        params: &'a WatchParams,
        version: &'a str,
    ) -> BoxFuture<'a, Result<WatchStream<Self::Object>, Error>>;
}

/// Whole objects.
pub struct Whole<K>(pub Api<K>);

/// Metadata alone, as `PartialObjectMetadata`: all that a garbage collector needs of any kind, custom ones included.
pub struct MetadataOnly<K>(pub Api<K>);

/// Of an object's metadata, who it is and what becomes of it. What is only for people to read is left out, and so is who
/// manages what: often the largest part, it would be made of each change of anything, for nobody.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// With the other members empty.
    #[serde(deserialize_with = "identity")]
    pub metadata: ObjectMeta,
}

/// Reads of an object's metadata no more than [`Metadata`] has, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// When it is not metadata.
pub fn identity<'de, D: Deserializer<'de>>(reader: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity {
        deletion_timestamp: Option<Time>,
        finalizers: Option<Vec<String>>,
        name: Option<String>,
        namespace: Option<String>,
        owner_references: Option<Vec<OwnerReference>>,
        resource_version: Option<String>,
        uid: Option<String>,
    }
    let read = Identity::deserialize(reader)?;
    Ok(ObjectMeta {
        deletion_timestamp: read.deletion_timestamp,
        finalizers: read.finalizers,
        name: read.name,
        namespace: read.namespace,
        owner_references: read.owner_references,
        resource_version: read.resource_version,
        uid: read.uid,
        ..ObjectMeta::default()
    })
}

impl Resource for Metadata {
    type DynamicType = ();
    type Scope = DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "PartialObjectMetadata".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "meta.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "partialobjectmetadatas".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<K> Source for Whole<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    type Object = K;

    fn list<'a>(&'a self, params: &'a ListParams) -> BoxFuture<'a, Result<ObjectList<K>, Error>> {
        self.0.list(params).boxed()
    }

    fn watch<'a>(
        &'a self,
        params: &'a WatchParams,
        version: &'a str,
    ) -> BoxFuture<'a, Result<WatchStream<K>, Error>> {
        async move { Ok(self.0.watch(params, version).await?.boxed()) }.boxed()
    }
}

impl<K: Resource + Clone + Send + Sync> Source for MetadataOnly<K> {
    type Object = Metadata;

    fn list<'a>(&'a self, params: &'a ListParams) -> BoxFuture<'a, Result<ObjectList<Metadata>, Error>> {
        async move {
            let request = Request::new(self.0.resource_url()).list_metadata(params);
            self.0.clone().into_client().request(request.map_err(Error::BuildRequest)?).await
        }
        .boxed()
    }

    fn watch<'a>(
        &'a self,
        params: &'a WatchParams,
        version: &'a str,
    ) -> BoxFuture<'a, Result<WatchStream<Metadata>, Error>> {
        async move {
            let request = Request::new(self.0.resource_url()).watch_metadata(params, version);
            let client = self.0.clone().into_client();
            Ok(client.request_events::<Metadata>(request.map_err(Error::BuildRequest)?).await?.boxed())
        }
        .boxed()
    }
}

/// Keeps `sink` equal to what `source` holds, until dropped.
pub async fn reflect<S>(source: S, selection: Selection, sink: &mut impl Sink<S::Object>, ambient: &Ambient)
where
    S: Source,
    S::Object: Clone,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    let mut version = None;
    loop {
        let outcome = match version.take() {
            None => list(&source, &selection, sink).await.map(Some),
            Some(from) => watch(&source, &selection, sink, from, &mut backoff, ambient).await,
        };
        match outcome {
            Ok(reached) => {
                version = reached;
                continue;
            }
            Err(Interrupted { error, reached }) => {
                version = reached;
                if let Some(error) = error {
                    tracing::debug!(%error, "list or watch failed");
                    sink.failed(&error);
                }
            }
        }
        ambient.clock.sleep(backoff.next(ambient.random.u64())).await;
    }
}

/// Why the loop should wait a little, and where it can go on.
struct Interrupted {
    error: Option<Error>,
    reached: Option<String>,
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self { error: Some(error), reached: None }
    }
}

async fn list<S>(
    source: &S,
    selection: &Selection,
    sink: &mut impl Sink<S::Object>,
) -> Result<String, Interrupted>
where
    S: Source,
    S::Object: Clone,
{
    let mut params = ListParams {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        limit: Some(PAGE),
        ..ListParams::default()
    };
    sink.listing();
    loop {
        let page = match source.list(&params).await {
            // The snapshot that the pages were cut from was compacted away: take the whole in one.
            Err(Error::Api(status)) if is_lost(&status) && params.continue_token.is_some() => {
                params.continue_token = None;
                params.limit = None;
                sink.listing();
                continue;
            }
            page => page?,
        };
        page.items.into_iter().for_each(|object| sink.apply(object));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            let version = page.metadata.resource_version.unwrap_or_default();
            sink.reached(&version);
            sink.listed();
            return Ok(version);
        }
    }
}

/// Follows changes; `Ok` with the version to resume from (or none, to list anew) when the watch ended as it should.
async fn watch<S>(
    source: &S,
    selection: &Selection,
    sink: &mut impl Sink<S::Object>,
    mut version: String,
    backoff: &mut Backoff,
    ambient: &Ambient,
) -> Result<Option<String>, Interrupted>
where
    S: Source,
{
    let params = WatchParams {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        timeout: Some(WATCH_SECONDS),
        ..WatchParams::default()
    };
    let started = ambient.clock.monotonic();
    let mut stream = match source.watch(&params, &version).await {
        Ok(stream) => stream,
        Err(Error::Api(status)) if is_lost(&status) => return Err(Error::Api(status).into()),
        Err(error) => return Err(Interrupted { error: Some(error), reached: Some(version) }),
    };
    let deadline = started + Duration::from_secs(u64::from(WATCH_SECONDS)) + IDLE_MARGIN;
    let mut dead = ambient.clock.sleep_until(deadline).fuse();
    let mut heard = false;
    loop {
        let event = tokio::select! {
            biased;
            event = stream.next() => event,
            () = &mut dead => None,
        };
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                advance(&mut version, &object);
                sink.apply(object);
            }
            Some(Ok(WatchEvent::Deleted(object))) => {
                advance(&mut version, &object);
                sink.delete(object);
            }
            Some(Ok(WatchEvent::Bookmark(bookmark))) => version = bookmark.metadata.resource_version,
            Some(Ok(WatchEvent::Error(status))) => {
                let reached = (!is_lost(&status)).then_some(version);
                return Err(Interrupted { error: Some(Error::Api(status)), reached });
            }
            Some(Err(error)) => return Err(Interrupted { error: Some(error), reached: Some(version) }),
            None if !heard && ambient.clock.monotonic().since(started) < TOO_SHORT => {
                return Err(Interrupted { error: None, reached: Some(version) });
            }
            None => return Ok(Some(version)),
        }
        sink.reached(&version);
        if !heard {
            heard = true;
            backoff.reset();
        }
    }
}

fn advance<K: Resource>(version: &mut String, object: &K) {
    if let Some(new) = &object.meta().resource_version {
        version.clone_from(new);
    }
}

/// Whether the server will never again go on from where we were: it has forgotten that (410), cannot read it (400), or has
/// waited in vain to get there, as after it was restored from a backup (504, "Too large resource version").
fn is_lost(status: &Status) -> bool {
    matches!(status.code, 400 | 410 | 504)
}
