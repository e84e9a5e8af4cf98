//! The Node object, as a function of what the node is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use api::k8s::api::core::v1::{
    DaemonEndpoint, Node, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo,
};
use api::k8s::apimachinery::pkg::api::resource::Quantity as Written;
use api::k8s::apimachinery::pkg::apis::meta::v1::Time;
use client::ObjectMeta;
use jiff::Timestamp;

use super::heartbeat::Standing;
use super::introduce;
use super::machine::Machine;
use super::reserved::Amounts;

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) machine: Machine,
    /// All that there is, by resource name.
    pub(crate) capacity: Amounts,
    /// What pods may have of it.
    pub(crate) allocatable: Amounts,
    pub(crate) pod_cidrs: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, Option<String>>,
    pub(crate) version: String,
    /// Runtime handlers, the default one first.
    pub(crate) handlers: Vec<String>,
    /// Where it keeps volumes that outlive pods.
    pub(crate) volumes: PathBuf,
}

/// Conditions of running short, each with reason and message for when it holds and when it does not: upstream's words.
const PRESSURES: [[&str; 5]; 3] = [
    [
        "MemoryPressure",
        "KubeletHasInsufficientMemory",
        "kubelet has insufficient memory available",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ],
    [
        "DiskPressure",
        "KubeletHasDiskPressure",
        "kubelet has disk pressure",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
    ],
    [
        "PIDPressure",
        "KubeletHasInsufficientPID",
        "kubelet has insufficient PID available",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ],
];

impl Description {
    /// What is known of the node before the API has it.
    pub(crate) fn unregistered(&self) -> Node {
        let metadata = ObjectMeta {
            name: Some(self.name.clone()),
            labels: Some(self.labels()),
            ..ObjectMeta::default()
        };
        Node { metadata, ..Node::default() }
    }

