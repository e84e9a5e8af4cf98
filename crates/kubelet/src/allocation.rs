//! What of the node each pod has been given: the resources that it began with, and those of each resize that there was
//! room for. A pod's spec says what is wanted; this says what holds until then.
//!
//! Written down in the pod's directory before it is acted on, so that a resize asked for while the node was away is not
//! taken for what the pod began with.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::k8s::api::core::v1::{Container, Pod, ResourceRequirements};
use apimachinery::quantity::Quantity;

use crate::cgroups;
use crate::pod::admission::room;
use crate::pod::config::Paths;
use crate::pod::memory::Waiting;
use crate::resources;

/// By container.
type Given = BTreeMap<String, ResourceRequirements>;

/// What came of a resize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The pod has what it wants.
    Same,
    /// It has been given what it wants, and had something else before.
    Given,
    /// There is no room now.
    Deferred(String),
    /// There never will be.
    Infeasible(String),
}

/// What all pods of the node have been given.
pub(crate) struct Allocations {
    paths: Paths,
    /// What pods may have in all, by resource name.
    allocatable: BTreeMap<String, Quantity>,
    /// By pod UID.
    given: Mutex<BTreeMap<String, Given>>,
}

impl Allocations {
    pub(crate) fn new(paths: Paths, allocatable: BTreeMap<String, Quantity>) -> Self {
        Self { paths, allocatable, given: Mutex::default() }
    }

    fn given(&self) -> MutexGuard<'_, BTreeMap<String, Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a pod has been given what it began with.
    pub(crate) fn has_admitted(&self, uid: &str) -> bool {
        self.given().contains_key(uid) || self.paths.allocation(uid).exists()
    }

    /// Gives a pod that is new here what its spec wants, or says why not: because there is no room beside those that were
    /// admitted before, or because it is `misplaced`.
    pub(crate) fn admit(
        &self,
        pod: &Pod,
        all: &[Arc<Pod>],
        misplaced: Option<Waiting>,
    ) -> io::Result<Option<Waiting>> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut given = self.given();
        let admitted = |other: &&Arc<Pod>| {
            let own = other.metadata.uid.as_deref().unwrap_or_default();
            let known = given.contains_key(own) || self.paths.allocation(own).exists();
            own != uid && known && !cgroups::has_ended(other)
        };
        let others: Vec<Pod> = all.iter().filter(admitted).map(|other| replaced(other, &given)).collect();
        let refusal = room::refusal(pod, &others, &self.allocatable).or(misplaced);
        if let Some(refusal) = refusal.or_else(|| room::ports(pod, &others)) {
            return Ok(Some(refusal));
        }
        let wanted = wanted(pod);
        write(&self.paths.allocation(uid), &wanted)?;
        given.insert(uid.to_owned(), wanted);
        Ok(None)
    }

    /// Gives a pod what its spec wants, if there is room beside the others. One that has been admitted in another way
    /// gets it as it is.
    pub(crate) fn settle(&self, pod: &Pod, all: &[Arc<Pod>]) -> io::Result<Verdict> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let wanted = wanted(pod);
        let file = self.paths.allocation(uid);
        let mut given = self.given();
        if !given.contains_key(uid) {
            let known = match read(&file)? {
                Some(known) => known,
                None => {
                    write(&file, &wanted)?;
                    wanted.clone()
                }
            };
            given.insert(uid.to_owned(), known);
        }
        if given.get(uid).is_none_or(|known| same(known, &wanted)) {
            return Ok(Verdict::Same);
        }
        let others = all.iter().filter(|other| other.metadata.uid.as_deref() != Some(uid));
        let others = others.filter(|other| !cgroups::has_ended(other));
        let others: Vec<Pod> = others.map(|other| replaced(other, &given)).collect();
        for name in ["cpu", "memory"] {
            let asked = resources::pod_request(pod, name);
            let room = resources::in_units(name, &self.allocatable.get(name).copied().unwrap_or_default());
            if asked > room {
                return Ok(Verdict::Infeasible(format!(
                    "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {room}"
                )));
            }
            let used = others.iter().map(|other| resources::pod_request(other, name));
            let used = used.fold(0_i64, i64::saturating_add);
            let before = resources::pod_request(&replaced(pod, &given), name);
            if asked > before && used.saturating_add(asked) > room {
                return Ok(Verdict::Deferred(format!(
                    "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {room}"
                )));
            }
        }
        write(&file, &wanted)?;
        given.insert(uid.to_owned(), wanted);
        Ok(Verdict::Given)
    }

    /// The pod with the resources that it has been given.
    pub(crate) fn of(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        let given = self.given();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match given.get(uid) {
            Some(known) if *known != wanted(pod) => Arc::new(replaced(pod, &given)),
            _ => pod.clone(),
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.given().remove(uid);
    }
}

