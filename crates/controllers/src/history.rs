//! ControllerRevisions: what the template of a StatefulSet or a DaemonSet was, numbered, for updates and rollbacks.
//!
//! A revision holds the template as a patch that puts it back (`kubectl rollout undo` sends it as it is). The latest is the
//! one with the highest number: a template that comes back takes its old revision along under the next number.

use crate::plan::{Action, controller_of, create, patch};
use crate::template::{hash, pruned};
use client::kube::{Resource, ResourceExt};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};
use std::sync::Arc;

/// By which pods, and revisions of DaemonSets, say which template they are of.
pub(crate) const HASH_LABEL: &str = "controller-revision-hash";
/// What is in front of the hash in a revision's name is at most so long.
const PREFIX: usize = 223;

/// A kind whose templates are kept.
pub(crate) trait Versioned: Resource<DynamicType = ()> {
    /// The label by which its revisions say their hash.
    const LABEL: &'static str;

    /// The present template.
    fn template(&self) -> Option<&PodTemplateSpec>;

    /// How often a revision's name was taken by another.
    fn collisions(&self) -> Option<i32>;
}

/// The name that a revision of the present template would be given.
pub(crate) fn name_of<S: Versioned>(set: &S) -> String {
    name_and_hash(set).0
}

fn name_and_hash<S: Versioned>(set: &S) -> (String, String) {
    let collisions = set.collisions().filter(|count| *count > 0);
    let hash = hash(&pruned(&set.template()), collisions);
    let mut prefix = set.name_any();
    prefix.truncate(PREFIX);
    (format!("{prefix}-{hash}"), hash)
}

/// Orders revisions, the latest last.
pub(crate) fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by_key(|revision| (revision.revision, revision.creation_timestamp(), revision.name_any()));
}

/// The template that a revision keeps.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut kept = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    kept.as_object_mut()?.remove("$patch");
    serde_json::from_value(kept).ok()
}

/// Whether a revision keeps this template.
fn keeps(revision: &ControllerRevision, said: &Value) -> bool {
    template(revision).is_some_and(|template| pruned(&Some(template)) == *said)
}

/// The revision of the present template, once it is the latest.
pub(crate) struct Present {
    pub(crate) revision: ControllerRevision,
    /// What makes it so, unless it is.
    pub(crate) action: Option<Action>,
    /// Others of the same template, which nobody needs.
    pub(crate) same: Vec<Arc<ControllerRevision>>,
}

/// Sees to it that the present template is the latest of the set's revisions, which are sorted. `None` when the name that its
/// revision would be given is another's (`namesake`): after one more collision it is given another.
pub(crate) fn present<S: Versioned>(
    set: &S,
    revisions: &[Arc<ControllerRevision>],
    namesake: Option<&ControllerRevision>,
) -> Option<Present> {
    let said = pruned(&set.template());
    let mut same: Vec<_> = revisions.iter().filter(|revision| keeps(revision, &said)).cloned().collect();
    let latest = revisions.last();
    let next = latest.map_or(0, |latest| latest.revision).saturating_add(1);
    let Some(found) = same.pop() else {
        let revision = new(set, next);
        return namesake.is_none().then(|| Present { action: create(&revision).into(), revision, same });
    };
    let action = latest.is_some_and(|latest| latest.name_any() != found.name_any());
    let action = action.then(|| patch(&*found, json!({ "revision": next })));
    Some(Present { revision: ControllerRevision::clone(&found), action, same })
}

fn new<S: Versioned>(set: &S, number: i64) -> ControllerRevision {
    let (name, hash) = name_and_hash(set);
    let template = set.template();
    let mut labels =
        template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    labels.insert(S::LABEL.to_owned(), hash);
    let mut kept = serde_json::to_value(template).unwrap_or_default();
    kept["$patch"] = json!("replace");
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: set.meta().annotations.clone(),
            owner_references: Some(vec![controller_of(set)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(json!({ "spec": { "template": kept } }))),
        revision: number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::DaemonSet;
    use serde_json::from_value;

    fn set(image: &str) -> DaemonSet {
        from_value(json!({
            "metadata": { "name": "agent", "namespace": "x", "uid": "u", "annotations": { "why": "because" } },
            "spec": { "selector": {}, "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": { "containers": [{ "name": "c", "image": image }] },
            } },
        }))
        .unwrap()
    }

    /// As the server would keep it.
    fn stored(revision: &ControllerRevision) -> Arc<ControllerRevision> {
        from_value(serde_json::to_value(revision).unwrap()).map(Arc::new).unwrap()
    }

    #[test]
    fn a_new_template_is_a_new_revision_and_an_old_one_comes_back() {
        let (one, two) = (set("v1"), set("v2"));
        let first = present(&one, &[], None).unwrap();
        assert!(matches!(first.action, Some(Action::Create(_))));
        let first = stored(&first.revision);
        assert_eq!((first.revision, first.annotations()["why"].as_str()), (1, "because"));
        assert_eq!(first.labels()["app"], "agent");
        assert_eq!(template(&first), one.template().cloned());
        assert_eq!(first.data.as_ref().unwrap().0["spec"]["template"]["$patch"], "replace");
        assert_eq!(present(&one, std::slice::from_ref(&first), None).unwrap().action, None);
        let second = stored(&present(&two, std::slice::from_ref(&first), None).unwrap().revision);
        assert_eq!(second.revision, 2);
        let mut both = vec![second, first.clone()];
        sort(&mut both);
        let back = present(&one, &both, None).unwrap();
        let Some(Action::Patch(patch)) = back.action else { panic!("it takes the next number") };
        assert_eq!((patch.key.name, &patch.body["revision"]), (first.name_any(), &json!(3)));
    }

    #[test]
    fn a_name_that_is_taken_is_left_and_a_collision_makes_another() {
        let mut set = set("v1");
        let foreign = ControllerRevision::default();
        assert!(present(&set, &[], Some(&foreign)).is_none());
        let before = name_of(&set);
        set.status.get_or_insert_default().collision_count = Some(1);
        assert_ne!(name_of(&set), before);
    }

    #[test]
    fn of_two_that_are_the_same_the_later_counts() {
        let set = set("v1");
        let earlier = stored(&new(&set, 1));
        let later = Arc::new(ControllerRevision { revision: 4, ..new(&set, 4) });
        let found = present(&set, &[earlier.clone(), later], None).unwrap();
        assert_eq!((found.revision.revision, found.action), (4, None));
        assert_eq!(found.same, [earlier]);
    }
}
