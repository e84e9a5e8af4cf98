//! Namespaces that are being deleted: first their contents, whatever the kind, then they themselves.

use crate::plan::{Action, Plan, patch_status};
use crate::{Controller, World};
use async_trait::async_trait;
use client::discovery::{Served, served};
use client::kube::api::{Api, DynamicObject, ListParams};
use client::kube::{Client, Error, ResourceExt};
use client::write::is_not_found;
use client::{ObjectKey, Reader, WorkQueue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const FINALIZER: &str = "kubernetes";
/// Looked through for finalizers; what is beyond is only counted.
const PAGE: u32 = 500;

/// The controller; see the module. Keys are names of namespaces.
pub struct Namespaces {
    namespaces: Reader<Namespace>,
    client: Client,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The namespace, unless it is gone.
    pub namespace: Option<Arc<Namespace>>,
    /// What is left in it; asked of the server while it is being deleted.
    pub contents: Vec<Contents>,
}

/// The objects of one kind that are left.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The kind.
    pub kind: Served,
    /// How many.
    pub count: usize,
    /// How many of them have not been told to go.
    pub untold: usize,
    /// What holds those that have, and how many.
    pub finalizers: BTreeMap<String, usize>,
}

/// How often in a row it was looked through.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    looks: u32,
}

#[async_trait]
impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    type Key = String;
    type View = View;
    type Memory = Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<String>>) -> Self {
        let namespaces = world.reader::<Namespace>();
        let add = queue.clone();
        namespaces.informer().on_change(move |change| {
            if change.after().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
                add.add(change.object().name_any());
            }
        });
        Self { namespaces, client: world.client().clone() }
    }

    fn view(&self, name: &String) -> View {
        View { namespace: self.namespaces.get(&ObjectKey::cluster(name)), contents: Vec::new() }
    }

    async fn observe(&self, name: &String, view: &mut View) -> Result<(), Error> {
        if view.namespace.as_deref().is_some_and(is_ours_to_empty) {
            let kinds = served(&self.client).await?;
            for kind in kinds.into_iter().filter(|kind| kind.namespaced && kind.supports(&["list", "delete"]))
            {
                view.contents.extend(self.contents(name, kind).await?);
            }
        }
        Ok(())
    }

    fn plan(_name: &String, view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
        plan(view, memory, now)
    }
}

fn is_ours_to_empty(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == FINALIZER))
}

