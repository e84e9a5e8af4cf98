//! What each ResourceQuota's namespace uses, counted: admission reserves in the same status, and this finds what it reserved
//! for nothing, and what has gone.
//!
//! A count may be taken between a reservation and the write that it is for. So it raises what is used at once, but lowers it
//! only when nobody has reserved anything for a while.

use crate::plan::{Plan, patch_status};
use crate::pod::Pod;
use crate::pods::is_finished;
use crate::world::Readable;
use crate::{Controller, World};
use api::quota::{Amounts, add, concerns, selects, tree, usage};
use apimachinery::gvk::GroupResource;
use async_trait::async_trait;
use client::discovery::served;
use client::kube::api::{Api, ApiResource, DynamicObject, ListParams};
use client::kube::{Client, Error, ResourceExt};
use client::{Change, ObjectKey, Reader, WorkQueue, by_namespace};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use serde_json::{Value, json, to_value};
use std::collections::BTreeMap;
use std::sync::Arc;

const PODS: GroupResource = GroupResource::of("", "pods");
const SERVICES: GroupResource = GroupResource::of("", "services");
const CLAIMS: GroupResource = GroupResource::of("", "persistentvolumeclaims");
/// Resources that quotas have always counted under their own name, beside those above.
const COUNTED: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// How long a lower count must stand before it counts: a write follows its reservation within moments.
const STANDS: SignedDuration = SignedDuration::from_secs(1);
/// How often everything is counted again, for pods that are overdue.
const AGAIN: SignedDuration = SignedDuration::from_mins(5);
/// How often objects are counted that nothing tells of.
const POLL: SignedDuration = SignedDuration::from_secs(5);

/// The controller; see the module.
pub struct Quotas {
    quotas: Reader<ResourceQuota>,
    pods: Reader<Pod>,
    services: Reader<Service>,
    claims: Reader<PersistentVolumeClaim>,
    client: Client,
}

/// What it looks at.
#[derive(Default)]
pub struct View {
    /// The quota, unless it is gone.
    pub quota: Option<Arc<ResourceQuota>>,
    /// The objects of its namespace that take more than their place.
    pub objects: Vec<(GroupResource, Value)>,
    /// How many there are of others, by the name that the quota counts them under.
    pub counts: BTreeMap<String, i64>,
}

/// A lower count, of which version of the quota, and since when.
type Lower = Option<(String, Timestamp)>;

impl Quotas {
    fn follow<K: Readable>(
        reader: &Reader<K>,
        quotas: &Reader<ResourceQuota>,
        queue: &Arc<WorkQueue<ObjectKey>>,
        matters: fn(&Change<K>) -> bool,
    ) {
        reader.informer().index_by(by_namespace());
        let (add, quotas) = (queue.clone(), quotas.clone());
        reader.informer().on_change(move |change| {
            if matters(change) {
                let namespace = change.object().namespace().unwrap_or_default();
                for quota in quotas.informer().store().by_index("namespace", &namespace) {
                    add.add(ObjectKey::of(&*quota));
                }
            }
        });
    }
}

/// Whether a pod came, went, ended, is told to go, or asks for something else.
fn pod_matters(change: &Change<Pod>) -> bool {
    let facts = |pod: &Arc<Pod>| {
        let asked = (pod.spec.template.clone(), pod.status.held.clone());
        (is_finished(pod), pod.metadata.deletion_timestamp.clone(), asked)
    };
    change.before().map(facts) != change.after().map(facts)
}

/// What a quota looks at of a pod.
fn tree_of_pod(pod: &Pod) -> Value {
    let mut status = to_value(&*pod.status.held).unwrap_or_default();
    status["phase"] = json!(pod.status.phase);
    let metadata = json!({
        "deletionTimestamp": pod.metadata.deletion_timestamp,
        "deletionGracePeriodSeconds": pod.metadata.deletion_grace_period_seconds,
    });
    json!({ "metadata": metadata, "spec": &*pod.spec.template, "status": status })
}

