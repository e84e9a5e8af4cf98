//! A claim that names no class gets the default one.

use apimachinery::gvk::GroupResource;
use apimachinery::meta;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::tree::{at, set_spec};
use crate::{Attributes, Lookup, Operation, Plugin};

const CLASSES: GroupResource = GroupResource::of("storage.k8s.io", "storageclasses");
/// What makes a class the default one, now and long ago.
const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// How a class was named before there was a field for it.
const NAMED: &str = "volume.beta.kubernetes.io/storage-class";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims")
    }

    async fn mutate(&self, _: &Attributes<'_>, claim: &mut Value, lookup: &dyn Lookup) -> Result<(), Status> {
        if at(claim, &["spec", "storageClassName"]).is_some() || meta::annotation(claim, NAMED).is_some() {
            return Ok(());
        }
        let classes = lookup.list(&CLASSES, "").await?;
        let is_default =
            |class: &&Value| IS_DEFAULT.iter().any(|key| meta::annotation(class, key) == Some("true"));
        // Of several the newest counts, then the first by name.
        let newest = classes
            .iter()
            .filter(is_default)
            .min_by_key(|class| (std::cmp::Reverse(meta::creation_timestamp(class)), meta::name(class)));
        if let Some(class) = newest {
            set_spec(claim, "storageClassName", meta::name(class));
        }
        Ok(())
    }
}
