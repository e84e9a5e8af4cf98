//! The forms of one object: the versions under which it is served, and how what others made of it becomes proper again.

use std::sync::Arc;

use apimachinery::gvk::GroupVersionKind;
use apimachinery::status::Status;
use serde_json::Value;

use crate::tree::map;
use crate::{Kind, Kinds, decode};

impl Kinds {
    /// The other kinds under which the objects of a kind are served.
    pub fn equivalents<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = &'a Arc<Kind>> {
        let is_other =
            |other: &&Arc<Kind>| Arc::ptr_eq(&other.resource, &kind.resource) && other.slot != kind.slot;
        self.all().iter().filter(is_other)
    }

    /// Brings what somebody made of an object back into the form of its kind: fields that it does not have go, what was
    /// left out is filled in. Kinds that are sent and never stored are known, too.
    ///
    /// # Errors
    /// When it is of another kind, or a field is of the wrong type.
    pub fn conform(&self, gvk: &GroupVersionKind, object: &mut Value) -> Result<(), Status> {
        match self.by_kind(&gvk.group, &gvk.version, &gvk.kind) {
            Some(kind) => {
                decode::conform_to(kind, object)?;
                kind.strategy.default(object);
                Ok(())
            }
            None => decode::conform_sent(gvk, object),
        }
    }
}

impl Kind {
    /// An object of this kind as one of another that is served from the same stored form.
    ///
    /// # Errors
    /// When whoever converts it fails.
    pub async fn in_form(&self, object: Value, to: &Kind) -> Result<Value, Status> {
        let mut object = match to.versions.as_ref().and_then(|versions| versions.webhook.as_ref()) {
            Some(webhook) => {
                let converted = webhook.convert(&[object], &to.api_version()).await?;
                converted.into_iter().next().unwrap_or_default()
            }
            None => object,
        };
        if self.strategy.converts() {
            self.strategy.store_form(&mut object);
        }
        if to.versions.is_some() || to.strategy.converts() {
            to.strategy.restore(&mut object);
        }
        let fields = map(&mut object);
        fields.insert("apiVersion".into(), to.api_version().into());
        fields.insert("kind".into(), to.kind.clone().into());
        Ok(object)
    }
}
