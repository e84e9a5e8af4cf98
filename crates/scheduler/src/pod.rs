//! What the scheduler must know of a pod, worked out once when the pod is first seen.

use apimachinery::quantity::Quantity;
use client::Sharing;
use client::kube::ResourceExt;
use k8s_openapi::api::core::v1::{Affinity, Container, Pod, PodSpec, ResourceRequirements, Toleration};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// What a container that asks for nothing is taken to need when nodes are compared (not when they are filtered).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of what nodes have: CPU in thousandths of a core, everything else in its own unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Amounts {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) ephemeral_storage: i64,
    pub(crate) extended: BTreeMap<String, i64>,
}

impl Amounts {
    pub(crate) fn of<'a>(
        list: impl IntoIterator<Item = (&'a String, &'a k8s_openapi::apimachinery::pkg::api::resource::Quantity)>,
    ) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in list {
            let Ok(quantity) = quantity.0.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => {}
                _ => {
                    amounts.extended.insert(name.clone(), quantity.value());
                }
            }
        }
        amounts
    }

    fn zip(&mut self, other: &Self, merge: fn(i64, i64) -> i64) {
        self.milli_cpu = merge(self.milli_cpu, other.milli_cpu);
        self.memory = merge(self.memory, other.memory);
        self.ephemeral_storage = merge(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let entry = self.extended.entry(name.clone()).or_insert(0);
            *entry = merge(*entry, *amount);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.zip(other, i64::saturating_add);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.zip(other, i64::saturating_sub);
    }

    fn raise_to(&mut self, other: &Self) {
        self.zip(other, i64::max);
    }
}

/// A port of the node that a pod takes: address (or all), protocol, number.
pub(crate) type HostPort = (String, String, i32);

/// A pod as the scheduler sees it; what it needs can be asked for directly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    pub(crate) uid: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Box<str>,
    pub(crate) node_name: Option<Arc<str>>,
    /// What pods have in common that should not all be in one place.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) needs: Arc<Needs>,
}

/// What a pod needs of a node, as others of its template do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Needs {
    pub(crate) priority: i32,
    pub(crate) requests: Amounts,
    /// As `requests`, with a guess for containers that ask for nothing: milli-CPU and memory.
    pub(crate) likely: (i64, i64),
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) affinity: Option<Affinity>,
    pub(crate) tolerations: Vec<Toleration>,
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
        Self {
            uid: pod.uid().unwrap_or_default().into(),
            namespace: pod.namespace().unwrap_or_default().into(),
            name: pod.name_any().into(),
            node_name: spec.node_name.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            group: group(pod).map(Arc::from),
            needs: Arc::new(Needs {
                priority: spec.priority.unwrap_or(0),
                requests: needed(spec, &requests),
                likely: {
                    let likely = needed(spec, &likely_requests);
                    (likely.milli_cpu, likely.memory)
                },
                host_ports: host_ports(spec),
                node_selector: spec.node_selector.clone().unwrap_or_default(),
                affinity: spec.affinity.clone().filter(|affinity| affinity.node_affinity.is_some()),
                tolerations: spec.tolerations.clone().unwrap_or_default(),
            }),
        }
    }
}

/// What the facts of many pods have in common, once.
#[derive(Default)]
pub(crate) struct Common {
    needs: Sharing<Needs>,
    names: Sharing<str>,
}

impl Common {
    pub(crate) fn share(&mut self, facts: PodFacts) -> PodFacts {
        let mut name = |name| self.names.share(name);
        PodFacts {
            namespace: name(facts.namespace),
            node_name: facts.node_name.map(&mut name),
            group: facts.group.map(&mut name),
            needs: self.needs.share(facts.needs),
            ..facts
        }
    }
}

/// The ReplicaSet (or other controller) that it belongs to; without one, the pods of its namespace that look the same,
/// which one Service would select.
fn group(pod: &Pod) -> Option<String> {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    if let Some(owner) = owner {
        return Some(owner.uid.clone());
    }
    let labels = pod.labels();
    (!labels.is_empty()).then(|| format!("{}/{labels:?}", pod.namespace().unwrap_or_default()))
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
    if let Some(resources) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        // What is asked for the pod as a whole replaces the sum of its parts.
        let whole = Amounts::of(resources);
        running.milli_cpu = if resources.contains_key("cpu") { whole.milli_cpu } else { running.milli_cpu };
        running.memory = if resources.contains_key("memory") { whole.memory } else { running.memory };
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
