//! What the scheduler must know of a pod, worked out once when the pod is first seen.

use crate::amounts::Amounts;
use crate::census::PodClass;
use crate::terms::{Labels, Spread, Terms};
use client::Sharing;
use client::kube::ResourceExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Affinity, Container, Pod, PodSpec, ResourceRequirements, Toleration};
use serde::Serialize;
use std::ops::Deref;
use std::sync::Arc;

/// What a container that asks for nothing is taken to need when nodes are compared (not when they are filtered).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// A port of the node that a pod takes: address (or all), protocol, number.
pub(crate) type HostPort = (String, String, i32);

/// A claim by namespace and name.
pub(crate) type ClaimKey = (String, String);

/// A pod as the scheduler sees it; what it needs can be asked for directly.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    pub(crate) uid: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Box<str>,
    pub(crate) node_name: Option<Arc<str>>,
    /// The node on which room is being made for it.
    pub(crate) nominated: Option<Arc<str>>,
    /// When it began to run, or was made.
    pub(crate) since: Timestamp,
    /// It is going because another was to have its place.
    pub(crate) preempted: bool,
    pub(crate) class: Arc<PodClass>,
    pub(crate) needs: Arc<Needs>,
}

/// What a pod needs of a node, as others of its template do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Needs {
    pub(crate) scheduler_name: String,
    pub(crate) priority: i32,
    /// Its `preemptionPolicy` is `Never`.
    pub(crate) lets_others_be: bool,
    pub(crate) requests: Amounts,
    /// As `requests`, with a guess for containers that ask for nothing: milli-CPU and memory.
    pub(crate) likely: (i64, i64),
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) node_selector: Labels,
    /// That to nodes alone.
    pub(crate) affinity: Option<Affinity>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) spread: Vec<Spread>,
    pub(crate) images: Vec<String>,
    pub(crate) claims: Vec<ClaimUse>,
    /// Kind and name of its controller.
    pub(crate) controller: Option<(String, String)>,
}

/// A volume that comes from a claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) enum ClaimUse {
    /// By its name.
    Named(String),
    /// Made for the pod, under its name and that of the volume.
    Own(String),
}

impl Deref for PodFacts {
    type Target = Needs;

    fn deref(&self) -> &Needs {
        &self.needs
    }
}

impl PodFacts {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let status = pod.status.as_ref();
        let started = status.and_then(|status| status.start_time.as_ref());
        let nominated = status.and_then(|status| status.nominated_node_name.as_deref());
        let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        let terminating = pod.metadata.deletion_timestamp.is_some();
        Self {
            uid: pod.uid().unwrap_or_default().into(),
            namespace: pod.namespace().unwrap_or_default().into(),
            name: pod.name_any().into(),
            node_name: spec.node_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            nominated: nominated.filter(|name| !name.is_empty()).map(Arc::from),
            since: started
                .or(pod.metadata.creation_timestamp.as_ref())
                .map(|time| time.0)
                .unwrap_or_default(),
            preempted: terminating
                && conditions.any(|condition| condition.reason.as_deref() == Some("PreemptionByScheduler")),
            class: Arc::new(PodClass {
                namespace: pod.namespace().unwrap_or_default(),
                labels: pod.labels().clone(),
                terminating,
                terms: Terms::of(pod),
            }),
            needs: Arc::new(needs(pod, spec)),
        }
    }

    /// The claims that its volumes come from.
    pub(crate) fn claim_keys(&self) -> impl Iterator<Item = ClaimKey> {
        self.claims.iter().map(|claim| {
            let name = match claim {
                ClaimUse::Named(name) => name.clone(),
                ClaimUse::Own(volume) => format!("{}-{volume}", self.name),
            };
            (self.namespace.to_string(), name)
        })
    }

    /// Whether nothing that decides where it may go differs.
    pub(crate) fn asks_the_same_as(&self, other: &Self) -> bool {
        self.needs == other.needs && self.class == other.class
    }
}

fn needs(pod: &Pod, spec: &PodSpec) -> Needs {
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let affinity = spec.affinity.clone().filter(|affinity| affinity.node_affinity.is_some());
    let likely = needed(spec, &likely_requests);
    Needs {
        scheduler_name: spec.scheduler_name.clone().unwrap_or_else(|| "default-scheduler".to_owned()),
        priority: spec.priority.unwrap_or(0),
        lets_others_be: spec.preemption_policy.as_deref() == Some("Never"),
        requests: needed(spec, &requests),
        likely: (likely.milli_cpu, likely.memory),
        host_ports: host_ports(spec),
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        affinity: affinity.map(|a| Affinity { node_affinity: a.node_affinity, ..Affinity::default() }),
        tolerations: spec.tolerations.clone().unwrap_or_default(),
        spread: Spread::all(pod),
        images: images(spec),
        claims: claims(spec),
        controller: controller.map(|owner| (owner.kind.clone(), owner.name.clone())),
    }
}