fn trees<K: Serialize>(resource: &GroupResource, objects: &[Arc<K>]) -> Vec<(GroupResource, Value)> {
    // What the API's own types serialise to cannot fail to be JSON.
    objects.iter().map(|object| (resource.clone(), to_value(&**object).unwrap_or_default())).collect()
}

/// The names that the quota limits.
fn hard(quota: &ResourceQuota) -> impl Iterator<Item = (&String, &Quantity)> {
    quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten())
}

/// Whether objects are counted that no informer holds.
fn is_polled(name: &str) -> bool {
    let known = [&PODS, &SERVICES, &CLAIMS];
    !known.iter().any(|resource| concerns(resource, name))
        && (COUNTED.contains(&name) || name.starts_with("count/"))
}

#[async_trait]
impl Controller for Quotas {
    const NAME: &'static str = "resourcequota-controller";
    type Key = ObjectKey;
    type View = View;
    type Memory = Lower;

    fn wire(world: &World, queue: &Arc<WorkQueue<ObjectKey>>) -> Self {
        let quotas = world.reader::<ResourceQuota>();
        quotas.informer().index_by(by_namespace());
        let add = queue.clone();
        quotas.informer().on_change(move |change| add.add(ObjectKey::of(&**change.object())));
        let (pods, services) = (world.pods(), world.reader::<Service>());
        let claims = world.reader::<PersistentVolumeClaim>();
        Self::follow(&pods, &quotas, queue, pod_matters);
        Self::follow(&services, &quotas, queue, |_| true);
        Self::follow(&claims, &quotas, queue, |_| true);
        Self { quotas, pods, services, claims, client: world.client().clone() }
    }

    fn view(&self, key: &ObjectKey) -> View {
        let Some(quota) = self.quotas.get(key) else { return View::default() };
        let limits = |resource: &GroupResource| hard(&quota).any(|(name, _)| concerns(resource, name));
        let mut objects = Vec::new();
        if limits(&PODS) {
            let pods = self.pods.by_index("namespace", &key.namespace);
            objects.extend(pods.iter().map(|pod| (PODS.clone(), tree_of_pod(pod))));
        }
        if limits(&SERVICES) {
            objects.extend(trees(&SERVICES, &self.services.by_index("namespace", &key.namespace)));
        }
        if limits(&CLAIMS) {
            objects.extend(trees(&CLAIMS, &self.claims.by_index("namespace", &key.namespace)));
        }
        View { quota: Some(quota), objects, counts: BTreeMap::new() }
    }

    /// Counts what no informer holds: the server says how many there are with the first of them.
    async fn observe(&self, key: &ObjectKey, view: &mut View) -> Result<(), Error> {
        let Some(quota) = &view.quota else { return Ok(()) };
        let polled: Vec<&String> = hard(quota).map(|(name, _)| name).filter(|name| is_polled(name)).collect();
        if polled.is_empty() {
            return Ok(());
        }
        for kind in served(&self.client).await?.into_iter().filter(|kind| kind.namespaced) {
            let ApiResource { group, plural, .. } = &kind.resource;
            let resource = GroupResource::new(group.clone(), plural.clone());
            let names: Vec<&&String> = polled.iter().filter(|name| concerns(&resource, name)).collect();
            if names.is_empty() || !kind.supports(&["list"]) {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &key.namespace, &kind.resource);
            let page = api.list_metadata(&ListParams::default().limit(1)).await?;
            let first = i64::try_from(page.items.len()).unwrap_or(i64::MAX);
            let count = first.saturating_add(page.metadata.remaining_item_count.unwrap_or(0));
            view.counts.extend(names.into_iter().map(|name| ((*name).clone(), count)));
        }
        Ok(())
    }

