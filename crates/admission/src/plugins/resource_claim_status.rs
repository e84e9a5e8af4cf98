//! Who may write which part of a claim's status: to give devices and to reserve them takes permission for
//! `resourceclaims/binding`, to say how a device does takes permission for `resourceclaims/driver` by that driver's name,
//! for the node where the device is or for any. Upstream's registry asks the authorizer; ours does not know who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apimachinery::field::{FieldError, Path};
use apimachinery::gvk::GroupKind;
use apimachinery::status::Status;
use async_trait::async_trait;
use auth::{Authorizer, Decision, Resource, Target, UserInfo, forbidden_message};
use serde_json::Value;

use crate::tree::{at, items, text};
use crate::{Attributes, Lookup, Operation, Plugin};

pub(super) const GROUP: &str = "resource.k8s.io";
pub(super) const CLAIMS: &str = "resourceclaims";
/// What a service account's token says of the node whose pod it was made for.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// See the module.
pub struct ResourceClaimStatus {
    authorizer: Arc<dyn Authorizer>,
}

impl ResourceClaimStatus {
    /// With whom to ask.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    /// What keeps the user from it, if anything does.
    fn refusal(&self, user: &UserInfo, version: &str, verb: &str, asked: &Asked<'_>) -> Option<String> {
        let target = Target::Resource(Resource {
            group: GROUP,
            version,
            resource: CLAIMS,
            subresource: asked.subresource,
            namespace: asked.namespace,
            name: asked.name,
            field_selector: "",
        });
        let attributes = auth::Attributes { user, verb, target };
        match self.authorizer.authorize(&attributes) {
            Decision::Allow(_) => None,
            Decision::NoOpinion(reason) => {
                let claims = apimachinery::gvk::GroupResource::of(GROUP, CLAIMS);
                let why = forbidden_message(&attributes, &reason);
                Some(Status::forbidden(&claims, asked.name, why).message)
            }
        }
    }
}

/// A part of a claim that is none, but that permissions name.
struct Asked<'a> {
    subresource: &'static str,
    namespace: &'a str,
    name: &'a str,
}

#[async_trait]
impl Plugin for ResourceClaimStatus {
    fn name(&self) -> &'static str {
        "ResourceClaimStatus"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update
            && attributes.is_any(GROUP, CLAIMS)
            && attributes.subresource == "status"
    }

    async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        _: &dyn Lookup,
    ) -> Result<(), Status> {
        let (Some(new), Some(old)) = (object, attributes.old) else { return Ok(()) };
        let verb = if attributes.options.is_patch() { "patch" } else { "update" };
        let ask =
            |verb: &str, asked: &Asked<'_>| self.refusal(attributes.user, attributes.version, verb, asked);
        let status = Path::new("status");
        let mut errors = Vec::new();
        if ["allocation", "reservedFor"].into_iter().any(|field| part(new, field) != part(old, field)) {
            let asked = Asked { subresource: "binding", namespace: "", name: "" };
            if let Some(why) = ask(verb, &asked) {
                errors.push(FieldError::forbidden(
                    &status,
                    format!(
                        "changing status.allocation or status.reservedFor requires \
                         resource=\"resourceclaims/binding\", verb=\"{verb}\" permission: {why}"
                    ),
                ));
            }
        }
        let mut verbs = vec![format!("arbitrary-node:{verb}")];
        if is_on_node(attributes.user, node_of(new)) {
            verbs.insert(0, format!("associated-node:{verb}"));
        }
        for driver in changed_drivers(new, old) {
            let asked = Asked { subresource: "driver", namespace: attributes.namespace, name: driver };
            let refusals: Vec<String> = verbs.iter().map_while(|verb| ask(verb, &asked)).collect();
            if let (true, Some(why)) = (refusals.len() == verbs.len(), refusals.first()) {
                errors.push(FieldError::forbidden(
                    &status.child("devices"),
                    format!(
                        "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" \
                         permission: {why}",
                        verbs.join(" ")
                    ),
                ));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(&GroupKind::of(GROUP, "ResourceClaim"), attributes.name, errors))
    }
}

/// A part of the status; an empty list is none.
fn part<'a>(claim: &'a Value, field: &str) -> Option<&'a Value> {
    at(claim, &["status", field])
        .filter(|part| !part.is_null() && part.as_array().is_none_or(|items| !items.is_empty()))
}

/// The devices that a claim was given.
pub(super) fn results(claim: &Value) -> &[Value] {
    items(claim, &["status", "allocation", "devices", "results"])
}

/// The drivers of whose devices something else is said than before.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let devices = |claim: &'a Value| {
        let key =
            |device: &'a Value| ["driver", "pool", "device", "shareID"].map(|field| text(device, &[field]));
        let devices = items(claim, &["status", "devices"]).iter();
        devices.map(|device| (key(device), device)).collect::<BTreeMap<_, _>>()
    };
    let (before, now) = (devices(old), devices(new));
    let changed = now.iter().filter(|(key, device)| before.get(*key) != Some(*device));
    let gone = before.iter().filter(|(key, _)| !now.contains_key(*key));
    changed.chain(gone).map(|([driver, ..], _)| *driver).collect()
}

/// The one node from which a claim's devices can be reached, where there is only one.
fn node_of(claim: &Value) -> Option<&str> {
    let [term] = items(claim, &["status", "allocation", "nodeSelector", "nodeSelectorTerms"]) else {
        return None;
    };
    let ([], [field]) = (items(term, &["matchExpressions"]), items(term, &["matchFields"])) else {
        return None;
    };
    let is_name = text(field, &["key"]) == "metadata.name" && text(field, &["operator"]) == "In";
    match items(field, &["values"]) {
        [name] if is_name => name.as_str().filter(|name| !name.is_empty()),
        _ => None,
    }
}

/// Whether it is a service account in a pod on that node.
fn is_on_node(user: &UserInfo, node: Option<&str>) -> bool {
    let account = user.name.strip_prefix("system:serviceaccount:");
    let is_account = account.and_then(|account| account.split_once(':')).is_some();
    let nodes = user.extra.get(NODE_NAME).map_or(&[][..], Vec::as_slice);
    matches!((nodes, node), ([own], Some(node)) if is_account && own == node)
}
