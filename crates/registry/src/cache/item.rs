//! One object in the cache.

use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::excerpt::Excerpt;
use apimachinery::status::Status;
use bytes::Bytes;
use serde_json::Value;

use crate::encode::{Encoded, resplice, same};

/// A field that field selectors may use beyond name and namespace.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// As selectors name it (`spec.nodeName`).
    pub(crate) name: String,
    /// Other names for it, of other versions of the kind.
    pub(crate) aliases: Vec<String>,
    /// Where to look, in order; the first that is present and not empty counts.
    pub(crate) paths: Vec<Vec<String>>,
    /// What an absent field counts as.
    pub(crate) default: &'static str,
}

impl Field {
    /// A field selected under its own path.
    pub(crate) fn at(path: &str) -> Self {
        Self::from(path, &[path], "")
    }

    /// A field with fallbacks and a default.
    pub(crate) fn from(name: &str, paths: &[&str], default: &'static str) -> Self {
        let split = |path: &&str| path.split('.').map(String::from).collect();
        Self { name: name.into(), aliases: Vec::new(), paths: paths.iter().map(split).collect(), default }
    }

    /// The same field under one more name.
    pub(crate) fn alias(mut self, name: &str) -> Self {
        self.aliases.push(name.into());
        self
    }

    fn read(&self, object: &Value) -> Box<str> {
        let text = self.paths.iter().find_map(|path| {
            let found = path.iter().try_fold(object, |value, segment| value.get(segment.as_str()))?;
            match found {
                Value::String(text) if text.is_empty() => None,
                Value::String(text) => Some(text.as_str().into()),
                Value::Bool(_) | Value::Number(_) => Some(found.to_string().into_boxed_str()),
                _ => None,
            }
        });
        text.unwrap_or_else(|| self.default.into())
    }
}

/// What selectors look at, taken out of the tree once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extract {
    /// Sorted by key.
    pub(crate) labels: Box<[(Box<str>, Box<str>)]>,
    /// In the order of the resource's fields.
    pub(crate) fields: Box<[Box<str>]>,
}

impl Extract {
    pub(crate) fn of(object: &Value, fields: &[Field]) -> Self {
        let labels =
            object.get("metadata").and_then(|metadata| metadata.get("labels")).and_then(Value::as_object);
        let labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
            .collect();
        Self { labels, fields: fields.iter().map(|field| field.read(object)).collect() }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(each, _)| (**each).cmp(key)).ok()?;
        self.labels.get(at).map(|(_, value)| &**value)
    }
}

/// An object at one revision, shared by everybody who reads it.
#[derive(Debug)]
pub(crate) struct Item {
    /// `namespace/name`, or `name`.
    pub(crate) key: Arc<str>,
    /// JSON without TypeMeta, resourceVersion in place: what readers get.
    pub(crate) body: Bytes,
    pub(crate) revision: u64,
    pub(crate) extract: Extract,
    /// The version that the body is of (`group/version`), where it was stored with it: custom objects.
    pub(crate) api_version: Option<Arc<str>>,
    splice_at: usize,
    /// Bodies for other versions, made when first asked for.
    converted: Mutex<Vec<Converted>>,
}

/// A body in another version.
#[derive(Clone, Debug)]
struct Converted {
    /// Which shape of which version.
    shape: u64,
    body: Bytes,
    splice_at: usize,
}

/// Bodies in other versions that an item keeps. Those of shapes that are served no longer make room for newer ones.
const CONVERTED: usize = 4;

impl Item {
    pub(crate) fn new(key: Arc<str>, encoded: &Encoded, revision: u64, extract: Extract) -> Self {
        Self {
            key,
            body: encoded.at(revision),
            revision,
            extract,
            api_version: encoded.api_version().map(Arc::from),
            splice_at: encoded.body_splice(),
            converted: Mutex::default(),
        }
    }

    /// What of an object [`Item::parse`] has to read.
    pub(crate) fn extracted(fields: &[Field]) -> Excerpt {
        let labels = ["metadata", "labels"].map(str::to_owned).to_vec();
        Excerpt::of(fields.iter().flat_map(|field| field.paths.clone()).chain([labels]))
    }

    /// From bytes of the store alone. `None`: they are not an object of ours.
    pub(crate) fn parse(
        key: Arc<str>,
        stored: Bytes,
        revision: u64,
        extracted: &Excerpt,
        fields: &[Field],
    ) -> Option<Self> {
        let tree = extracted.read(&stored).ok()?;
        let extract = Extract::of(&tree, fields);
        Some(Self::new(key, &Encoded::locate(stored)?, revision, extract))
    }

    /// Namespace and name.
    pub(crate) fn names(&self) -> (&str, &str) {
        self.key.split_once('/').unwrap_or(("", &self.key))
    }

    /// Whether it was stored as exactly this.
    pub(crate) fn is(&self, encoded: &Encoded) -> bool {
        self.api_version.as_deref() == encoded.api_version() && same(&self.body, self.splice_at, encoded)
    }

    /// The same object under the revision at which it went away.
    pub(crate) fn gone_at(&self, revision: u64) -> Item {
        let mut converted = self.converted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for each in &mut converted {
            each.body = resplice(&each.body, each.splice_at, revision);
        }
        Item {
            key: self.key.clone(),
            body: resplice(&self.body, self.splice_at, revision),
            revision,
            extract: self.extract.clone(),
            api_version: self.api_version.clone(),
            splice_at: self.splice_at,
            converted: Mutex::new(converted),
        }
    }

    /// The body for that shape of another version, if it has been made.
    pub(crate) fn converted(&self, shape: u64) -> Option<Bytes> {
        let made = self.converted.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().find(|each| each.shape == shape).map(|each| each.body.clone())
    }

    /// Keeps the body for that shape of another version, and gives it.
    pub(crate) fn keep(&self, shape: u64, encoded: &Encoded) -> Bytes {
        let body = encoded.at(self.revision);
        let mut made = self.converted.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|each| each.shape != shape);
        if made.len() >= CONVERTED {
            made.remove(0);
        }
        made.push(Converted { shape, body: body.clone(), splice_at: encoded.body_splice() });
        body
    }

    /// The stored object as a tree, resourceVersion included.
    pub(crate) fn tree(&self) -> Result<Value, Status> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Status::internal_error(format!("{} cannot be read back: {error}", self.key)))
    }
}
