//! Documents about what is served: discovery in its two forms, and OpenAPI in its two versions. Each is rendered when
//! first asked for, and again when a CustomResourceDefinition has changed what is served.

mod aggregated;
mod legacy;
mod openapi;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::status::Status;
use bytes::Bytes;
use http::header::{ETAG, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use registry::{Kinds, Registry};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::negotiate;
use crate::path::is_known;
use crate::query::Query;
use crate::respond::{self, Answer};

/// The rendered documents of one generation of kinds.
pub(crate) struct Documents {
    advertise: String,
    rendered: Mutex<Rendered>,
}

#[derive(Default)]
struct Rendered {
    generation: Option<u64>,
    documents: HashMap<String, Document>,
}

/// One document: its bytes and what identifies them.
#[derive(Clone)]
struct Document {
    bytes: Bytes,
    etag: String,
    media_type: &'static str,
}

impl Document {
    fn new(tree: &Value, etag: Option<String>, media_type: &'static str) -> Result<Self, Status> {
        let bytes = Bytes::from(serde_json::to_vec(tree).map_err(Status::internal_error)?);
        Ok(Self { etag: etag.unwrap_or_else(|| hash(&bytes)), bytes, media_type })
    }
}

/// Upper-case hex of SHA-256, as upstream's ETags are.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Documents {
    pub(crate) fn new(advertise: String) -> Self {
        Self { advertise, rendered: Mutex::default() }
    }

    /// Answers a path of discovery or OpenAPI.
    pub(crate) fn serve(
        &self,
        registry: &Arc<Registry>,
        headers: &HeaderMap,
        path: &str,
        query: &Query,
    ) -> Answer {
        let kinds = registry.kinds();
        if matches!(path, "/api" | "/apis") && negotiate::wants_aggregated_discovery(headers) {
            let document = self.document(&kinds, path, AGGREGATED)?;
            let mut answer = tagged(&document, headers);
            answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
            return Ok(answer);
        }
        crate::path::takes_json(headers)?;
        let document = self.document(&kinds, path, "application/json")?;
        let mut answer = tagged(&document, headers);
        // A client that names the hash may keep the document for ever.
        if path.starts_with("/openapi/v3/") && query.get("hash") == Some(document.etag.as_str()) {
            let for_ever = HeaderValue::from_static("public, immutable");
            answer.headers_mut().insert(http::header::CACHE_CONTROL, for_ever);
        }
        if matches!(path, "/api" | "/apis") {
            answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        }
        Ok(answer)
    }

    fn document(&self, kinds: &Kinds, path: &str, media_type: &'static str) -> Result<Document, Status> {
        let key = format!("{media_type} {path}");
        {
            let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
            if rendered.generation != Some(kinds.generation()) {
                *rendered = Rendered { generation: Some(kinds.generation()), documents: HashMap::new() };
            }
            if let Some(document) = rendered.documents.get(&key) {
                return Ok(document.clone());
            }
        }
        let tree = self.render(kinds, path, media_type).ok_or_else(Status::no_such_path)?;
        let openapi = path.strip_prefix("/openapi/v3/");
        let etag = openapi.map(|group_version| openapi::identity(kinds, group_version));
        let document = Document::new(&tree, etag, media_type)?;
        if path.starts_with("/openapi/") {
            // Large, and asked for once by each client, which then keeps it: not worth the memory.
            return Ok(document);
        }
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered.generation == Some(kinds.generation()) {
            rendered.documents.insert(key, document.clone());
        }
        Ok(document)
    }

    fn render(&self, kinds: &Kinds, path: &str, media_type: &'static str) -> Option<Value> {
        if media_type == AGGREGATED {
            return Some(aggregated::render(kinds, path == "/api"));
        }
        match path.strip_prefix("/openapi/v3") {
            Some("") => Some(openapi_root(kinds)),
            Some(rest) => openapi::v3(kinds, rest.strip_prefix('/')?),
            None if path == "/openapi/v2" => Some(openapi::v2(kinds)),
            None => legacy::render(kinds, path, &self.advertise),
        }
    }
}

/// Where the documents of OpenAPI v3 are, each with the hash of what it says.
fn openapi_root(kinds: &Kinds) -> Value {
    let mut paths = serde_json::Map::new();
    for group_version in openapi::paths(kinds) {
        let identity = openapi::identity(kinds, &group_version);
        let url = format!("/openapi/v3/{group_version}?hash={identity}");
        paths.insert(group_version, serde_json::json!({"serverRelativeURL": url}));
    }
    serde_json::json!({"paths": paths})
}

fn tagged(document: &Document, headers: &HeaderMap) -> Response<Body> {
    let etag = format!("\"{}\"", document.etag);
    let (code, body) = if is_known(headers, &etag) {
        (StatusCode::NOT_MODIFIED, Body::default())
    } else {
        (StatusCode::OK, Body::whole(document.bytes.clone()))
    };
    let mut response = respond::with_type(code, HeaderValue::from_static(document.media_type), body);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}
