//! Volumes on the disks of nodes, for claims of a class of ours: a PersistentVolume for the node that the scheduler chose, in
//! the directory that this node says. The node makes it when a pod first needs it, and holds the volume from then on; when
//! the volume is to be deleted, it removes the data and lets go.

use super::{
    PROVISIONED_BY, PROVISIONER, SELECTED_NODE, class_of_claim, is_complete, matching, phase_of, volume_name,
};
use crate::ownership::is_terminating;
use crate::plan::{Announce, Create, Plan, create, delete, patch, tell};
use crate::{Controller, World};
use api::local_volumes::{DATA, DIRECTORY, PROVISIONER as OURS};
use client::EventType::Warning;
use client::kube::{Resource, ResourceExt};
use client::{Index, ObjectKey, Reader, WorkQueue};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// The controller; see the module.
pub struct LocalVolumes {
    claims: Reader<PersistentVolumeClaim>,
    volumes: Reader<PersistentVolume>,
    classes: Reader<StorageClass>,
    nodes: Reader<Node>,
}

/// What it looks at.
pub enum View {
    /// A claim, its class and its node.
    Claim(Option<Arc<PersistentVolumeClaim>>, Option<Arc<StorageClass>>, Option<Arc<Node>>),
    /// A volume, and whether its node is there.
    Volume(Option<Arc<PersistentVolume>>, bool),
}

impl Controller for LocalVolumes {
    const NAME: &'static str = OURS;
    type Key = super::Key;
    type View = View;
    type Memory = super::Memory;

    fn wire(world: &World, queue: &Arc<WorkQueue<super::Key>>) -> Self {
        let (claims, volumes) = (world.reader::<PersistentVolumeClaim>(), world.reader::<PersistentVolume>());
        let (classes, nodes) = (world.reader::<StorageClass>(), world.reader::<Node>());
        volumes.informer().index_by(Index::new("node", |volume: &PersistentVolume| {
            api::local_volumes::node(volume).map(str::to_owned).into_iter().collect()
        }));
        let add = queue.clone();
        claims.informer().on_change(move |change| {
            if let Some(claim) = change.after().filter(|claim| is_ours(claim)) {
                add.add(super::Key::Claim(ObjectKey::of(&**claim)));
            }
        });
        let add = queue.clone();
        volumes.informer().on_change(move |change| {
            if let Some(volume) = change.after().filter(|volume| api::local_volumes::node(volume).is_some()) {
                add.add(super::Key::Volume(volume.name_any()));
            }
        });
        let (add, claimed, made) = (queue.clone(), claims.clone(), volumes.clone());
        nodes.informer().on_change(move |change| {
            let name = change.object().name_any();
            let is_selected =
                |claim: &&Arc<PersistentVolumeClaim>| claim.annotations().get(SELECTED_NODE) == Some(&name);
            let says_other =
                change.before().map(|node| directory(node)) != change.after().map(|node| directory(node));
            if says_other {
                let all = claimed.informer().store().list();
                let waiting = all.iter().filter(is_selected).filter(|claim| is_ours(claim));
                waiting.for_each(|claim| add.add(super::Key::Claim(ObjectKey::of(&**claim))));
                let of_it = made.informer().store().by_index("node", &name);
                of_it.iter().for_each(|volume| add.add(super::Key::Volume(volume.name_any())));
            }
        });
        Self { claims, volumes, classes, nodes }
    }

    fn view(&self, key: &super::Key) -> View {
        let node = |name: &str| self.nodes.get(&ObjectKey::cluster(name));
        match key {
            super::Key::Claim(key) => {
                let claim = self.claims.get(key).filter(|claim| is_ours(claim));
                let class = claim.as_ref().map(|claim| ObjectKey::cluster(class_of_claim(claim)));
                let selected = claim.as_ref().and_then(|claim| claim.annotations().get(SELECTED_NODE));
                let node = selected.and_then(|name| node(name));
                View::Claim(claim, class.and_then(|class| self.classes.get(&class)), node)
            }
            super::Key::Volume(name) => {
                let volume = self.volumes.get(&ObjectKey::cluster(name));
                let of = volume.as_ref().and_then(|volume| api::local_volumes::node(volume));
                let is_there = of.is_some_and(|name| node(name).is_some());
                View::Volume(volume, is_there)
            }
        }
    }

