//! Documents about what is served: discovery in its two forms, and OpenAPI in its two versions. Each is rendered when
//! first asked for, and again when a CustomResourceDefinition has changed what is served.

mod aggregated;
mod content;
mod legacy;
mod openapi;
mod resources;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apimachinery::status::Status;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, ETAG, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use registry::Kinds;
use serde_json::Value;
use sha2::{Digest, Sha256};

use content::Content;

use crate::aggregation::Table;
use crate::body::Body;
use crate::negotiate;
use crate::path::is_known;
use crate::query::Query;
use crate::respond::{self, Answer};

/// What is served: by this server, and by others through it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) kinds: &'a Kinds,
    pub(crate) table: &'a Table,
}

impl View<'_> {
    fn generation(&self) -> (u64, u64) {
        (self.kinds.generation(), self.table.generation)
    }
}

/// The rendered documents of one generation of what is served.
pub(crate) struct Documents {
    advertise: String,
    rendered: Mutex<Rendered>,
    /// Held by whoever renders a document.
    rendering: Mutex<()>,
}

#[derive(Default)]
struct Rendered {
    generation: Option<(u64, u64)>,
    documents: HashMap<String, Document>,
    identities: Option<Arc<HashMap<String, Arc<str>>>>,
}

/// One document: its bytes and what identifies them.
#[derive(Clone)]
struct Document {
    content: Content,
    etag: Arc<str>,
    media_type: &'static str,
}

