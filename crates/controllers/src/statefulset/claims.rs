//! The volume claims of a StatefulSet's pods, and who owns them: what a set wants deleted with itself it owns, what it wants
//! deleted with a pod that it no longer has that pod owns, and the garbage collector does the rest.

use super::View;
use super::identity::{Ordinal, ordinal_in, pod_name, range};
use crate::plan::{Action, Announce, Create, controller_of, create, patch};
use crate::pod::Pod;
use client::kube::{Resource, ResourceExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{self as core, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

pub(super) fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The name of the claim of a template that a pod has.
pub(super) fn name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: Ordinal) -> String {
    format!("{}-{}", template.name_any(), pod_name(set, ordinal))
}

/// Whether a claim is named as the set's are.
pub(super) fn is_of(set: &StatefulSet, claim: &str) -> bool {
    templates(set).iter().any(|template| {
        let pod = claim.strip_prefix(&template.name_any()).and_then(|rest| rest.strip_prefix('-'));
        pod.is_some_and(|pod| ordinal_in(set, pod).is_some())
    })
}

/// What stands in the way of a pod of that ordinal.
#[derive(Debug, PartialEq)]
pub(super) enum Obstacle {
    /// A claim still belongs to an earlier pod of the name, and goes with it.
    Stale,
    /// A claim is being deleted.
    Going(String),
}

/// Whether a new pod would get a claim that is on its way out.
pub(super) fn obstacle(set: &StatefulSet, view: &View, ordinal: Ordinal) -> Option<Obstacle> {
    let (_, scaled) = deletes(set);
    let pod = pod_name(set, ordinal);
    let names = templates(set).iter().map(|template| name(set, template, ordinal));
    let claims: Vec<_> = names.filter_map(|name| view.claims.get(&name)).collect();
    if scaled && claims.iter().any(|claim| refs(claim).iter().any(|owner| is_pod(owner, &pod))) {
        return Some(Obstacle::Stale);
    }
    let going = claims.iter().find(|claim| claim.metadata.deletion_timestamp.is_some())?;
    Some(Obstacle::Going(going.name_any()))
}

/// The claims that a pod lacks.
pub(super) fn missing(set: &StatefulSet, view: &View, ordinal: Ordinal) -> Vec<Create> {
    let lacking =
        templates(set).iter().filter(|template| !view.claims.contains_key(&name(set, template, ordinal)));
    lacking.map(|template| new(set, template, ordinal)).collect()
}

fn new(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: Ordinal) -> Create {
    let mut claim = template.clone();
    claim.metadata.name = Some(name(set, template, ordinal));
    claim.metadata.namespace = set.namespace();
    let selected = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
    claim.metadata.labels.get_or_insert_default().extend(selected.unwrap_or_default());
    claim.status = None;
    let mut create = create(&claim);
    let (pod, owner) = (pod_name(set, ordinal), set.name_any());
    create.announce = Some(Announce {
        regarding: Box::new(set.object_ref(&())),
        done: (
            "SuccessfulCreate",
            format!("create Claim {{}} Pod {pod} in StatefulSet {owner} success").into(),
        ),
        failed: (
            "FailedCreate",
            format!("create Claim {} for Pod {pod} in StatefulSet {owner} failed error: ", claim.name_any())
                .into(),
        ),
    });
    create
}

/// Whether claims go with the set, and with pods that it is scaled down by.
fn deletes(set: &StatefulSet) -> (bool, bool) {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let is_delete = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Delete");
    (
        is_delete(policy.and_then(|policy| policy.when_deleted.as_ref())),
        is_delete(policy.and_then(|policy| policy.when_scaled.as_ref())),
    )
}

/// What the owners of a pod's claims should be made to say.
pub(super) struct Retention {
    pub(super) actions: Vec<Action>,
    /// The names of claims that somebody else controls, who is left alone.
    pub(super) conflicts: Vec<String>,
}

/// Has the claims of a pod owned as the set's retention policy says.
pub(super) fn retain(set: &StatefulSet, view: &View, pod: &Pod, ordinal: Ordinal) -> Retention {
    let mut retention = Retention { actions: Vec::new(), conflicts: Vec::new() };
    for template in templates(set) {
        let Some(claim) = view.claims.get(&name(set, template, ordinal)) else { continue };
        if is_stale(claim, set, pod) {
            continue;
        }
        let conflict = has_other_controller(claim, set, pod);
        let owners = owners(set, pod, claim, conflict, ordinal);
        if owners != refs(claim) {
            if conflict {
                retention.conflicts.push(claim.name_any());
            }
            retention.actions.push(patch(&**claim, json!({ "metadata": { "ownerReferences": owners } })));
        }
    }
    retention
}

/// Who should own a claim.
fn owners(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    conflict: bool,
    ordinal: Ordinal,
) -> Vec<OwnerReference> {
    let ours = [set.metadata.uid.as_deref(), pod.metadata.uid.as_deref()];
    let (with_set, with_pod) = deletes(set);
    let condemned = !range(set).contains(&ordinal);
    let wanted = match (with_set, with_pod && condemned) {
        _ if conflict => None,
        (_, true) => Some(controller_of(pod)),
        (true, false) => Some(controller_of(set)),
        (false, false) => None,
    };
    let mut owners = refs(claim).to_vec();
    owners.retain(|owner| !ours.contains(&Some(owner.uid.as_str())) || wanted.as_ref() == Some(owner));
    let missing = wanted.filter(|wanted| !owners.contains(wanted));
    owners.extend(missing);
    owners
}

fn refs(claim: &PersistentVolumeClaim) -> &[OwnerReference] {
    claim.metadata.owner_references.as_deref().unwrap_or_default()
}

fn is_pod(owner: &OwnerReference, name: &str) -> bool {
    owner.api_version == core::Pod::api_version(&()) && owner.kind == "Pod" && owner.name == name
}

fn is_set(owner: &OwnerReference, set: &StatefulSet) -> bool {
    owner.api_version == StatefulSet::api_version(&())
        && owner.kind == "StatefulSet"
        && Some(&owner.name) == set.metadata.name.as_ref()
}

/// Whether an earlier set or pod of the same name owns it: what is to become of it is not ours to say.
fn is_stale(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    refs(claim).iter().any(|owner| {
        is_set(owner, set) && Some(&owner.uid) != set.metadata.uid.as_ref()
            || is_pod(owner, &pod.name_any()) && Some(&owner.uid) != pod.metadata.uid.as_ref()
    })
}

/// Whether somebody else controls it, which matters where we would.
fn has_other_controller(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: &Pod) -> bool {
    let others = |owner: &OwnerReference| {
        owner.controller == Some(true) && !is_set(owner, set) && !is_pod(owner, &pod.name_any())
    };
    deletes(set) != (false, false) && refs(claim).iter().any(others)
}
