//! Applying a patch to the current object.

use apimachinery::patch;
use apimachinery::status::Status;
use serde_json::Value;

use crate::{Kind, Patch};

/// The object after the patch.
pub(crate) fn apply(kind: &Kind, old: &Value, patch: &Patch) -> Result<Value, Status> {
    let mut new = old.clone();
    match patch {
        Patch::Json(operations) => {
            patch::json::apply(&mut new, operations).map_err(|error| error.to_status())?
        }
        Patch::Merge(patch) => {
            if !patch.is_object() {
                return Err(Status::bad_request("merge patch must be a JSON object"));
            }
            patch::merge::apply(&mut new, patch);
        }
        Patch::Strategic(patch) => {
            let Some(schema) = kind.schema.as_ref().filter(|_| !kind.custom) else {
                let accepted = ["application/json-patch+json", "application/merge-patch+json"];
                return Err(Status::unsupported_media_type(&accepted));
            };
            patch::strategic::apply(&mut new, patch.clone(), schema.get())
                .map_err(|error| error.to_status())?;
        }
    }
    Ok(new)
}

/// Whether the patch itself says which resourceVersion it is for.
pub(crate) fn names_version(patch: &Patch) -> bool {
    match patch {
        Patch::Json(operations) => operations.as_array().is_some_and(|operations| {
            operations.iter().any(|operation| operation["path"] == "/metadata/resourceVersion")
        }),
        Patch::Merge(patch) | Patch::Strategic(patch) => {
            !crate::tree::text(patch, &["metadata", "resourceVersion"]).is_empty()
        }
    }
}