    fn plan(_: &super::Key, view: &View, memory: &Self::Memory, _: Timestamp) -> Plan<Self::Memory> {
        let mut plan = Plan::default();
        match view {
            View::Claim(Some(claim), Some(class), node) => {
                provision(claim, class, node.as_deref(), memory, &mut plan);
            }
            View::Volume(Some(volume), has_node) => give_up(volume, *has_node, &mut plan),
            _ => {}
        }
        plan
    }
}

/// Whether the binder has asked us for a volume, and nothing has come of it yet.
fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().get(PROVISIONER).is_some_and(|name| name == OURS)
        && volume_name(claim).is_empty()
        && !is_complete(claim)
}

/// Where a node keeps volumes, if it does.
fn directory(node: &Node) -> Option<&str> {
    node.annotations().get(DIRECTORY).map(String::as_str).filter(|path| path.starts_with('/'))
}

fn provision(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: Option<&Node>,
    memory: &super::Memory,
    plan: &mut Plan<super::Memory>,
) {
    if class.provisioner != OURS || is_terminating(claim) {
        return;
    }
    let spec = claim.spec.clone().unwrap_or_default();
    let selected = claim.annotations().get(SELECTED_NODE).map(String::as_str).unwrap_or_default();
    let why = match () {
        () if !matching::waits(Some(class)) => {
            "a volume is made where its first pod runs: volumeBindingMode of the class must be WaitForFirstConsumer"
                .to_owned()
        }
        () if selected.is_empty() => return,
        () if spec.volume_mode.as_deref() == Some("Block") => "volumes of this class are file systems".to_owned(),
        () if spec.data_source.is_some() || spec.data_source_ref.is_some() => {
            "volumes of this class begin empty: spec.dataSource is not supported".to_owned()
        }
        () => match node.and_then(|node| Some((node, directory(node)?))) {
            Some((node, directory)) => return plan.then(volume(claim, class, node, directory)),
            None => {
                // The scheduler may find another.
                let annotations = json!({ SELECTED_NODE: null });
                plan.then(patch(claim, json!({ "metadata": { "annotations": annotations } })));
                format!("node {selected:?} keeps no local volumes")
            }
        },
    };
    let why = format!("failed to provision volume with StorageClass {:?}: {why}", class.name_any());
    let told = Some(("ProvisioningFailed", why.clone()));
    if *memory != told {
        plan.then(tell(claim, Warning, "ProvisioningFailed", why));
    }
    plan.memory = Some(told);
}

fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node, directory: &str) -> Create {
    let name = format!("pvc-{}", claim.uid().unwrap_or_default());
    let spec = claim.spec.clone().unwrap_or_default();
    let host = node.labels().get(HOSTNAME).cloned().unwrap_or_else(|| node.name_any());
    let is_node = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![host]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![is_node]), match_fields: None };
    let annotations = [(PROVISIONED_BY, OURS.to_owned()), (api::local_volumes::NODE, node.name_any())];
    let annotations = annotations.map(|(name, value)| (name.to_owned(), value));
    let object = PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(ObjectReference {
                resource_version: claim.resource_version(),
                ..claim.object_ref(&())
            }),
            local: Some(LocalVolumeSource { fs_type: None, path: format!("{directory}/{name}") }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            persistent_volume_reclaim_policy: class
                .reclaim_policy
                .clone()
                .or_else(|| Some("Delete".to_owned())),
            storage_class_name: Some(class.name_any()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    };
    let mut create = create(&object);
    // Its name is the claim's own: what is there was made for it.
    create.unless_exists = true;
    create.announce = Some(Announce {
        regarding: Box::new(claim.object_ref(&())),
        done: ("ProvisioningSucceeded", "Successfully provisioned volume ".into()),
        failed: ("ProvisioningFailed", "Error creating provisioned PV object: ".into()),
    });
    create
}

