//! A claim grows only once it has a volume, and only if its class says that volumes can grow.

use apimachinery::gvk::GroupResource;
use apimachinery::meta;
use apimachinery::quantity::Quantity;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use crate::tree::{at, text};
use crate::{Attributes, Lookup, Operation, Plugin};

const CLASSES: GroupResource = GroupResource::of("storage.k8s.io", "storageclasses");
/// How a class was named before there was a field for it.
const NAMED: &str = "volume.beta.kubernetes.io/storage-class";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct PersistentVolumeClaimResize;

fn size(claim: &Value) -> Quantity {
    let given = text(claim, &["spec", "resources", "requests", "storage"]);
    given.parse().unwrap_or_default()
}

fn class(claim: &Value) -> &str {
    meta::annotation(claim, NAMED).unwrap_or_else(|| text(claim, &["spec", "storageClassName"]))
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "persistentvolumeclaims")
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        claim: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let (Some(claim), Some(old)) = (claim, attributes.old) else { return Ok(()) };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if text(old, &["status", "phase"]) != "Bound" {
            return Err(attributes.forbid("Only bound persistent volume claims can be expanded"));
        }
        let class = Some(class(claim)).filter(|name| !name.is_empty() && *name == class(old));
        let class = match class {
            Some(name) => lookup.get(&CLASSES, "", name).await?,
            None => None,
        };
        let allows = class.and_then(|class| at(&class, &["allowVolumeExpansion"]).and_then(Value::as_bool));
        if allows != Some(true) {
            return Err(attributes.forbid(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                 support resize",
            ));
        }
        Ok(())
    }
}