    /// The labels that every node has, and the node's own.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let arch = &self.machine.architecture;
        let ours = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch),
        ];
        let ours = ours.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.labels.clone().into_iter().chain(ours).collect()
    }

    /// What the node says of itself for others than people; of what is nothing, that it says nothing any more.
    pub(crate) fn annotations(&self) -> BTreeMap<String, Option<String>> {
        let path = self.volumes.to_str().filter(|path| path.starts_with('/')).map(str::to_owned);
        let volumes = (api::local_volumes::DIRECTORY.to_owned(), path);
        self.annotations.clone().into_iter().chain([volumes]).collect()
    }

    /// The Node to create.
    pub(crate) fn node(&self, standing: &Standing, now: Timestamp) -> Node {
        let annotations = self.annotations().into_iter().filter_map(|(key, value)| Some((key, value?)));
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels()),
                annotations: Some(annotations.collect()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: self.pod_cidrs.first().cloned(),
                pod_cidrs: Some(self.pod_cidrs.clone()).filter(|all| !all.is_empty()),
                ..NodeSpec::default()
            }),
            status: Some(self.status(None, standing, now)),
        }
    }

    /// The status that follows `before`: a condition's times move only when it changes.
    pub(crate) fn status(
        &self,
        before: Option<&NodeStatus>,
        standing: &Standing,
        now: Timestamp,
    ) -> NodeStatus {
        let written = |amounts: &Amounts| -> BTreeMap<String, Written> {
            amounts.iter().map(|(name, amount)| (name.clone(), Written(amount.to_string()))).collect()
        };
        let machine = &self.machine;
        let runtime = self.handlers.first().map_or("unknown", String::as_str);
        NodeStatus {
            addresses: Some(introduce::addresses(&self.name, &self.addresses)),
            allocatable: Some(written(&self.allocatable)),
            capacity: Some(written(&self.capacity)),
            conditions: Some(self.conditions(before, standing, now)),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(self.port) }),
            }),
            node_info: Some(NodeSystemInfo {
                architecture: machine.architecture.clone(),
                boot_id: machine.boot_id.clone(),
                container_runtime_version: format!("{runtime}://{}", self.version.trim_start_matches('v')),
                kernel_version: machine.kernel.clone(),
                kube_proxy_version: String::new(),
                kubelet_version: self.version.clone(),
                machine_id: machine.machine_id.clone(),
                operating_system: "linux".to_owned(),
                os_image: machine.os_image.clone(),
                system_uuid: machine.system_uuid.clone(),
                ..NodeSystemInfo::default()
            }),
            features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
            runtime_handlers: Some(
                self.handlers
                    .iter()
                    .map(|name| NodeRuntimeHandler {
                        name: Some(name.clone()),
                        features: Some(NodeRuntimeHandlerFeatures {
                            recursive_read_only_mounts: Some(true),
                            ..NodeRuntimeHandlerFeatures::default()
                        }),
                    })
                    .collect(),
            ),
            ..before.cloned().unwrap_or_default()
        }
    }

    /// Whether a status has the conditions that hold, whenever that was said.
    pub(crate) fn is_said(&self, status: &NodeStatus, standing: &Standing) -> bool {
        let said = status.conditions.as_deref().unwrap_or_default();
        self.conditions(None, standing, Timestamp::UNIX_EPOCH).iter().all(|condition| {
            let same = |said: &NodeCondition| {
                let both = [said, condition].map(|one| (&one.status, &one.reason, &one.message));
                said.type_ == condition.type_ && both[0] == both[1]
            };
            said.iter().any(same)
        })
    }

    fn conditions(
        &self,
        before: Option<&NodeStatus>,
        standing: &Standing,
        now: Timestamp,
    ) -> Vec<NodeCondition> {
        let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let ready = match &standing.trouble {
            None => ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            Some(trouble) => ("Ready", "False", "KubeletNotReady", trouble.as_str()),
        };
        let fact = |[name, short, words_short, fine, words_fine]: [&'static str; 5]| match standing
            .pressure
            .contains(name)
        {
            true => (name, "True", short, words_short),
            false => (name, "False", fine, words_fine),
        };
        let [memory, disk, processes] = PRESSURES.map(fact);
        let facts = [memory, disk, processes, ready];
        let known = before.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ours = facts.map(|(name, status, reason, message)| {
            let old = known.iter().find(|old| old.type_ == name && old.status == status);
            NodeCondition {
                type_: name.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: old
                    .and_then(|old| old.last_transition_time.clone())
                    .or(Some(now.clone())),
            }
        });
        let others = known.iter().filter(|old| !facts.iter().any(|(name, ..)| *name == old.type_));
        others.cloned().chain(ours).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::reserved;
    use super::*;

    fn description() -> Description {
        Description {
            name: "here".into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            port: 10250,
            machine: Machine {
                milli_cpus: 2000,
                memory: 1 << 30,
                architecture: "amd64".into(),
                ..Machine::default()
            },
            capacity: reserved::capacity(&Machine { milli_cpus: 2000, ..Machine::default() }, 110),
            allocatable: reserved::capacity(&Machine { milli_cpus: 1500, ..Machine::default() }, 110),
            pod_cidrs: vec!["10.1.0.0/24".into(), "fd00:1::/64".into()],
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            volumes: "/data/volumes".into(),
            annotations: BTreeMap::new(),
            version: "v1.36.0".into(),
            handlers: vec!["runc".into()],
        }
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_change() {
        let (first, later): (Timestamp, Timestamp) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T01:00:00Z".parse().unwrap());
        let starting = Standing { trouble: Some("starting".into()), ..Standing::default() };
        let before = description().status(None, &starting, first);
        let short = Standing { pressure: ["MemoryPressure"].into(), ..Standing::default() };
        let after = description().status(Some(&before), &short, later);
        let of =
            |name: &str| after.conditions.as_ref().unwrap().iter().find(|c| c.type_ == name).unwrap().clone();
        assert_eq!(of("Ready").status, "True");
        assert_eq!(of("MemoryPressure").reason.as_deref(), Some("KubeletHasInsufficientMemory"));
        assert_eq!(of("MemoryPressure").last_transition_time, Some(Time(later)));
        assert_eq!(of("Ready").last_transition_time, Some(Time(later)));
        assert_eq!(of("DiskPressure").last_transition_time, Some(Time(first)));
        assert_eq!(of("DiskPressure").last_heartbeat_time, Some(Time(later)));
    }

    #[test]
    fn what_others_have_said_meanwhile_is_noticed() {
        let standing = Standing::default();
        let mut status = description().status(None, &standing, Timestamp::UNIX_EPOCH);
        assert!(description().is_said(&status, &standing));
        let short = Standing { pressure: ["MemoryPressure"].into(), ..Standing::default() };
        assert!(!description().is_said(&status, &short));
        let ready = status.conditions.as_mut().unwrap().iter_mut().find(|c| c.type_ == "Ready").unwrap();
        "Unknown".clone_into(&mut ready.status);
        assert!(!description().is_said(&status, &standing));
        assert!(!description().is_said(&NodeStatus::default(), &standing));
    }

    #[test]
    fn amounts_and_labels() {
        let node = description().node(&Standing::default(), Timestamp::UNIX_EPOCH);
        let spec = node.spec.unwrap();
        assert_eq!(spec.pod_cidr.as_deref(), Some("10.1.0.0/24"));
        assert_eq!(spec.pod_cidrs.unwrap(), ["10.1.0.0/24", "fd00:1::/64"]);
        let status = node.status.unwrap();
        let (capacity, allocatable) = (status.capacity.unwrap(), status.allocatable.unwrap());
        assert_eq!((capacity["cpu"].0.as_str(), capacity["pods"].0.as_str()), ("2", "110"));
        assert_eq!(allocatable["cpu"].0, "1500m");
        let labels = node.metadata.labels.unwrap();
        assert_eq!((labels["kubernetes.io/hostname"].as_str(), labels["zone"].as_str()), ("here", "a"));
    }
}