/// Deletes what nobody claims any more, and lets go where no node will: of data that are to be kept, and of those of a node
/// that is gone.
fn give_up(volume: &PersistentVolume, has_node: bool, plan: &mut Plan<super::Memory>) {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let goes_with_data = policy == Some("Delete");
    if !is_terminating(volume) {
        if goes_with_data && phase_of(volume) == "Released" {
            plan.then(delete(volume));
        }
        return;
    }
    let is_held = volume.finalizers().iter().any(|held| held == DATA);
    if is_held && (!goes_with_data || !has_node) {
        let left: Vec<_> = volume.finalizers().iter().filter(|held| *held != DATA).collect();
        plan.then(patch(volume, json!({ "metadata": { "finalizers": left } })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use serde_json::{Value, from_value};

    fn claim(more: Value) -> Arc<PersistentVolumeClaim> {
        let mut claim = json!({
            "metadata": { "name": "c", "namespace": "x", "uid": "u", "annotations": { PROVISIONER: OURS, SELECTED_NODE: "n" } },
            "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": { "requests": { "storage": "1Gi" } } },
        });
        testkit::merge(&mut claim, &more);
        Arc::new(from_value(claim).unwrap())
    }

    fn planned(claim: Arc<PersistentVolumeClaim>, mode: &str, node: Value) -> Vec<Action> {
        let class =
            json!({ "metadata": { "name": "local" }, "provisioner": OURS, "volumeBindingMode": mode });
        let node = (!node.is_null()).then(|| Arc::new(from_value(node).unwrap()));
        let view = View::Claim(Some(claim), Some(Arc::new(from_value(class).unwrap())), node);
        LocalVolumes::plan(&super::super::Key::Volume(String::new()), &view, &None, Timestamp::UNIX_EPOCH)
            .actions
    }

    fn node() -> Value {
        json!({ "metadata": { "name": "n", "labels": { HOSTNAME: "host" }, "annotations": { DIRECTORY: "/data" } } })
    }

    #[test]
    fn a_volume_is_made_for_the_node_that_was_chosen() {
        let actions = planned(claim(json!({})), "WaitForFirstConsumer", node());
        let [Action::Create(create)] = actions.as_slice() else { panic!("{actions:?}") };
        let spec = &create.object["spec"];
        assert_eq!(create.object["metadata"]["name"], "pvc-u");
        assert_eq!(
            (spec["local"]["path"].as_str(), spec["capacity"]["storage"].as_str()),
            (Some("/data/pvc-u"), Some("1Gi"))
        );
        assert_eq!(
            spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"],
            json!(["host"])
        );
        assert_eq!(
            (spec["claimRef"]["uid"].as_str(), spec["persistentVolumeReclaimPolicy"].as_str()),
            (Some("u"), Some("Delete"))
        );
    }

    #[test]
    fn what_cannot_be_made_is_told() {
        let told = |actions: Vec<Action>| match actions.last() {
            Some(Action::Tell { message, .. }) => message.clone(),
            other => format!("{other:?}"),
        };
        assert!(
            told(planned(claim(json!({})), "Immediate", node())).contains("must be WaitForFirstConsumer")
        );
        let block = claim(json!({ "spec": { "volumeMode": "Block" } }));
        assert!(told(planned(block, "WaitForFirstConsumer", node())).contains("are file systems"));
        let elsewhere = planned(claim(json!({})), "WaitForFirstConsumer", Value::Null);
        assert!(
            matches!(&elsewhere[0], Action::Patch(patch) if patch.body["metadata"]["annotations"][SELECTED_NODE].is_null())
        );
        assert!(told(elsewhere).contains("node \"n\" keeps no local volumes"));
        let unplaced = claim(json!({ "metadata": { "annotations": { SELECTED_NODE: null } } }));
        assert_eq!(planned(unplaced, "WaitForFirstConsumer", node()), []);
    }

    #[test]
    fn data_go_with_their_volume_if_they_are_to() {
        let act = |policy: &str, going: bool, has_node: bool| {
            let volume: PersistentVolume = from_value(json!({
                "metadata": { "name": "v", "finalizers": [DATA], "deletionTimestamp": going.then_some("2026-01-02T03:04:05Z") },
                "spec": { "persistentVolumeReclaimPolicy": policy }, "status": { "phase": "Released" },
            }))
            .unwrap();
            let view = View::Volume(Some(Arc::new(volume)), has_node);
            let plan = LocalVolumes::plan(
                &super::super::Key::Volume("v".into()),
                &view,
                &None,
                Timestamp::UNIX_EPOCH,
            );
            match plan.actions.as_slice() {
                [] => "nothing",
                [Action::Delete(_)] => "deletes",
                [Action::Patch(_)] => "lets go",
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((act("Delete", false, true), act("Retain", false, true)), ("deletes", "nothing"));
        assert_eq!((act("Delete", true, true), act("Retain", true, true)), ("nothing", "lets go"));
        assert_eq!(act("Delete", true, false), "lets go");
    }
}