impl Namespaces {
    async fn contents(&self, namespace: &str, kind: Served) -> Result<Option<Contents>, Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let list = match api.list_metadata(&ListParams::default().limit(PAGE)).await {
            Ok(list) => list,
            // A kind that went away between discovery and now has no objects.
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if list.items.is_empty() {
            return Ok(None);
        }
        let beyond =
            list.metadata.remaining_item_count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let mut finalizers = BTreeMap::new();
        for finalizer in list.items.iter().flat_map(|item| item.finalizers()) {
            *finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        let untold =
            list.items.iter().filter(|item| item.metadata.deletion_timestamp.is_none()).count() + beyond;
        Ok(Some(Contents { kind, count: list.items.len() + beyond, untold, finalizers }))
    }
}

/// Decides what to do about one namespace; pure.
pub fn plan(view: &View, memory: &Memory, now: Timestamp) -> Plan<Memory> {
    let mut plan = Plan::default();
    let Some(namespace) = view.namespace.as_deref().filter(|namespace| is_ours_to_empty(namespace)) else {
        return plan;
    };
    if view.contents.is_empty() {
        let mut last = namespace.clone();
        if let Some(finalizers) = last.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        plan.then(Action::Finalize { namespace: Box::new(last) });
        return plan;
    }
    let conditions = conditions(namespace, view, now);
    let status = namespace.status.as_ref();
    let terminating = status.and_then(|status| status.phase.as_deref()) == Some("Terminating");
    if !terminating || status.and_then(|status| status.conditions.as_ref()) != Some(&conditions) {
        plan.then(patch_status(namespace, json!({ "phase": "Terminating", "conditions": conditions })));
    }
    // Pods go first, while the policies that guard them and the secrets that they use still stand.
    let pods = |contents: &Contents| contents.kind.group_resource() == "pods";
    let only_pods = view.contents.iter().any(pods);
    let now_due = |contents: &&Contents| contents.untold > 0 && (pods(contents) || !only_pods);
    for contents in view.contents.iter().filter(now_due) {
        let (resource, namespace) = (contents.kind.resource.clone(), namespace.name_any());
        plan.then(Action::DeleteAll { resource, namespace });
    }
    // Nobody tells when the last of any kind is gone: look again, first soon, then every five seconds.
    let wait = SignedDuration::from_millis(100 << memory.looks.min(5)).min(SignedDuration::from_secs(5));
    plan.look_again(now.checked_add(wait).ok());
    plan.memory = Some(Memory { looks: memory.looks.saturating_add(1) });
    plan
}

/// What is left and why, in upstream's words.
fn conditions(namespace: &Namespace, view: &View, now: Timestamp) -> Vec<NamespaceCondition> {
    let remaining: Vec<_> = view
        .contents
        .iter()
        .map(|contents| {
            format!("{} has {} resource instances", contents.kind.group_resource(), contents.count)
        })
        .collect();
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in view.contents.iter().flat_map(|contents| &contents.finalizers) {
        *held.entry(finalizer).or_default() += count;
    }
    let held: Vec<_> = held
        .into_iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let content = format!("Some resources are remaining: {}", remaining.join(", "));
    let finalizers = match held.is_empty() {
        true => ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned()),
        false => {
            let message =
                format!("Some content in the namespace has finalizers remaining: {}", held.join(", "));
            ("True", "SomeFinalizersRemain", message)
        }
    };
    let deleted = "All content successfully deleted, may be waiting on finalization".to_owned();
    let table = [
        (
            "NamespaceDeletionDiscoveryFailure",
            ("False", "ResourcesDiscovered", "All resources successfully discovered".to_owned()),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            ("False", "ParsedGroupVersions", "All legacy kube types successfully parsed".to_owned()),
        ),
        ("NamespaceDeletionContentFailure", ("False", "ContentDeleted", deleted)),
        ("NamespaceContentRemaining", ("True", "SomeResourcesRemain", content)),
        ("NamespaceFinalizersRemaining", finalizers),
    ];
    let before = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let since = |kind: &str, value: &str| {
        let same = before.clone().find(|condition| condition.type_ == kind && condition.status == value);
        same.and_then(|condition| condition.last_transition_time.clone()).unwrap_or(Time(now))
    };
    table
        .into_iter()
        .map(|(kind, (value, reason, message))| NamespaceCondition {
            last_transition_time: Some(since(kind, value)),
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::kube::api::ApiResource;
    use serde_json::from_value;

    fn contents(plural: &str, untold: usize) -> Contents {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: plural.into(),
            plural: plural.into(),
        };
        let kind = Served { resource, namespaced: true, verbs: Vec::new() };
        Contents { kind, count: 2, untold, finalizers: BTreeMap::new() }
    }

    /// What is told to go.
    fn check(left: &[(&str, usize)], expected: &[&str]) {
        let namespace = json!({
            "metadata": { "name": "x", "uid": "x", "deletionTimestamp": "2026-01-02T03:04:05Z" },
            "spec": { "finalizers": [FINALIZER] },
        });
        let view = View {
            namespace: Some(Arc::new(from_value(namespace).unwrap())),
            contents: left.iter().map(|(plural, untold)| contents(plural, *untold)).collect(),
        };
        let planned = plan(&view, &Memory::default(), Timestamp::UNIX_EPOCH);
        let told = planned.actions.iter().filter_map(|action| match action {
            Action::DeleteAll { resource, .. } => Some(resource.plural.as_str()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), expected, "{left:?}");
        assert!(planned.requeue_at.is_some());
    }

    #[test]
    fn pods_go_before_all_else() {
        check(&[("configmaps", 2), ("pods", 1), ("secrets", 2)], &["pods"]);
        check(&[("configmaps", 2), ("pods", 0), ("secrets", 2)], &[]);
        check(&[("configmaps", 2), ("secrets", 0)], &["configmaps"]);
    }
}
