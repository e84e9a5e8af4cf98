//! The ReplicaSets of a Deployment: which is the new one, what it would look like, and what their annotations record.

use super::View;
use crate::percent::scaled;
use crate::plan::controller_of;
use crate::template::{hash, pruned};
use client::kube::ResourceExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// What belongs to the Deployment alone or is computed for each ReplicaSet.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Whether its status is about what it should be now.
pub(super) fn is_observed(set: &ReplicaSet) -> bool {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation);
    set.metadata.generation <= observed
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

/// How many pods above, and how many available ones below the wanted number a rolling update may go. Never both zero,
/// or it could not move. Recreate has neither: nothing of it is above, and all of it should be available.
pub(super) fn bounds(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let wanted = replicas(deployment);
    let quarter = IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let surge = scaled(surge, wanted, true);
    let unavailable = scaled(unavailable, wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1.min(wanted)) } else { (surge, unavailable.min(wanted)) }
}

/// A Deployment's sets: the one of its present template, and the others, oldest first.
#[derive(Clone)]
pub(super) struct Sets {
    pub(super) new: Option<Arc<ReplicaSet>>,
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub(super) fn sort(deployment: &Deployment, mut owned: Vec<Arc<ReplicaSet>>) -> Self {
        owned.sort_by_key(|set| (set.creation_timestamp(), set.name_any()));
        // Of several with the same template the oldest is the one: two controllers must agree on it.
        let new = owned.iter().position(|set| is_of_template(deployment, set)).map(|at| owned.remove(at));
        Self { new, old: owned }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(self.new.iter())
    }
}

fn is_of_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template);
    let given = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let (Some(wanted), Some(given)) = (wanted, given) else { return false };
    let (wanted, given) = (without_hash(wanted), without_hash(given));
    wanted == given || pruned(&wanted) == pruned(&given)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(metadata) = &mut template.metadata {
        metadata.creation_timestamp = None;
        if let Some(labels) = &mut metadata.labels {
            labels.remove(HASH_LABEL);
        }
        metadata.labels = metadata.labels.take().filter(|labels| !labels.is_empty());
    }
    template.metadata = template.metadata.take().filter(|metadata| *metadata != ObjectMeta::default());
    template
}

/// A short name for a template: the same for the same template, another after each collision.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    hash(&pruned(&without_hash(template)), collisions)
}

pub(super) fn annotation(set: &ReplicaSet, name: &str) -> Option<i64> {
    set.annotations().get(name).and_then(|text| text.parse().ok())
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    annotation(set, REVISION).unwrap_or(0)
}

/// The annotations that a new set should have, given the sets before it; only those that differ from what it has.
pub(super) fn new_annotations(
    deployment: &Deployment,
    current: &BTreeMap<String, String>,
    old: &[Arc<ReplicaSet>],
) -> BTreeMap<String, String> {
    let copied = deployment.annotations().iter().filter(|(name, _)| !NOT_COPIED.contains(&name.as_str()));
    let mut wanted: BTreeMap<String, String> = copied
        .filter(|(name, value)| current.get(*name) != Some(*value))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let next = old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    let before = current.get(REVISION);
    let number = before.and_then(|text| text.parse::<i64>().ok());
    if number.is_none_or(|number| number < next) {
        wanted.insert(REVISION.to_owned(), next.to_string());
        if let Some(before) = before {
            // It serves again after a rollback: keep the numbers that it served under.
            let history = current.get(REVISION_HISTORY).filter(|history| !history.is_empty());
            let history = history.map_or_else(|| before.clone(), |history| format!("{history},{before}"));
            wanted.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    wanted
}

/// The annotations by which sets remember the size of the whole.
pub(super) fn size_annotations(deployment: &Deployment) -> [(String, String); 2] {
    let wanted = replicas(deployment);
    let (surge, _) = bounds(deployment);
    [(DESIRED.to_owned(), wanted.to_string()), (MAX.to_owned(), wanted.saturating_add(surge).to_string())]
}

/// The set for the Deployment's present template, of a given size.
pub(super) fn new_set(
    deployment: &Deployment,
    name: &str,
    hash: &str,
    size: i32,
    old: &[Arc<ReplicaSet>],
) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let mut template = spec.template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = metadata.labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let mut annotations = new_annotations(deployment, &BTreeMap::new(), old);
    annotations.extend(size_annotations(deployment));
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: deployment.namespace(),
            labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_of(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// Whether an object that is not ours, or not of our template, has the name that the new set would take.
pub(super) fn collides(view: &View, name: &str) -> bool {
    view.sets.iter().any(|set| set.name_any() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_recreated_deployment_all_should_be_available() {
        let spec = serde_json::json!({
            "spec": { "replicas": 3, "strategy": { "type": "Recreate" }, "selector": {}, "template": {} },
        });
        assert_eq!(bounds(&serde_json::from_value(spec).unwrap()), (0, 0));
    }

    #[test]
    fn hashes_depend_on_template_and_collisions_only() {
        let mut template = PodTemplateSpec::default();
        let plain = template_hash(&template, None);
        assert_ne!(plain, template_hash(&template, Some(1)));
        template.metadata = Some(ObjectMeta {
            labels: Some([(HASH_LABEL.to_owned(), "x".to_owned())].into()),
            ..ObjectMeta::default()
        });
        assert_eq!(plain, template_hash(&template, None), "the hash itself does not count");
        template.metadata = Some(ObjectMeta {
            labels: Some([("app".to_owned(), "x".to_owned())].into()),
            ..ObjectMeta::default()
        });
        assert_ne!(plain, template_hash(&template, None));
    }
}
