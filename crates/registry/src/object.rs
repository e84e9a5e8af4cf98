//! What readers get: stored bytes, and what goes around them.
//!
//! A body is one JSON object without apiVersion and kind, its resourceVersion in place. [`Head`] is what goes in front of it
//! in place of its opening brace. Nothing here decodes or encodes, except where a tree is asked for.

use apimachinery::excerpt::Excerpt;
use apimachinery::status::Status;
use bytes::{Buf, Bytes};
use serde_json::Value;

use crate::Kind;

/// `{"apiVersion":…,"kind":…,`: what a body gets in front in place of its opening brace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head(Bytes);

impl Head {
    /// The head of a kind.
    pub fn new(api_version: &str, kind: &str) -> Self {
        // Both are checked names (a CRD's too), but quoting costs nothing here.
        let quoted = |text: &str| Value::from(text).to_string();
        let text = format!("{{\"apiVersion\":{},\"kind\":{},", quoted(api_version), quoted(kind));
        Self(Bytes::from(text))
    }

    /// The bytes, ending in a comma.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// One object as a reader gets it.
#[derive(Clone, Debug)]
pub struct Object {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
    pub(crate) revision: u64,
}

impl Object {
    /// An object that is shown and not stored; `body` comes without TypeMeta.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn shown(kind: &Kind, body: &Value) -> Result<Self, Status> {
        let body = serde_json::to_vec(body).map_err(Status::internal_error)?.into();
        Ok(Self { head: kind.head.clone(), body, revision: 0 })
    }

    /// Its resourceVersion.
    pub fn resource_version(&self) -> u64 {
        self.revision
    }

    /// The whole object's JSON as two shared pieces, to be sent one after the other.
    pub fn segments(&self) -> [Bytes; 2] {
        [self.head.0.clone(), self.body.slice(1..)]
    }

    /// Length of the whole object's JSON.
    pub fn len(&self) -> usize {
        self.head.0.len() + self.body.len() - 1
    }

    /// Never: an object has at least a kind.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The whole object's JSON in one piece (copies).
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.len());
        self.write_to(&mut out);
        out.into()
    }

    /// Appends the whole object's JSON.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head.0);
        out.extend_from_slice(&self.body[1..]);
    }

    /// The body without TypeMeta, as it is in a typed list.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Its namespace, or nothing, and its name, without decoding the rest.
    pub fn names(&self) -> (String, String) {
        #[derive(serde::Deserialize)]
        struct Headed {
            metadata: Named,
        }
        #[derive(serde::Deserialize)]
        struct Named {
            #[serde(default)]
            namespace: String,
            name: String,
        }
        let headed: Option<Headed> = serde_json::from_slice(&self.body).ok();
        headed.map(|headed| (headed.metadata.namespace, headed.metadata.name)).unwrap_or_default()
    }

    /// Some of its fields as a tree, without TypeMeta.
    pub fn excerpt(&self, excerpt: &Excerpt) -> Value {
        // As below.
        excerpt.read(&self.body).unwrap_or(Value::Null)
    }

    /// The object as a tree, with TypeMeta (decodes).
    pub fn tree(&self) -> Value {
        // Stored bytes were written by this crate; were they ever torn, readers get an empty object rather than a panic.
        serde_json::from_slice(&self.to_bytes()).unwrap_or(Value::Null)
    }
}

/// A list as a gather of stored bytes.
#[derive(Clone, Debug)]
pub struct List {
    /// Head of the list (`PodList`).
    pub(crate) head: Head,
    /// Head of its items; custom resources carry theirs within lists.
    pub(crate) item_head: Head,
    pub(crate) items_with_type: bool,
    pub(crate) items: Vec<(Bytes, u64)>,
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<u64>,
}

impl List {
    /// Objects that are shown and not stored; they come without TypeMeta.
    ///
    /// # Errors
    /// When one cannot be written down.
    pub fn shown(kind: &Kind, bodies: &[Value]) -> Result<Self, Status> {
        let items = bodies.iter().map(|body| Object::shown(kind, body).map(|object| (object.body, 0)));
        Ok(Self {
            head: kind.list_head.clone(),
            item_head: kind.head.clone(),
            items_with_type: false,
            items: items.collect::<Result<_, _>>()?,
            revision: 0,
            continue_token: None,
            remaining: None,
        })
    }

    /// The list's resourceVersion.
    pub fn resource_version(&self) -> u64 {
        self.revision
    }

    /// Token for the next page, if there is one.
    pub fn continue_token(&self) -> Option<&str> {
        self.continue_token.as_deref()
    }

