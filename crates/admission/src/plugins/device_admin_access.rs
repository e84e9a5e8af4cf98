//! A claim on devices that others have as well (`adminAccess`) is taken only in namespaces whose label allows it. Upstream's
//! registry looks at the namespace; ours knows no other object than the one that is written.

use apimachinery::field::{FieldError, Path};
use apimachinery::gvk::GroupKind;
use apimachinery::status::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::resource_claim_status::{CLAIMS, GROUP, results};
use crate::tree::{at, items};
use crate::{Attributes, Lookup, Operation, Plugin};

const TEMPLATES: &str = "resourceclaimtemplates";
/// The label that a namespace must have, with the value `true`.
const ALLOWED: &str = "resource.kubernetes.io/admin-access";

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceAdminAccess;

#[async_trait]
impl Plugin for DeviceAdminAccess {
    fn name(&self) -> &'static str {
        "DeviceAdminAccess"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is(GROUP, CLAIMS) || attributes.is(GROUP, TEMPLATES),
            Operation::Update => attributes.is_any(GROUP, CLAIMS) && attributes.subresource == "status",
            _ => false,
        }
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let (kind, found) = match attributes.operation {
            Operation::Create if attributes.is(GROUP, TEMPLATES) => {
                ("ResourceClaimTemplate", asked(items(object, &["spec", "spec", "devices", "requests"])))
            }
            Operation::Create => ("ResourceClaim", asked(items(object, &["spec", "devices", "requests"]))),
            // Who has it already may keep it.
            _ if attributes.old.is_some_and(|old| given(old).is_some()) => return Ok(()),
            _ => ("ResourceClaim", given(object)),
        };
        let Some(path) = found else { return Ok(()) };
        let namespace = lookup.namespace(attributes.namespace).await?;
        let label = namespace.as_ref().and_then(|namespace| at(namespace, &["metadata", "labels", ALLOWED]));
        if label.and_then(Value::as_str) == Some("true") {
            return Ok(());
        }
        let why = format!(
            "admin access to devices requires the `{ALLOWED}: true` label on the containing namespace"
        );
        let errors = vec![FieldError::forbidden(&Path::new(&path), why)];
        Err(Status::invalid(&GroupKind::of(GROUP, kind), attributes.name, errors))
    }
}

fn has(tree: &Value, path: &[&str]) -> bool {
    at(tree, path).and_then(Value::as_bool) == Some(true)
}

/// Where the first request for it is. As upstream says it: of templates, too.
fn asked(requests: &[Value]) -> Option<String> {
    let index = requests.iter().position(|request| has(request, &["exactly", "adminAccess"]))?;
    Some(format!("spec.devices.requests[{index}].adminAccess"))
}

/// Where the first device is that was given so.
fn given(claim: &Value) -> Option<String> {
    let index = results(claim).iter().position(|result| has(result, &["adminAccess"]))?;
    Some(format!("status.allocation.devices.results[{index}].adminAccess"))
}