    fn plan(_: &ObjectKey, view: &View, lower: &Lower, now: Timestamp) -> Plan<Lower> {
        let mut plan = Plan::default();
        let Some(quota) = view.quota.as_deref() else { return plan };
        if quota.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        let polls = hard(quota).any(|(name, _)| is_polled(name));
        plan.look_again(now.checked_add(if polls { POLL } else { AGAIN }).ok());
        let tree_of_quota = to_value(quota).unwrap_or_default();
        let used = count(quota, &tree_of_quota, view, now);
        let status = |field: &str| api::quota::amounts(tree_of_quota.pointer(&format!("/status/{field}")));
        let wanted = api::quota::amounts(tree_of_quota.pointer("/spec/hard"));
        if status("hard") == wanted && status("used") == used {
            return plan;
        }
        let falls =
            status("used").iter().any(|(name, before)| used.get(name).is_some_and(|now| now < before));
        if status("hard") == wanted && falls {
            let version = quota.resource_version().unwrap_or_default();
            let since =
                lower.as_ref().filter(|(known, _)| *known == version).map_or(now, |(_, since)| *since);
            let stands = since.checked_add(STANDS).unwrap_or(now);
            if now < stands {
                plan.look_again(stands);
                plan.memory = Some(Some((version, since)));
                return plan;
            }
        }
        let body = json!({
            "hard": replaced(&status("hard"), &wanted),
            "used": replaced(&status("used"), &used),
        });
        plan.then(patch_status(quota, body));
        plan
    }
}

/// A merge patch that leaves nothing but the new amounts.
fn replaced(before: &Amounts, after: &Amounts) -> Value {
    let mut patch = tree(after);
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch[name] = Value::Null;
    }
    patch
}

