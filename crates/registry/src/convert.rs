//! An object in another version than the one that it is stored in.
//!
//! Readers of the stored version get the stored bytes and never pay for this. For the others a body is made when first
//! asked for and kept beside the stored one: by the kind's own code, or by the webhook that a CustomResourceDefinition
//! names, many objects a call.

use std::sync::Arc;

use apimachinery::schema::Ref;
use apimachinery::status::Status;
use bytes::Bytes;
use serde_json::Value;

use crate::cache::Item;
use crate::custom::Webhook;
use crate::encode::encode;
use crate::tree::map;
use crate::{Kind, Object};

/// Objects that are converted in one call.
pub(crate) const BATCH: usize = 100;
/// Bytes of objects in one call, beside the first.
const BATCH_BYTES: usize = 4 << 20;

/// The versions of a custom kind, as one of them sees the others.
pub(crate) struct Versions {
    /// The version that objects are stored in now (`group/version`).
    pub(crate) storage: String,
    /// That version's schema.
    pub(crate) storage_schema: Option<Ref>,
    /// The versions whose objects are objects of this one as they are.
    pub(crate) alike: Vec<String>,
    /// Who converts; else nothing but the version's name changes, and what the schema does not know goes.
    pub(crate) webhook: Option<Arc<Webhook>>,
}

impl Kind {
    /// The version in which its objects are stored from now on, where they are stored with it.
    pub(crate) fn stored_as(&self) -> Option<&str> {
        self.versions.as_ref().map(|versions| versions.storage.as_str())
    }

    /// Whether readers of this version get the item's body as it is.
    fn is_stored_form(&self, item: &Item) -> bool {
        match (&self.versions, &item.api_version) {
            (None, _) => !self.strategy.converts(),
            // Stored by an earlier release, which did not write the version down.
            (Some(versions), None) => versions.alike.contains(&versions.storage),
            (Some(versions), Some(of)) => versions.alike.iter().any(|version| **version == **of),
        }
    }

    /// The item's body in this version, unless a webhook has to be asked for it.
    fn body_now(&self, item: &Item) -> Option<Bytes> {
        if self.is_stored_form(item) {
            return Some(item.body.clone());
        }
        if let Some(body) = item.converted(self.shape) {
            return Some(body);
        }
        if self.versions.as_ref().is_some_and(|versions| versions.webhook.is_some()) {
            return None;
        }
        // What could be stored can be read back, and a tree of JSON values always encodes.
        Some(item.tree().ok().and_then(|tree| self.keep(item, tree)).unwrap_or_else(|| item.body.clone()))
    }

    /// Brings a tree into this version's form, and keeps it as the item's body.
    fn keep(&self, item: &Item, mut tree: Value) -> Option<Bytes> {
        self.strategy.restore(&mut tree);
        encode(&tree).ok().map(|encoded| item.keep(self.shape, &encoded))
    }

    /// The item as a reader of this version gets it, unless a webhook has to be asked for it.
    pub(crate) fn object_now(&self, item: &Item) -> Option<Object> {
        let body = self.body_now(item)?;
        Some(Object { head: self.head.clone(), body, revision: item.revision })
    }

    /// The item as a reader of this version gets it.
    pub(crate) async fn object(&self, item: &Item) -> Result<Object, Status> {
        Ok(Object { head: self.head.clone(), body: self.body(item).await?, revision: item.revision })
    }

    /// The item's body in this version.
    pub(crate) async fn body(&self, item: &Item) -> Result<Bytes, Status> {
        match self.body_now(item) {
            Some(body) => Ok(body),
            None => {
                self.convert(&[item]).await?;
                self.body_now(item).ok_or_else(lost)
            }
        }
    }

    /// The items' bodies in this version, each with its revision.
    pub(crate) async fn bodies(&self, items: &[&Arc<Item>]) -> Result<Vec<(Bytes, u64)>, Status> {
        self.make_ready(items.iter().map(|item| &***item)).await?;
        let mut bodies = Vec::with_capacity(items.len());
        for item in items {
            bodies.push((self.body_now(item).ok_or_else(lost)?, item.revision));
        }
        Ok(bodies)
    }

