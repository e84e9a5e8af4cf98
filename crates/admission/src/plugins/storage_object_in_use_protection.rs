//! Volumes, claims and classes of attributes stay while they are in use: finalizers hold them, and controllers let go.

use apimachinery::meta::add_finalizer;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::{Attributes, Lookup, Operation, Plugin};

/// What holds the objects of a resource.
const HELD: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageObjectInUseProtection;

fn finalizer(attributes: &Attributes<'_>) -> Option<&'static str> {
    let of = HELD.iter().find(|(group, plural, _)| attributes.is(group, plural));
    of.map(|(_, _, finalizer)| *finalizer)
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && finalizer(attributes).is_some()
    }

    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        _: &dyn Lookup,
    ) -> Result<(), Status> {
        if let Some(finalizer) = finalizer(attributes) {
            add_finalizer(object, finalizer);
        }
        Ok(())
    }
}