/// The containers whose resources can be changed while they are there: all but init containers that end.
fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        let inits = spec.init_containers.iter().flatten();
        let sidecars = inits.filter(|init| init.restart_policy.as_deref() == Some("Always"));
        spec.containers.iter().chain(sidecars)
    })
}

fn wanted(pod: &Pod) -> Given {
    let named =
        |container: &Container| (container.name.clone(), container.resources.clone().unwrap_or_default());
    resizable(pod).map(named).collect()
}

/// Amounts that are equal are equal however they are written.
fn same(one: &Given, other: &Given) -> bool {
    let amounts = |given: &Given| -> Vec<(String, String, Option<Quantity>)> {
        let each = given.iter().flat_map(|(container, resources)| {
            let lists = [("l", &resources.limits), ("r", &resources.requests)];
            lists.into_iter().flat_map(move |(kind, list)| {
                list.iter().flatten().map(move |(name, amount)| {
                    (container.clone(), format!("{kind} {name}"), amount.0.parse().ok())
                })
            })
        });
        each.collect()
    };
    amounts(one) == amounts(other)
}

fn replaced(pod: &Pod, given: &BTreeMap<String, Given>) -> Pod {
    let mut pod = pod.clone();
    let Some(known) = given.get(pod.metadata.uid.as_deref().unwrap_or_default()) else { return pod };
    if let Some(spec) = &mut pod.spec {
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(resources) = known.get(&container.name) {
                container.resources = Some(resources.clone());
            }
        }
    }
    pod
}

fn read(file: &Path) -> io::Result<Option<Given>> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(file: &Path, given: &Given) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(given)?)?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, cpu: &str) -> Arc<Pod> {
        let resources = json!({"requests": {"cpu": cpu}});
        let pod = json!({"metadata": {"uid": uid}, "spec": {"containers": [{"name": "a", "resources": resources}]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn cpu(pod: &Pod) -> String {
        resources::request(&pod.spec.as_ref().unwrap().containers[0], "cpu").unwrap().to_string()
    }

    #[test]
    fn a_resize_is_given_when_there_is_room_and_survives() {
        let directory = tempfile::tempdir().unwrap();
        let paths = || Paths { pods: directory.path().join("pods"), logs: directory.path().join("logs") };
        let allocatable =
            || [("cpu".to_owned(), "4".parse().unwrap()), ("memory".to_owned(), "1Gi".parse().unwrap())];
        let node = Allocations::new(paths(), allocatable().into());
        let all = [pod("one", "1"), pod("two", "2")];
        for pod in &all {
            assert_eq!(node.settle(pod, &all).unwrap(), Verdict::Same);
        }
        // The same amount in other words is the same.
        assert_eq!(node.settle(&pod("one", "1000m"), &all).unwrap(), Verdict::Same);
        assert_eq!(node.settle(&pod("one", "2"), &all).unwrap(), Verdict::Given);
        assert_eq!(cpu(&node.of(&pod("one", "2"))), "2");
        let all = [pod("one", "2"), pod("two", "3")];
        let words = "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000";
        assert_eq!(node.settle(&all[1], &all).unwrap(), Verdict::Deferred(words.into()));
        assert_eq!(cpu(&node.of(&all[1])), "2", "it keeps what it has");
        let words = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000";
        assert_eq!(node.settle(&pod("two", "5"), &all).unwrap(), Verdict::Infeasible(words.into()));
        // What was asked for while nobody looked is a resize too.
        let node = Allocations::new(paths(), allocatable().into());
        assert!(matches!(node.settle(&pod("one", "9"), &all).unwrap(), Verdict::Infeasible(_)));
        assert_eq!(cpu(&node.of(&pod("one", "9"))), "2");
    }
}