    /// How many objects follow on later pages, where that is known (no selectors).
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// How many items this page has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the page is empty.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items as objects of their own.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = Object> + '_ {
        self.items.iter().map(|(body, revision)| Object {
            head: self.item_head.clone(),
            body: body.clone(),
            revision: *revision,
        })
    }

    /// The list's JSON as pieces to be sent one after the other; the items' bytes are shared with every other reader.
    pub fn into_segments(self) -> Vec<Bytes> {
        const COMMA: Bytes = Bytes::from_static(b",");
        let each = if self.items_with_type { 3 } else { 2 };
        let mut out = Vec::with_capacity(self.items.len() * each + 2);
        out.push(self.opening());
        for (index, (mut body, _)) in self.items.into_iter().enumerate() {
            if index > 0 {
                out.push(COMMA);
            }
            if self.items_with_type {
                out.push(self.item_head.0.clone());
                body.advance(1);
            }
            out.push(body);
        }
        out.push(Bytes::from_static(b"]}"));
        out
    }

    /// Length of the list's JSON.
    pub fn byte_len(&self) -> usize {
        let each = if self.items_with_type { self.item_head.0.len() } else { 1 };
        let items: usize = self.items.iter().map(|(body, _)| body.len() + each).sum();
        self.opening().len() + items + 2 - usize::from(!self.items.is_empty())
    }

    /// The list's JSON in one piece (one copy of each item).
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.byte_len() + 8);
        out.extend_from_slice(&self.opening());
        for (index, (body, _)) in self.items.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if self.items_with_type {
                out.extend_from_slice(&self.item_head.0);
                out.extend_from_slice(&body[1..]);
            } else {
                out.extend_from_slice(body);
            }
        }
        out.extend_from_slice(b"]}");
        out.into()
    }

    /// `metadata` of the list as a tree.
    pub fn metadata(&self) -> Value {
        let mut metadata = serde_json::Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.clone().into());
        }
        if let Some(remaining) = self.remaining {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
        metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        metadata.into()
    }

    fn opening(&self) -> Bytes {
        let mut out = self.head.0.to_vec();
        out.extend_from_slice(b"\"metadata\":");
        out.extend_from_slice(self.metadata().to_string().as_bytes());
        out.extend_from_slice(b",\"items\":[");
        out.into()
    }
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object appeared (or began to match).
    Added(Object),
    /// The object changed.
    Modified(Object),
    /// The object went away (or ceased to match): its last state, under the revision at which it went.
    Deleted(Object),
    /// Everything up to this revision has been sent.
    Bookmark {
        /// Head of the watched kind.
        head: Head,
        /// The revision.
        revision: u64,
        /// It ends the initial events of a watch with `sendInitialEvents`.
        initial_events_end: bool,
    },
    /// What comes next cannot be shown. The watch ends with this.
    Failed(Box<Status>),
}

impl WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub fn type_name(&self) -> &'static str {
        match self {
            WatchEvent::Added(_) => "ADDED",
            WatchEvent::Modified(_) => "MODIFIED",
            WatchEvent::Deleted(_) => "DELETED",
            WatchEvent::Bookmark { .. } => "BOOKMARK",
            WatchEvent::Failed(_) => "ERROR",
        }
    }

    /// The object, unless it is a bookmark or a failure.
    pub fn object(&self) -> Option<&Object> {
        match self {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                Some(object)
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Failed(_) => None,
        }
    }

    /// The event's JSON line, newline included, appended to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(self.type_name().as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match self {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                object.write_to(out);
            }
            WatchEvent::Bookmark { head, revision, initial_events_end } => {
                write_bookmark(out, head, *revision, *initial_events_end);
            }
            WatchEvent::Failed(status) => out.extend_from_slice(&status.to_json()),
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_bookmark(out: &mut Vec<u8>, head: &Head, revision: u64, initial_events_end: bool) {
    out.extend_from_slice(&head.0);
    out.extend_from_slice(b"\"metadata\":{");
    if initial_events_end {
        out.extend_from_slice(br#""annotations":{"k8s.io/initial-events-end":"true"},"#);
    }
    out.extend_from_slice(
        format!("\"creationTimestamp\":null,\"resourceVersion\":\"{revision}\"}}}}").as_bytes(),
    );
}

/// One row of a Table.
#[derive(Clone, Debug)]
pub struct Row {
    /// A cell for each column.
    pub cells: Vec<Value>,
    /// What it shows; the Table carries it whole, as PartialObjectMetadata, or not at all.
    pub object: Object,
}
