//! What a pod of a StatefulSet is by its ordinal: its name, its labels, its volumes.

use super::claims;
use crate::history::HASH_LABEL;
use crate::plan::controller_of;
use crate::pod::Pod;
use client::kube::ResourceExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{self as core, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::ops::Range;

pub(super) const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
pub(super) const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The number in a pod's name. Wider than the API's, so that the last of a range is one too.
pub(super) type Ordinal = i64;

/// The ordinals that a set's pods are to have.
pub(super) fn range(set: &StatefulSet) -> Range<Ordinal> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start).unwrap_or(0);
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    Ordinal::from(start)..Ordinal::from(start) + Ordinal::from(replicas.max(0))
}

pub(super) fn pod_name(set: &StatefulSet, ordinal: Ordinal) -> String {
    format!("{}-{ordinal}", set.name_any())
}

/// Whether each pod waits for those before it.
pub(super) fn is_ordered(set: &StatefulSet) -> bool {
    let policy = set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref());
    policy != Some("Parallel")
}

/// The ordinal in a name such as the set's pods have.
pub(super) fn ordinal_in(set: &StatefulSet, name: &str) -> Option<Ordinal> {
    let digits = name.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    // Not `+1` or `01`: no ordinal is written so.
    let ordinal: i32 = digits.parse().ok().filter(|ordinal: &i32| ordinal.to_string() == digits)?;
    (ordinal >= 0).then_some(Ordinal::from(ordinal))
}

/// The ordinal of a pod that is named as the set's pods are.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<Ordinal> {
    ordinal_in(set, pod.metadata.name.as_deref()?)
}

/// The name of the revision that a pod was made after.
pub(super) fn revision(pod: &Pod) -> &str {
    pod.labels().get(HASH_LABEL).map(String::as_str).unwrap_or_default()
}

/// Whether a pod has the labels by which it is known as itself.
pub(super) fn is_labelled(pod: &Pod) -> bool {
    pod.labels().get(NAME_LABEL) == pod.metadata.name.as_ref()
}

/// Whether a pod mounts the claims that are its own.
pub(super) fn has_its_claims(set: &StatefulSet, pod: &Pod, ordinal: Ordinal) -> bool {
    claims::templates(set).iter().all(|template| {
        let name = template.metadata.name.as_deref().unwrap_or_default();
        let mut claims = pod.spec.volumes.iter().filter(|volume| volume.name == name);
        let claim = claims.find_map(|volume| volume.persistent_volume_claim.as_ref());
        claim.is_some_and(|claim| claim.claim_name == claims::name(set, template, ordinal))
    })
}

/// The volumes that are the claims of a pod.
pub(super) fn claimed_volumes(set: &StatefulSet, ordinal: Ordinal) -> Vec<Volume> {
    let volume = |template: &core::PersistentVolumeClaim| Volume {
        name: template.name_any(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claims::name(set, template, ordinal),
            read_only: None,
        }),
        ..Volume::default()
    };
    claims::templates(set).iter().map(volume).collect()
}

/// The pod of that ordinal, of a template and the revision that keeps it.
pub(super) fn new_pod(
    set: &StatefulSet,
    template: PodTemplateSpec,
    revision: &str,
    ordinal: Ordinal,
) -> core::Pod {
    let given = template.metadata.unwrap_or_default();
    let name = pod_name(set, ordinal);
    let mut labels = given.labels.unwrap_or_default();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    labels.insert(HASH_LABEL.to_owned(), revision.to_owned());
    let mut spec = template.spec.unwrap_or_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let mut volumes = claimed_volumes(set, ordinal);
    let own = spec.volumes.take().unwrap_or_default().into_iter();
    let own: Vec<_> = own.filter(|own| volumes.iter().all(|claimed| claimed.name != own.name)).collect();
    volumes.extend(own);
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
    core::Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![controller_of(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}