/// What the facts of many pods have in common, once.
#[derive(Default)]
pub(crate) struct Common {
    needs: Sharing<Needs>,
    classes: Sharing<PodClass>,
    names: Sharing<str>,
}

impl Common {
    pub(crate) fn share(&mut self, facts: PodFacts) -> PodFacts {
        let mut name = |name| self.names.share(name);
        PodFacts {
            namespace: name(facts.namespace),
            node_name: facts.node_name.map(&mut name),
            class: self.classes.share(facts.class),
            needs: self.needs.share(facts.needs),
            ..facts
        }
    }
}

fn claims(spec: &PodSpec) -> Vec<ClaimUse> {
    let volumes = spec.volumes.iter().flatten();
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
        let own = || volume.ephemeral.is_some().then(|| ClaimUse::Own(volume.name.clone()));
        named.map(ClaimUse::Named).or_else(own)
    };
    volumes.filter_map(claim).collect()
}

/// The images of containers and volumes, with the tag that is meant where none is given.
fn images(spec: &PodSpec) -> Vec<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.clone());
    let images = containers.filter_map(|container| container.image.clone()).chain(volumes);
    let tagged =
        |image: String| if image.rfind(':') > image.rfind('/') { image } else { format!("{image}:latest") };
    images.filter(|image| !image.is_empty()).map(tagged).collect()
}

fn requests(resources: Option<&ResourceRequirements>) -> Amounts {
    Amounts::of(resources.and_then(|resources| resources.requests.as_ref()).into_iter().flatten())
}

fn likely_requests(resources: Option<&ResourceRequirements>) -> Amounts {
    let given = resources.and_then(|resources| resources.requests.as_ref());
    let mut amounts = requests(resources);
    if given.is_none_or(|given| !given.contains_key("cpu")) {
        amounts.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if given.is_none_or(|given| !given.contains_key("memory")) {
        amounts.memory = DEFAULT_MEMORY;
    }
    amounts
}

/// What a pod needs at its hungriest moment: its containers together with the init containers that stay (sidecars), or
/// one init container with the sidecars started before it, whichever is more; and its overhead.
fn needed(spec: &PodSpec, of: &dyn Fn(Option<&ResourceRequirements>) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&of(container.resources.as_ref()));
    }
    let mut sidecars = Amounts::default();
    let mut starting = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container.resources.as_ref());
        if is_sidecar(container) {
            running.add(&own);
            sidecars.add(&own);
            starting.raise_to(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&own);
            starting.raise_to(&moment);
        }
    }
    running.raise_to(&starting);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        // What is asked for the pod as a whole replaces the sum of its parts.
        running = running.overridden(whole);
    }
    running.add(&Amounts::of(spec.overhead.iter().flatten()));
    running
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|address| !address.is_empty());
            let protocol = port.protocol.clone().filter(|protocol| !protocol.is_empty());
            Some((
                address.unwrap_or_else(|| "0.0.0.0".into()),
                protocol.unwrap_or_else(|| "TCP".into()),
                number,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn facts(spec: serde_json::Value) -> PodFacts {
        PodFacts::of(&from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap())
    }

    #[test]
    fn the_hungriest_moment_counts() {
        let container = |cpu: &str| json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
        let sidecar = |cpu: &str| json!({ "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": cpu } } });
        let cpu = |spec| facts(spec).requests.milli_cpu;
        assert_eq!(cpu(json!({ "containers": [container("100m"), container("0.2")] })), 300);
        assert_eq!(
            cpu(json!({ "containers": [container("100m")], "initContainers": [container("1")] })),
            1000
        );
        let both = json!({
            "containers": [container("100m")],
            "initContainers": [container("150m"), sidecar("200m"), container("50m")],
        });
        assert_eq!(cpu(both), 300, "containers and sidecar together are more than any moment of starting");
        let late = json!({
            "containers": [container("100m")], "initContainers": [sidecar("200m"), container("500m")],
            "overhead": { "cpu": "10m" },
        });
        assert_eq!(cpu(late), 710);
    }

    #[test]
    fn the_silent_are_guessed_at_for_scores_only() {
        let facts = facts(json!({ "containers": [{ "name": "c" }] }));
        assert_eq!((facts.requests.milli_cpu, facts.likely), (0, (100, 200 << 20)));
    }
}