    /// Sees to it that each item has a body in this version.
    pub(crate) async fn make_ready<'a>(
        &self,
        items: impl Iterator<Item = &'a Item> + Send,
    ) -> Result<(), Status> {
        if self.versions.as_ref().is_none_or(|versions| versions.webhook.is_none()) {
            return Ok(());
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for item in items {
            if self.body_now(item).is_some() {
                continue;
            }
            if !batch.is_empty() && (batch.len() >= BATCH || bytes + item.body.len() > BATCH_BYTES) {
                self.convert(&std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += item.body.len();
            batch.push(item);
        }
        if batch.is_empty() { Ok(()) } else { self.convert(&batch).await }
    }

    /// Has the webhook convert these items, and keeps what it makes of them.
    async fn convert(&self, items: &[&Item]) -> Result<(), Status> {
        let Some(Versions { webhook: Some(webhook), storage, .. }) = &self.versions else { return Ok(()) };
        let mut trees = Vec::with_capacity(items.len());
        for item in items {
            let mut tree = item.tree()?;
            let of = item.api_version.as_deref().unwrap_or(storage);
            self.put_type(&mut tree, of);
            trees.push(tree);
        }
        let converted = webhook.convert(&trees, &self.api_version()).await?;
        for (item, tree) in items.iter().zip(converted) {
            self.keep(item, tree).ok_or_else(lost)?;
        }
        Ok(())
    }

    fn put_type(&self, tree: &mut Value, api_version: &str) {
        let map = map(tree);
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), self.kind.clone().into());
    }

    /// The item as a tree of this version, with TypeMeta.
    pub(crate) async fn tree(&self, item: &Item) -> Result<Value, Status> {
        let mut tree = if self.is_stored_form(item) {
            item.tree()?
        } else {
            let body = self.body(item).await?;
            serde_json::from_slice(&body).map_err(Status::internal_error)?
        };
        self.put_type(&mut tree, &self.api_version());
        Ok(tree)
    }

    /// Trees of this version in another one of the same resource.
    pub(crate) async fn converted_to(&self, other: &Kind, trees: [&Value; 2]) -> Result<Vec<Value>, Status> {
        let mut converted: Vec<Value> = trees.into_iter().cloned().collect();
        match self.versions.as_ref().and_then(|versions| versions.webhook.as_ref()) {
            Some(webhook) => converted = webhook.convert(&converted, &other.api_version()).await?,
            None => converted.iter_mut().for_each(|tree| self.strategy.store_form(tree)),
        }
        for tree in &mut converted {
            other.strategy.restore(tree);
            other.put_type(tree, &other.api_version());
        }
        Ok(converted)
    }

    /// The stored form of a tree of this version; `None`: the tree itself.
    pub(crate) async fn stored_form(&self, tree: &Value) -> Result<Option<Value>, Status> {
        let Some(versions) = &self.versions else {
            if !self.strategy.converts() {
                return Ok(None);
            }
            let mut stored = tree.clone();
            self.strategy.store_form(&mut stored);
            return Ok(Some(stored));
        };
        if versions.alike.contains(&versions.storage) {
            return Ok(None);
        }
        let mut stored = match &versions.webhook {
            Some(webhook) => {
                let converted = webhook.convert(std::slice::from_ref(tree), &versions.storage).await?;
                converted.into_iter().next().ok_or_else(lost)?
            }
            None => tree.clone(),
        };
        if let Some(schema) = &versions.storage_schema {
            let metadata = map(&mut stored).remove("metadata");
            schema.get().prune(&mut stored);
            if let Some(metadata) = metadata {
                map(&mut stored).insert("metadata".into(), metadata);
            }
        }
        Ok(Some(stored))
    }
}

/// A conversion whose outcome is not there although it did not fail.
fn lost() -> Status {
    Status::internal_error("a converted object is missing")
}
