//! A pod, in what controllers look at.
//!
//! There are more pods than all else together, and upstream's type takes 10 KB for one, most of it for what only a node ever
//! reads. So pods are read into types of our own, from the same documents: what is not named here is never made. The names
//! are upstream's; a controller that looks at more adds it here. What pods of one template have in common is kept once for
//! all of them ([`sharing`]).
//!
//! A pod is never written whole from here, or the rest would be lost: controllers patch.

use client::kube::Resource;
use client::{ObjectMeta, Sharing, Trim};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    self as core, Affinity, ContainerPort, EphemeralVolumeSource, ResourceRequirements, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// How much a pod would be missed, for whoever scales down.
pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Which of an indexed Job's pods it is.
pub(crate) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often pods of its index have failed before it.
pub(crate) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often they have in a way that does not count.
pub(crate) const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The annotations that are read.
const ANNOTATIONS: [&str; 4] = [DELETION_COST, COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES];

/// See the module.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// What every object has; of annotations no more than controllers read.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What is to run.
    #[serde(deserialize_with = "or_default")]
    pub spec: PodSpec,
    /// What became of it.
    #[serde(deserialize_with = "or_default")]
    pub status: PodStatus,
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = <core::Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        core::Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        core::Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        core::Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        core::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is to run; what it has of its [`Template`] can be asked for directly.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Template")]
pub struct PodSpec {
    /// The node that it was given to.
    pub node_name: Option<String>,
    /// The node that alone its affinity allows, by name, as for a pod of a DaemonSet.
    pub target: Option<String>,
    /// Its own name on the network.
    pub hostname: Option<String>,
    /// The volumes that are claims.
    pub volumes: Vec<Volume>,
    /// All else.
    pub template: Arc<Template>,
}

impl From<Template> for PodSpec {
    fn from(mut read: Template) -> Self {
        let mut volumes = std::mem::take(&mut read.volumes);
        volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
        volumes.shrink_to_fit();
        let (node_name, hostname) = (read.node_name.take(), read.hostname.take());
        let target = read.affinity.as_mut().and_then(take_target);
        Self { node_name, target, hostname, volumes, template: Arc::new(read) }
    }
}

/// Takes the one node's name out of an affinity that requires that node and nothing else, lest it keeps pods that are alike
/// but for their node from sharing.
fn take_target(affinity: &mut Affinity) -> Option<String> {
    let required = &mut affinity.node_affinity.as_mut()?.required_during_scheduling_ignored_during_execution;
    let [term] = &required.as_ref()?.node_selector_terms[..] else { return None };
    let (None, Some([field])) = (&term.match_expressions, term.match_fields.as_deref()) else { return None };
    let Some([name]) = field.values.as_deref() else { return None };
    let name = (field.key == "metadata.name" && field.operator == "In").then(|| name.clone())?;
    *required = None;
    Some(name)
}

impl Deref for PodSpec {
    type Target = Template;

    fn deref(&self) -> &Template {
        &self.template
    }
}

/// A volume that is a claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Among the pod's volumes.
    pub name: String,
    /// The claim, of the pod's namespace.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// How the claim is to look that is made for the pod and named after it.
    pub ephemeral: Option<Box<EphemeralVolumeSource>>,
}

/// Which claim a volume is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource {
    /// Its name.
    pub claim_name: String,
}

/// What pods that were made alike have in common.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Template {
    // A pod's own: read with the rest of its spec, and taken out of it.
    #[serde(skip_serializing)]
    node_name: Option<String>,
    #[serde(skip_serializing)]
    hostname: Option<String>,
    #[serde(skip_serializing, deserialize_with = "or_default")]
    volumes: Vec<Volume>,
    /// How long it may run.
    pub active_deadline_seconds: Option<i64>,
    /// Which nodes and neighbours it seeks.
    pub affinity: Option<Affinity>,
    /// What runs.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// What runs before, or all along beside it.
    #[serde(deserialize_with = "or_default")]
    pub init_containers: Vec<Container>,
    /// What its runtime takes for itself.
    pub overhead: Option<BTreeMap<String, Quantity>>,
    /// How important it is, by name.
    pub priority_class_name: Option<String>,
    /// What is asked for the pod as a whole.
    pub resources: Option<ResourceRequirements>,
    /// The Service that makes its hostname known.
    pub subdomain: Option<String>,
    /// Which taints it bears.
    #[serde(deserialize_with = "or_default")]
    pub tolerations: Vec<Toleration>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Among the pod's containers.
    pub name: String,
    /// What it listens on.
    pub ports: Option<Vec<ContainerPort>>,
    /// What it asks for.
    pub resources: Option<ResourceRequirements>,
    /// `Always`, of one that stays beside those that run.
    pub restart_policy: Option<String>,
}

