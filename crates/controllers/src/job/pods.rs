//! The pods of a Job: what tells them apart, how they are made, and which go first.

use super::FINALIZER;
use crate::ownership::is_terminating;
use crate::plan::{Action, Announce, Create, Delete, Lists, Patch, create, delete};
use crate::pod::{COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, Phase, Pod};
use crate::pods::{from_template, node, ready_since};
use client::ObjectKey;
use client::kube::ResourceExt;
use client::kube::api::ApiResource;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A generated name has five letters of chance, and 63 at most.
const PREFIX_MAX: usize = 58;

/// Whether its end is still to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|held| held == FINALIZER)
}

pub(super) fn is_ending(pod: &Pod) -> bool {
    is_terminating(pod) && !crate::pods::is_finished(pod)
}

/// The pod's index, if it says one.
pub(super) fn index_of(pod: &Pod) -> Option<u32> {
    pod.annotations().get(COMPLETION_INDEX)?.parse().ok()
}

/// How often pods of one index have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) counted: usize,
    pub(super) ignored: usize,
}

impl Failures {
    pub(super) fn all(self) -> usize {
        self.counted.saturating_add(self.ignored)
    }
}

/// How often pods of its index failed before it; what somebody wrote there that is no number is none.
pub(super) fn failures_before(pod: &Pod) -> Failures {
    let read = |name| {
        let number = pod.annotations().get(name).and_then(|text| text.parse::<i32>().ok());
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    };
    Failures { counted: read(INDEX_FAILURES), ignored: read(INDEX_IGNORED_FAILURES) }
}

/// A pod of the Job.
pub(super) fn new_pod(job: &Job) -> core::Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = from_template(job, template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|held| held == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    pod
}

/// Makes it the pod of an index; `failures` is how often the index failed, where that is counted.
pub(super) fn give_index(pod: &mut core::Pod, job: &Job, index: u32, failures: Option<Failures>) {
    let mut name = job.name_any();
    let ending = format!("-{index}-");
    name.truncate(PREFIX_MAX - ending.len());
    pod.metadata.generate_name = Some(name + &ending);
    let annotations = pod.metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(COMPLETION_INDEX.to_owned(), index.to_string());
    if let Some(failures) = failures {
        annotations.insert(INDEX_FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(INDEX_IGNORED_FAILURES.to_owned(), failures.ignored.to_string());
        }
    }
    let labels = pod.metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.insert(COMPLETION_INDEX.to_owned(), index.to_string());
    let Some(spec) = &mut pod.spec else { return };
    spec.hostname = Some(format!("{}-{index}", job.name_any()));
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        tell_index(container);
    }
}

fn tell_index(container: &mut core::Container) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let variables = container.env.get_or_insert_with(Vec::new);
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field_path = format!("metadata.labels['{COMPLETION_INDEX}']");
    let field = core::ObjectFieldSelector { field_path, api_version: None };
    variables.push(core::EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(core::EnvVarSource { field_ref: Some(field), ..Default::default() }),
    });
}

/// Makes the pod, and says so.
pub(super) fn announced_create(job: &Job, pod: &core::Pod) -> Create {
    let mut create = create(pod);
    create.announce = Some(Announce::created(job));
    create
}

/// Takes the pod away, and says so.
pub(super) fn announced_delete(job: &Job, pod: &Pod) -> Delete {
    let mut delete = delete(pod);
    delete.announce = Some(Announce::deleted(job));
    delete
}

/// Lets go of a pod that is counted, or that nobody will count.
pub(super) fn untrack(pod: &Pod) -> Action {
    let_go(pod, json!({ "uid": pod.uid() }))
}

/// Lets go of a pod that has not ended, as it was seen: should it have ended meanwhile, its end counts, and what was decided
/// about it is decided anew.
pub(super) fn untrack_unended(pod: &Pod) -> Action {
    let_go(pod, json!({ "uid": pod.uid(), "resourceVersion": pod.resource_version() }))
}

fn let_go(pod: &Pod, mut metadata: Value) -> Action {
    metadata["$deleteFromPrimitiveList/finalizers"] = json!([FINALIZER]);
    Action::Patch(Patch {
        resource: ApiResource::erase::<Pod>(&()),
        key: ObjectKey::of(pod),
        subresource: None,
        body: json!({ "metadata": metadata }),
        lists: Lists::ByKey,
    })
}

/// Orders pods so that those to take away first come first: the least far, then the youngest.
pub(super) fn order(pods: &mut [Arc<Pod>]) {
    pods.sort_by_cached_key(|pod| {
        let stage = match pod.status.phase {
            Phase::Running => 2,
            Phase::Unknown => 1,
            _ => 0,
        };
        let ready = ready_since(pod);
        let place = (!node(pod).is_empty(), stage, ready.is_some(), Reverse(ready));
        let created = pod.creation_timestamp().map(|at| at.0);
        (place, Reverse(pod.status.restarts), Reverse(created), pod.uid())
    });
}