/// What is used of everything that the quota limits and somebody can count.
fn count(quota: &ResourceQuota, tree: &Value, view: &View, now: Timestamp) -> Amounts {
    let mut all = Amounts::new();
    for (resource, object) in view.objects.iter().filter(|(resource, object)| selects(tree, resource, object))
    {
        add(&mut all, &usage(resource, object, now));
    }
    let scoped = GroupResource::of("", "");
    // Only pods and claims are in a scope.
    let counts = view.counts.iter().filter(|_| selects(tree, &scoped, &Value::Null));
    all.extend(
        counts.map(|(name, count)| (name.clone(), apimachinery::quantity::Quantity::from_units(*count))),
    );
    let is_known = |name: &str| {
        [&PODS, &SERVICES, &CLAIMS].iter().any(|resource| concerns(resource, name))
            || view.counts.contains_key(name)
    };
    let limited = hard(quota).map(|(name, _)| name).filter(|name| is_known(name));
    limited.map(|name| (name.clone(), all.get(name).copied().unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::from_value;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn view(spec: Value, status: Value, pods: usize) -> View {
        let metadata = json!({ "name": "q", "namespace": "x", "resourceVersion": "7" });
        let quota = json!({ "metadata": metadata, "spec": spec, "status": status });
        let pod = json!({ "spec": { "containers": [{ "resources": { "requests": { "cpu": "300m" } } }] } });
        View {
            quota: Some(Arc::new(from_value(quota).unwrap())),
            objects: vec![(PODS, pod); pods],
            counts: BTreeMap::from([("count/deployments.apps".to_owned(), 4)]),
        }
    }

    fn written(plan: &Plan<Lower>) -> Option<Value> {
        plan.actions.first().map(|action| match action {
            Action::Patch(patch) => patch.body["status"].clone(),
            other => panic!("{other:?}"),
        })
    }

    fn key() -> ObjectKey {
        ObjectKey::new("x", "q")
    }

    #[test]
    fn everything_that_is_limited_is_counted() {
        let hard = json!({ "cpu": "2", "pods": "5", "services": "1", "count/deployments.apps": "9", "count/x.y": "1" });
        let plan = Quotas::plan(&key(), &view(json!({ "hard": hard }), json!({}), 2), &None, at(0));
        let used = json!({ "cpu": "600m", "pods": "2", "services": "0", "count/deployments.apps": "4" });
        assert_eq!(written(&plan), Some(json!({ "hard": hard, "used": used })));
        assert_eq!(plan.requeue_at, Some(at(5)), "deployments are asked for");
        let limits = json!({ "hard": { "pods": "5", "services": "1" }, "scopes": ["NotBestEffort"] });
        let plan = Quotas::plan(&key(), &view(limits, json!({}), 2), &None, at(0));
        assert_eq!(written(&plan).unwrap()["used"], json!({ "pods": "2", "services": "0" }));
        assert_eq!(plan.requeue_at, Some(at(300)));
    }

    #[test]
    fn of_a_pod_is_read_what_a_quota_looks_at() {
        let container = |name: &str, cpu: &str| json!({ "name": name, "image": "i", "resources": { "requests": { "cpu": cpu }, "limits": { "memory": "1Gi" } } });
        let mut sidecar = container("s", "1");
        sidecar["restartPolicy"] = json!("Always");
        let term = json!({ "topologyKey": "zone", "namespaces": ["y"] });
        let whole = json!({
            "metadata": { "name": "p", "deletionTimestamp": "2025-12-31T23:59:59Z", "deletionGracePeriodSeconds": 30 },
            "spec": {
                "activeDeadlineSeconds": 5, "priorityClassName": "high", "overhead": { "cpu": "10m" },
                "containers": [container("a", "200m")], "initContainers": [sidecar, container("b", "3")],
                "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } },
            },
            "status": { "phase": "Running", "containerStatuses": [
                { "name": "a", "restartCount": 2, "allocatedResources": { "cpu": "5" } }] },
        });
        let read = tree_of_pod(&from_value(whole.clone()).unwrap());
        let mut ended = whole.clone();
        ended["status"]["phase"] = json!("Failed");
        for (second, whole, read) in [
            (0, &whole, &read),
            (60, &whole, &read),
            (0, &ended, &tree_of_pod(&from_value(ended.clone()).unwrap())),
        ] {
            assert_eq!(usage(&PODS, read, at(second)), usage(&PODS, whole, at(second)));
        }
        for scope in ["Terminating", "BestEffort", "PriorityClass", "CrossNamespacePodAffinity"] {
            let quota = json!({ "spec": { "scopes": [scope] } });
            assert_eq!(selects(&quota, &PODS, &read), selects(&quota, &PODS, &whole), "{scope}");
        }
        let high = json!({ "spec": { "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] } } });
        assert!(selects(&high, &PODS, &read));
    }

    #[test]
    fn a_lower_count_must_stand() {
        let (spec, counted) = (
            json!({ "hard": { "pods": "5" } }),
            |pods: &str| json!({ "hard": { "pods": "5" }, "used": { "pods": pods } }),
        );
        let raised = Quotas::plan(&key(), &view(spec.clone(), counted("1"), 2), &None, at(0));
        assert_eq!(written(&raised).unwrap()["used"], json!({ "pods": "2" }));
        let lower = view(spec.clone(), counted("3"), 2);
        let first = Quotas::plan(&key(), &lower, &None, at(0));
        assert_eq!((written(&first), first.requeue_at), (None, Some(at(1))));
        let early = Quotas::plan(&key(), &lower, first.memory.as_ref().unwrap(), at(0));
        assert_eq!(written(&early), None);
        let second = Quotas::plan(&key(), &lower, first.memory.as_ref().unwrap(), at(1));
        assert_eq!(written(&second).unwrap()["used"], json!({ "pods": "2" }));
        let other = Some(("6".to_owned(), at(0)));
        assert_eq!(written(&Quotas::plan(&key(), &lower, &other, at(9))), None, "somebody reserved since");
        let settled = Quotas::plan(&key(), &view(spec, counted("2"), 2), &None, at(0));
        assert_eq!(written(&settled), None);
    }

    #[test]
    fn what_is_limited_no_more_is_forgotten() {
        let status = json!({ "hard": { "pods": "5", "cpu": "1" }, "used": { "pods": "0", "cpu": "0" } });
        let plan = Quotas::plan(&key(), &view(json!({ "hard": { "pods": "5" } }), status, 0), &None, at(0));
        let expected = json!({ "hard": { "pods": "5", "cpu": null }, "used": { "pods": "0", "cpu": null } });
        assert_eq!(written(&plan), Some(expected));
    }
}