/// What became of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Told")]
pub struct PodStatus {
    /// How far it is.
    pub phase: Phase,
    /// Its addresses, the primary one first.
    pub ips: Box<[Box<str>]>,
    /// Since when it is ready, if it is; the epoch where that is not said.
    pub ready_since: Option<Timestamp>,
    /// Since when it is about to be disrupted, by somebody other than its node; the epoch where that is not said.
    pub disrupted_since: Option<Timestamp>,
    /// Since when it is not ready, if it says that it is not; the epoch where that is not said.
    pub unready_since: Option<Timestamp>,
    /// When its node took it up.
    pub started_at: Option<Timestamp>,
    /// How often the container that failed most was started again.
    pub restarts: i32,
    /// How often containers were started again, all together.
    pub all_restarts: i32,
    /// How its containers ended, of those that have: of few pods, so it takes its room apart.
    pub end: Option<Box<End>>,
    /// What its containers hold.
    pub held: Arc<Held>,
}

/// How a pod's containers ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    /// When the last one ended, if all have.
    pub at: Option<Timestamp>,
    /// Those that ended badly, those that run before the others at the end.
    pub exits: Box<[Exit]>,
    /// Of a pod that has failed: type and status of its conditions.
    pub conditions: Box<[(Box<str>, Box<str>)]>,
}

/// A container that ended badly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Its name.
    pub container: Box<str>,
    /// Other than 0.
    pub code: i32,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Phase {
    /// Not all of its containers have been made.
    #[default]
    Pending,
    /// Its containers have been made, and not all have ended.
    Running,
    /// All containers have ended well.
    Succeeded,
    /// All containers have ended, not all of them well.
    Failed,
    /// Nobody can say.
    #[serde(other)]
    Unknown,
}

/// What containers hold, which is not what they ask for while they are resized.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(skip_serializing)]
    restart_count: i32,
    allocated_resources: Option<BTreeMap<String, Quantity>>,
    #[serde(skip_serializing)]
    state: Option<State>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct State {
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    finished_at: Option<Time>,
}

impl ContainerStatus {
    fn terminated(&self) -> Option<&Terminated> {
        self.state.as_ref()?.terminated.as_ref()
    }

    fn exit(&self) -> Option<Exit> {
        let code = self.terminated()?.exit_code;
        (code != 0).then(|| Exit { container: self.name.as_str().into(), code })
    }
}

/// A status as it is written.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Told {
    phase: Option<Phase>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pod_ips: Vec<Address>,
    start_time: Option<Time>,
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "or_default")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "or_default")]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Address {
    ip: Box<str>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: String,
    reason: Option<String>,
    last_transition_time: Option<Time>,
}