/// Upper-case hex of SHA-256, as upstream's ETags are.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Documents {
    pub(crate) fn new(advertise: String) -> Self {
        Self { advertise, rendered: Mutex::default(), rendering: Mutex::default() }
    }

    /// Answers a path of discovery or OpenAPI.
    pub(crate) fn serve(&self, view: View<'_>, headers: &HeaderMap, path: &str, query: &Query) -> Answer {
        if matches!(path, "/api" | "/apis") && negotiate::wants_aggregated_discovery(headers) {
            let (_, mut answer) = self.answer(view, path, AGGREGATED, headers)?;
            answer.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
            return Ok(answer);
        }
        crate::path::takes_json(headers)?;
        let (etag, mut answer) = self.answer(view, path, "application/json", headers)?;
        // A client that names the hash may keep the document for ever.
        if path.starts_with("/openapi/v3/") && query.get("hash") == Some(&*etag) {
            let for_ever = HeaderValue::from_static("public, immutable");
            answer.headers_mut().insert(http::header::CACHE_CONTROL, for_ever);
        }
        if matches!(path, "/api" | "/apis") {
            answer.headers_mut().append(VARY, HeaderValue::from_static("Accept"));
        }
        Ok(answer)
    }

    /// The answer with a document, or that the client has it already, if it does.
    fn answer(
        &self,
        view: View<'_>,
        path: &str,
        media_type: &'static str,
        headers: &HeaderMap,
    ) -> Result<(Arc<str>, Response<Body>), Status> {
        // Known before the document is rendered, where it is a large one.
        if let Some(etag) = self.identity(view, path).filter(|etag| is_known(headers, &quoted(etag))) {
            let answer = tagged(StatusCode::NOT_MODIFIED, media_type, &etag, Body::default());
            return Ok((etag, answer));
        }
        let Document { content, etag, media_type } = self.document(view, path, media_type)?;
        if is_known(headers, &quoted(&etag)) {
            let answer = tagged(StatusCode::NOT_MODIFIED, media_type, &etag, Body::default());
            return Ok((etag, answer));
        }
        let (bytes, encoding) = content.for_client(headers)?;
        let mut answer = tagged(StatusCode::OK, media_type, &etag, Body::whole(bytes));
        if let Some(encoding) = encoding {
            answer.headers_mut().insert(CONTENT_ENCODING, encoding);
        }
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        Ok((etag, answer))
    }

    /// What identifies a document of OpenAPI.
    fn identity(&self, view: View<'_>, path: &str) -> Option<Arc<str>> {
        let document = path.strip_prefix("/openapi/")?;
        self.identities(view).get(document).cloned()
    }

    /// What identifies the documents of OpenAPI, by `v2` or `v3/GROUP-VERSION`.
    fn identities(&self, view: View<'_>) -> Arc<HashMap<String, Arc<str>>> {
        if let Some(known) = &self.rendered(view).identities {
            return known.clone();
        }
        let mut identities: HashMap<String, Arc<str>> = HashMap::new();
        let mut all = String::new();
        for path in openapi::paths(view) {
            let identity = openapi::identity(view.kinds, &path);
            all.push_str(&identity);
            identities.insert(format!("v3/{path}"), identity.into());
        }
        for fetched in view.table.all().filter_map(|remote| remote.fetched.as_ref()) {
            all.push_str(&hash(fetched.openapi_v2.as_deref().unwrap_or_default()));
        }
        identities.insert("v2".to_owned(), hash(all.as_bytes()).into());
        let identities = Arc::new(identities);
        self.rendered(view).identities = Some(identities.clone());
        identities
    }

    fn document(&self, view: View<'_>, path: &str, media_type: &'static str) -> Result<Document, Status> {
        let key = format!("{media_type} {path}");
        let known = || self.rendered(view).documents.get(&key).cloned();
        if let Some(document) = known() {
            return Ok(document);
        }
        // One at a time: the tree of a large document takes many times its bytes.
        let _rendering = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = known() {
            return Ok(document);
        }
        let tree = self.render(view, path, media_type).ok_or_else(Status::no_such_path)?;
        let bytes = Bytes::from(serde_json::to_vec(&tree).map_err(Status::internal_error)?);
        let etag = self.identity(view, path).unwrap_or_else(|| hash(&bytes).into());
        let document = Document { content: Content::of(bytes)?, etag, media_type };
        self.rendered(view).documents.insert(key, document.clone());
        Ok(document)
    }

    /// What has been rendered of these kinds. Who still has older ones begins again, as does the next with the newer.
    fn rendered(&self, view: View<'_>) -> MutexGuard<'_, Rendered> {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered.generation != Some(view.generation()) {
            *rendered = Rendered { generation: Some(view.generation()), ..Rendered::default() };
        }
        rendered
    }

    fn render(&self, view: View<'_>, path: &str, media_type: &'static str) -> Option<Value> {
        if media_type == AGGREGATED {
            return Some(aggregated::render(view, path == "/api"));
        }
        match path.strip_prefix("/openapi/v3") {
            Some("") => Some(self.openapi_root(view)),
            Some(rest) => openapi::v3(view.kinds, rest.strip_prefix('/')?),
            None if path == "/openapi/v2" => Some(openapi::v2(view)),
            None => legacy::render(view, path, &self.advertise),
        }
    }

    /// Where the documents of OpenAPI v3 are, each with the hash of what it says.
    fn openapi_root(&self, view: View<'_>) -> Value {
        let mut paths = serde_json::Map::new();
        for (document, identity) in &*self.identities(view) {
            if let Some(group_version) = document.strip_prefix("v3/") {
                let url = format!("/openapi/{document}?hash={identity}");
                paths.insert(group_version.to_owned(), serde_json::json!({"serverRelativeURL": url}));
            }
        }
        for remote in view.table.all() {
            if let Some(url) = remote.fetched.as_ref().and_then(|fetched| fetched.openapi_v3.as_ref()) {
                let name = format!("apis/{}/{}", remote.group, remote.version);
                paths.insert(name, serde_json::json!({"serverRelativeURL": url}));
            }
        }
        serde_json::json!({"paths": paths})
    }
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn tagged(code: StatusCode, media_type: &'static str, etag: &str, body: Body) -> Response<Body> {
    let mut response = respond::with_type(code, HeaderValue::from_static(media_type), body);
    if let Ok(etag) = HeaderValue::from_str(&quoted(etag)) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests {
    use http::header::IF_NONE_MATCH;

    use super::*;

    #[test]
    fn a_document_is_rendered_once_and_not_for_who_has_it() {
        let (documents, kinds, table) =
            (Documents::new("host:1".to_owned()), Kinds::default(), Table::default());
        let view = View { kinds: &kinds, table: &table };
        for path in ["/openapi/v2", "/openapi/v3/apis/authentication.k8s.io/v1"] {
            let etag = documents.identity(view, path).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, quoted(&etag).parse().unwrap());
            let (_, answer) = documents.answer(view, path, "application/json", &headers).unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
            assert!(documents.rendered(view).documents.is_empty(), "{path}");
            let first = documents.document(view, path, "application/json").unwrap();
            let second = documents.document(view, path, "application/json").unwrap();
            assert_eq!((first.content.as_ptr(), first.etag), (second.content.as_ptr(), etag));
            documents.rendered(view).documents.clear();
        }
        assert!(documents.identity(view, "/openapi/v3/apis/nothing/v1").is_none());
    }
}