impl Condition {
    fn pair(&self) -> (Box<str>, Box<str>) {
        (self.r#type.as_str().into(), self.status.as_str().into())
    }
}

impl From<Told> for PodStatus {
    fn from(told: Told) -> Self {
        let mut ips: Vec<Box<str>> = told.pod_ips.into_iter().map(|address| address.ip).collect();
        ips.extend(told.pod_ip.filter(|ip| !ips.contains(ip)));
        ips.retain(|ip| !ip.is_empty());
        let said = |kind: &str| {
            let condition = told.conditions.iter().find(|condition| condition.r#type == kind)?;
            let at = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
            Some((at, condition.status == "True", condition.reason.as_deref().unwrap_or_default()))
        };
        let (ready, disrupted) = (said("Ready"), said("DisruptionTarget"));
        let disrupted = disrupted.filter(|(_, holds, reason)| *holds && *reason != "TerminationByKubelet");
        let conditions = match told.phase {
            Some(Phase::Failed) => told.conditions.iter().map(Condition::pair).collect(),
            _ => Box::default(),
        };
        let restarts = told.container_statuses.iter().map(|status| status.restart_count).max();
        let all = || told.container_statuses.iter().chain(&told.init_container_statuses);
        let all_restarts = all().fold(0_i32, |sum, status| sum.saturating_add(status.restart_count));
        let exits = all().filter_map(ContainerStatus::exit).collect();
        let ends =
            told.container_statuses.iter().map(|status| Some(status.terminated()?.finished_at.as_ref()?.0));
        let at = ends.collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
        let end = Some(End { at, exits, conditions }).filter(|end| *end != End::default());
        let held = |mut statuses: Vec<ContainerStatus>| {
            statuses.retain(|status| status.allocated_resources.is_some());
            for status in &mut statuses {
                (status.restart_count, status.state) = (0, None);
            }
            statuses
        };
        Self {
            phase: told.phase.unwrap_or_default(),
            ips: ips.into(),
            ready_since: ready.filter(|(_, holds, _)| *holds).map(|(at, ..)| at),
            unready_since: ready.filter(|(_, holds, _)| !*holds).map(|(at, ..)| at),
            started_at: told.start_time.map(|at| at.0),
            disrupted_since: disrupted.map(|(at, ..)| at),
            restarts: restarts.unwrap_or(0),
            all_restarts,
            end: end.map(Box::new),
            held: Arc::new(Held {
                container_statuses: held(told.container_statuses),
                init_container_statuses: held(told.init_container_statuses),
            }),
        }
    }
}

/// Has pods share what they have in common.
pub(crate) fn sharing() -> Trim<Pod> {
    let (mut templates, mut held) = (Sharing::default(), Sharing::default());
    Box::new(move |pod: &mut Pod| {
        pod.spec.template = templates.share(std::mem::take(&mut pod.spec.template));
        pod.status.held = held.share(std::mem::take(&mut pod.status.held));
    })
}

/// `null` is as good as nothing, as everywhere in the API.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(reader: D) -> Result<T, D::Error> {
    Option::deserialize(reader).map(Option::unwrap_or_default)
}

/// Metadata without who manages what, and without what is only for people to read.
fn metadata<'de, D: Deserializer<'de>>(reader: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Metadata {
        annotations: Option<BTreeMap<String, String>>,
        creation_timestamp: Option<Time>,
        deletion_grace_period_seconds: Option<i64>,
        deletion_timestamp: Option<Time>,
        finalizers: Option<Vec<String>>,
        labels: Option<BTreeMap<String, String>>,
        name: Option<String>,
        namespace: Option<String>,
        owner_references: Option<Vec<OwnerReference>>,
        resource_version: Option<String>,
        uid: Option<String>,
    }
    let mut read = Metadata::deserialize(reader)?;
    read.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    let mut annotations = read.annotations.unwrap_or_default();
    annotations.retain(|name, _| ANNOTATIONS.contains(&name.as_str()));
    Ok(ObjectMeta {
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        creation_timestamp: read.creation_timestamp,
        deletion_grace_period_seconds: read.deletion_grace_period_seconds,
        deletion_timestamp: read.deletion_timestamp,
        finalizers: read.finalizers,
        labels: read.labels,
        name: read.name,
        namespace: read.namespace,
        owner_references: read.owner_references,
        resource_version: read.resource_version,
        uid: read.uid,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn pod(name: &str) -> Value {
        json!({
            "metadata": { "name": name, "namespace": "x", "uid": name, "labels": { "app": "web" },
                "annotations": { DELETION_COST: "7", "example.com/other": "long" },
                "managedFields": [{ "manager": "someone", "fieldsV1": { "f:spec": {} } }] },
            "spec": {
                "nodeName": "n", "hostname": name, "subdomain": null, "tolerations": null,
                "containers": [{ "name": "c", "image": "i", "env": [{ "name": "A", "value": "b" }],
                    "ports": [{ "name": "http", "containerPort": 80 }], "resources": { "requests": { "cpu": "1" } } }],
                "volumes": [{ "name": format!("token-{name}"), "projected": {} },
                    { "name": "data", "persistentVolumeClaim": { "claimName": "disk" } }],
            },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
                "conditions": [{ "type": "Initialized", "status": "True" },
                    { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z" }],
                "containerStatuses": [{ "name": "c", "restartCount": 3, "allocatedResources": { "cpu": "2" } }] },
        })
    }

    #[test]
    fn what_controllers_look_at_is_read() {
        let pod: Pod = from_value(pod("a")).unwrap();
        assert_eq!(pod.metadata.annotations, Some([(DELETION_COST.to_owned(), "7".to_owned())].into()));
        assert!(pod.metadata.managed_fields.is_none());
        assert_eq!((pod.spec.node_name.as_deref(), pod.spec.hostname.as_deref()), (Some("n"), Some("a")));
        assert_eq!(pod.spec.volumes.len(), 1);
        assert_eq!(pod.spec.containers[0].ports.as_ref().unwrap()[0].container_port, 80);
        assert_eq!(*pod.status.ips, ["10.0.0.1".into(), "fd00::1".into()]);
        assert_eq!((pod.status.phase, pod.status.restarts), (Phase::Running, 3));
        assert_eq!(pod.status.ready_since, Some("2026-01-02T03:04:05Z".parse().unwrap()));
        assert_eq!(pod.status.disrupted_since, None);
        let disrupted = |reason: &str| {
            let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": reason });
            let pod: Pod = from_value(json!({ "status": { "conditions": [condition] } })).unwrap();
            pod.status.disrupted_since
        };
        assert_eq!(disrupted("EvictionByEvictionAPI"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(disrupted("TerminationByKubelet"), None, "its node will see to it");
        assert_eq!(pod.status.end, None, "kept of those that failed alone");
        let unheard: Pod = from_value(json!({ "spec": null, "status": { "phase": "Lost" } })).unwrap();
        assert_eq!((unheard.status.phase, unheard.status.ready_since), (Phase::Unknown, None));
    }

    #[test]
    fn how_a_pod_ended_is_read() {
        let ended = |code: i32, at: &str| json!({ "terminated": { "exitCode": code, "finishedAt": at } });
        let mut one = pod("a");
        one["metadata"]["annotations"][COMPLETION_INDEX] = json!("4");
        one["status"]["phase"] = json!("Failed");
        one["status"]["containerStatuses"] = json!([
            { "name": "c", "restartCount": 3, "state": ended(7, "2026-01-02T03:04:05Z") },
            { "name": "d", "restartCount": 1, "state": ended(0, "2026-01-02T03:04:09Z") },
        ]);
        let read: Pod = from_value(one.clone()).unwrap();
        let end = read.status.end.unwrap();
        assert_eq!(*end.exits, [Exit { container: "c".into(), code: 7 }]);
        assert_eq!(end.at, Some("2026-01-02T03:04:09Z".parse().unwrap()));
        assert_eq!((read.status.all_restarts, read.status.restarts), (4, 3));
        assert_eq!(end.conditions[1], ("Ready".into(), "True".into()));
        assert_eq!(read.metadata.annotations.unwrap().len(), 2);
        one["status"]["containerStatuses"][1]["state"] = json!({ "running": {} });
        assert_eq!(from_value::<Pod>(one).unwrap().status.end.unwrap().at, None, "one still runs");
    }

    #[test]
    fn pods_of_one_template_share_it() {
        let mut share = sharing();
        let mut read = |name: &str, more: Value| {
            let mut document = pod(name);
            testkit::merge(&mut document, &more);
            let mut pod: Pod = from_value(document).unwrap();
            share(&mut pod);
            pod
        };
        let (a, b) = (read("a", json!({})), read("b", json!({ "spec": { "nodeName": "m" } })));
        assert!(
            Arc::ptr_eq(&a.spec.template, &b.spec.template) && Arc::ptr_eq(&a.status.held, &b.status.held)
        );
        assert_eq!((a.spec.hostname.as_deref(), b.spec.hostname.as_deref()), (Some("a"), Some("b")));
        let c = read("c", json!({ "spec": { "subdomain": "other" } }));
        assert!(!Arc::ptr_eq(&a.spec.template, &c.spec.template));
        let daemon = |node: &str| {
            let fields = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
            let terms = json!({ "nodeSelectorTerms": [{ "matchFields": fields }] });
            let affinity = json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms });
            json!({ "spec": { "affinity": { "nodeAffinity": affinity } } })
        };
        let (n, m) = (read("d", daemon("n")), read("e", daemon("m")));
        assert!(Arc::ptr_eq(&n.spec.template, &m.spec.template));
        assert_eq!((n.spec.target.as_deref(), m.spec.target.as_deref()), (Some("n"), Some("m")));
    }
}
